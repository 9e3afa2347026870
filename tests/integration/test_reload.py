"""Changes under running calls: relay workers, routing keys, and files that cannot be used."""

import contextlib
import re
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import trio

from edge.keys import load_keys
from edge.routing.ufrag import RoutingKey, UfragOpener
from tests.support.appliance import Appliance, running_appliance, write_config
from tests.support.caller import LiveCall, calling

KEYS = """
[keys]
password = "{password}"
routing = [{routing}]
"""
PASSWORD = "5a" * 32


def routing(*ids: int) -> str:
    keys = (f'{{ id = {each}, key = "{f"{each + 1:02x}" * 16}" }}' for each in ids)
    return KEYS.format(password=PASSWORD, routing=", ".join(keys))


async def reload(appliance: Appliance, outcome: str = "reload: (done|nothing to change)") -> str:
    """Ask for a reload and wait for what the log says of it."""
    seen = len(appliance.lines)
    appliance.process.send_signal(signal.SIGHUP)
    with trio.fail_after(20):
        while True:
            for line in appliance.lines[seen:]:
                if re.search(outcome, line):
                    return line
            await trio.sleep(0.02)


async def running(appliance: Appliance, kind: str = "relay") -> list[int]:
    """Return the indices of the workers that are not about to end."""
    return [one.index for one in await appliance.workers(kind) if one.state == "running"]


def _distance(first: int, number: int) -> int:
    """Return how far a sequence number is from the first one, which others may have overtaken."""
    return (number - first + 0x8000) & 0xFFFF


async def assert_nothing_lost(
    calls: list[LiveCall], frames: int = 25, *, in_order: bool = True
) -> None:
    """Everything sent so far, and for a while from now, comes back."""
    for call in calls:
        call.peer.frames = call.peer.record.sent + frames
    for call in calls:
        assert call.peer.frames is not None
        await call.wait_echo(call.peer.frames, timeout=15.0)
        numbers = list(call.peer.record.sequence_numbers)
        if not in_order:
            numbers = sorted(numbers, key=partial(_distance, numbers[0]))
        assert numbers == [(numbers[0] + step) & 0xFFFF for step in range(len(numbers))]


async def test_relay_workers_come_and_go_without_a_lost_packet(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, contextlib.AsyncExitStack() as stack:
        origin = await appliance.origin()
        calls = [await stack.enter_async_context(calling(origin)) for _ in range(8)]
        for call in calls:
            await call.wait_echo(10)
        for relays in (4, 1, 3):
            write_config(tmp_path, relays=relays)
            await reload(appliance, "reload: done")
            assert len(await running(appliance)) == relays
            for call in calls:
                await call.wait_echo(call.peer.record.echoed + 25)
        extra = await stack.enter_async_context(calling(origin))
        await extra.wait_echo()
        # When the kernel shares the clients out anew, a packet may overtake one that still waits
        # in the queue of another worker.
        await assert_nothing_lost(calls, in_order=False)
        gaps = max(call.peer.record.longest_gap for call in calls)
        print(f"longest gap while relay workers changed 2, 4, 1, 3: {gaps * 1000:.0f} ms")


async def test_keys_rotate_under_running_calls(tmp_path: Path) -> None:
    opener = UfragOpener(RoutingKey(each, bytes([each + 1]) * 16) for each in (1, 2))

    def key_of(call: LiveCall) -> int:
        return opener.open(call.ufrag).key_id

    async with (
        running_appliance(tmp_path, more=routing(1)) as appliance,
        contextlib.AsyncExitStack() as stack,
    ):
        origin = await appliance.origin()
        calls = [await stack.enter_async_context(calling(origin))]
        await calls[0].wait_echo()
        assert key_of(calls[0]) == 1
        for ids, used in (((1, 2), 1), ((2, 1), 2), ((2,), 2)):
            write_config(tmp_path, more=routing(*ids))
            await reload(appliance, "reload: done")
            calls.append(await stack.enter_async_context(calling(origin)))
            await calls[-1].wait_echo()
            assert key_of(calls[-1]) == used
        await assert_nothing_lost(calls)
        counts: Counter[int] = Counter()
        for one in await appliance.transceivers():
            counts.update(one.sessions_by_key)
        assert counts == {1: 2, 2: 2}


async def test_a_bad_file_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo()
        write_config(tmp_path, relays=0)
        line = await reload(appliance, "reload: nothing was changed")
        assert "relay.workers" in line
        assert len(await appliance.workers("relay")) == 2
        (tmp_path / "edge.toml").unlink()
        await reload(appliance, "reload: nothing was changed")
        await assert_nothing_lost([call])


async def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        write_config(
            tmp_path,
            host="127.0.0.2",
            relay='receive_buffer_bytes = 100000\npublic_addresses = ["192.0.2.1"]',
            supervisor="cluster = 2",
        )
        line = await reload(appliance, "wait for a restart")
        waiting = ("listen", "public_addresses", "receive_buffer_bytes")
        keys = ", ".join(f"relay.{key}" for key in waiting)
        assert line.endswith(f"wait for a restart: {keys}, supervisor.cluster")
        await appliance.wait_line("reload: nothing to change")
        assert (await appliance.udp())[0] == "127.0.0.1"


async def test_generated_keys_survive_a_reload(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        before = load_keys(tmp_path / "keys.toml")
        await reload(appliance, "reload: nothing to change")
        assert load_keys(tmp_path / "keys.toml") == before
