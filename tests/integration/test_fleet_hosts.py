"""Real appliances of one cluster: calls that one host takes and another one owns."""

import contextlib
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define

from edge.config import Config
from edge.control.statistics import TransceiverStatistics
from edge.control.status import Status
from edge.operate.status_text import render_status
from tests.integration.test_reload import assert_nothing_lost, reload
from tests.integration.test_resume import receive, send
from tests.integration.test_upgrade import upgrade
from tests.support.appliance import Appliance, running_appliance, wait_status, write_config
from tests.support.caller import LiveCall, calling, new_credentials, offer, signaling
from tests.support.program import Versions, running_version

FLEET = """
[sites.fra]
latitude = 50.11
longitude = 8.68
[clusters.one]
id = 9
site = "fra"
[hosts.a]
site = "fra"
cluster = "one"
number = 0
internal = "{net}.1"
[hosts.b]
site = "fra"
cluster = "one"
number = 5
internal = "{net}.2"
[fleet]
host = "{host}"
[keys]
routing = [{{ id = 0, key = "000102030405060708090a0b0c0d0e0f" }}]
password = "{password}"
fleet = [{keys}]
"""
OLD, NEW = (f'{{ id = {number}, key = "{number:02x}{"5a" * 31}" }}' for number in (1, 2))
NET = f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"


@define(eq=False)
class Pair:
    """Both hosts. The first one takes calls, and has room for one of its own."""

    folders: tuple[Path, Path]
    keys: Sequence[str] = (OLD,)
    room: int = 100
    """Of the second."""

    def config(self, index: int) -> dict[str, Any]:
        name, room = ("a", 1) if index == 0 else ("b", self.room)
        more = FLEET.format(net=NET, host=name, password="0f" * 32, keys=", ".join(self.keys))
        return {"transceivers": 2 - (index == 0), "transceiver": f"sessions_max = {room}",
                "more": more, "supervisor": "handover_limit = 60"}  # fmt: skip

    async def reload(self, index: int, appliance: Appliance) -> None:
        write_config(self.folders[index], **self.config(index))
        await reload(appliance, "reload: done")


def owner_of(call: LiveCall) -> int:
    """Return the number of the host that owns it."""
    cluster, number, _ = call.session.split(".")
    assert cluster == "9"
    return int(number) >> 8


@asynccontextmanager
async def pair_of_hosts(
    directory: Path, room: int = 100
) -> AsyncIterator[tuple[Pair, Appliance, Appliance]]:
    folders = (directory / "a", directory / "b")
    for each in folders:
        each.mkdir()
    pair = Pair(folders, room=room)
    async with (
        running_appliance(folders[0], **pair.config(0)) as first,
        running_appliance(folders[1], **pair.config(1)) as second,
    ):
        await first.wait_line("host b is reached", 20)
        await second.wait_line("host a is reached", 20)
        yield pair, first, second


@asynccontextmanager
async def calls_of_both(
    first: Appliance, more: int = 1
) -> AsyncIterator[tuple[LiveCall, list[LiveCall]]]:
    """Call the first host until the second owns some calls. What it knows is a second old."""
    origin = await first.origin()
    async with contextlib.AsyncExitStack() as stack:
        own: list[LiveCall] = []
        others: list[LiveCall] = []
        while len(others) < more or not own:
            call = await stack.enter_async_context(calling(origin))
            (own if owner_of(call) == 0 else others).append(call)
            await call.wait_echo(5)
        yield own[0], others


async def test_a_call_is_owned_by_another_host(tmp_path: Path) -> None:
    async with pair_of_hosts(tmp_path) as (_, first, second), calls_of_both(first, 3) as (own, its):
        assert {owner_of(call) for call in its} == {5}
        for call in its:
            for layer in ("ice", "dtls", "media"):
                await call.wait_message(type="state", layer=layer)
        await its[0].restart_ice()
        await its[0].wait_echo(its[0].peer.record.echoed + 25)
        await its[1].cut_signaling()
        async with signaling(await second.origin()) as websocket:
            await send(websocket, type="resume", session=its[1].session, secret=its[1].secret)
            assert (await receive(websocket))["type"] == "resumed"
            async with signaling(await first.origin()) as again:
                await send(again, type="resume", session=its[1].session, secret=its[1].secret)
                assert (await receive(again))["type"] == "resumed"
        await assert_nothing_lost([own, *its])
        status = await first.status()
        (known,) = status.clusters
        assert (known.name, known.hosts, known.heard, known.draining) == ("one", 2, 2, 0)
        assert known.sessions_max == 1 + 2 * 100
        assert known.sessions >= 1 + len(its)
        line = f"cluster    one: 2 of 2 hosts heard, {known.sessions} of 201 sessions, room for"
        assert line in render_status(status)


async def test_the_death_of_the_owner_is_told_and_a_new_offer_finds_another_host(
    tmp_path: Path,
) -> None:
    async with pair_of_hosts(tmp_path) as (_, first, second):
        async with calls_of_both(first) as (own, (call,)):
            second.process.kill()
            began = trio.current_time()
            await call.wait_message(type="bye", reason="going-away")
            told = trio.current_time() - began
            print(f"the client was told after {told * 1000:.0f} ms")
            assert told < 2.5
            await own.wait_echo(own.peer.record.echoed + 25)
            assert not any(each["type"] == "bye" for each in own.messages)
            await own.send({"type": "bye"})
            await own.wait_message(type="bye")
        async with calling(await first.origin()) as call:
            assert owner_of(call) == 0
            await call.wait_echo(5)


async def test_fleet_keys_rotate_under_calls(tmp_path: Path) -> None:
    """At every step, while one host is a step ahead, calls go on and new ones find the other."""
    async with (
        pair_of_hosts(tmp_path) as (pair, first, second),
        calls_of_both(first) as (own, its),
        contextlib.AsyncExitStack() as stack,
    ):
        origin = await first.origin()
        for keys in ((OLD, NEW), (NEW, OLD), (NEW,)):
            pair.keys = keys
            for index, appliance in enumerate((first, second)):
                await pair.reload(index, appliance)
                await appliance.wait_line("host [ab] is reached", 20)
                call = await stack.enter_async_context(calling(origin))
                assert owner_of(call) == 5
                await call.wait_echo(5)
                its.append(call)
        for call in its:
            await call.restart_ice()
        await assert_nothing_lost([own, *its])
        for appliance in (first, second):
            for each in await appliance.transceivers():
                assert "control-key-removed" not in each.drops, "all had the new one before"


async def test_strangers_that_reset_their_connections_cost_nobody_a_call(tmp_path: Path) -> None:
    async with pair_of_hosts(tmp_path) as (_, first, second), calls_of_both(first) as (own, its):
        workers = [each.pid for each in await second.workers("transceiver")]
        for _ in range(50):
            for source in ("127.0.0.9", f"{NET}.1"):
                with socket.socket() as one:
                    one.bind((source, 0))
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.connect((f"{NET}.2", Config().fleet.control_port))
            await trio.sleep(0.01)
        for call in its:
            await call.restart_ice()
        await assert_nothing_lost([own, *its])
        assert [each.pid for each in await second.workers("transceiver")] == workers


async def test_a_host_with_another_key_is_no_member(tmp_path: Path) -> None:
    async with pair_of_hosts(tmp_path) as (pair, first, second):
        pair.keys = (NEW,)
        await pair.reload(1, second)
        await second.wait_line("host a cannot be reached", 10)
        await first.wait_line("the control channel has refused host b: unknown-key", 10)
        await trio.sleep(3.2)  # what it knew is stale
        origin = await first.origin()
        async with calling(origin) as call:
            assert owner_of(call) == 0
            async with signaling(origin) as websocket:
                assert (await offer(websocket, new_credentials()))["code"] == "busy"


async def test_a_new_generation_on_the_owners_host_ends_no_call(tmp_path: Path) -> None:
    async with (
        pair_of_hosts(tmp_path) as (pair, first, second),
        calls_of_both(first, 3) as (
            own,
            its,
        ),
    ):
        pair.room = 50
        await pair.reload(1, second)
        for call in its:
            await call.wait_message(type="going_away")
            await call.restart_ice()
        async with calling(await first.origin()) as late:
            assert owner_of(late) == 5
            await assert_nothing_lost([own, *its, late])


async def test_what_a_host_that_does_not_answer_opens_later_is_undone(tmp_path: Path) -> None:
    async with pair_of_hosts(tmp_path) as (_, first, second):
        origin = await first.origin()
        async with (
            calling(origin) as own,
            calling(origin) as its,
            signaling(origin) as one,
            signaling(origin) as other,
        ):
            assert [owner_of(own), owner_of(its)] == [0, 5]
            stopped = [each.pid for each in await second.workers("transceiver") if each.pid]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            began = trio.current_time()
            answers = [await offer(each, new_credentials()) for each in (one, other)]
            waited = trio.current_time() - began
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            assert [each["code"] for each in answers] == ["busy", "busy"]
            assert waited < 3.5, "the second offer is not spent on it"
            await trio.sleep(4)  # it is avoided, and what it told was stale
            await wait_status(second, lambda status: _sessions(status) == 1)
            assert sum(each.opened for each in await second.transceivers()) == 2
            await its.wait_echo(its.peer.record.echoed + 25)
            async with calling(origin) as call:
                assert owner_of(call) == 5
                await call.wait_echo(5)


def _sessions(status: Status) -> int:
    found = [one.statistics for one in status.workers]
    return sum(one.sessions for one in found if isinstance(one, TransceiverStatistics))


async def test_a_host_that_only_relays_joins_a_running_fleet(tmp_path: Path) -> None:
    more = FLEET.format(net=NET, host="a", password="0f" * 32, keys=OLD)
    relaying = f'[hosts.r]\nsite = "fra"\ninternal = "{NET}.3"\n'
    (tmp_path / "a").mkdir()
    (tmp_path / "r").mkdir()
    async with (
        running_appliance(tmp_path / "a", more=more) as host,
        calling(await host.origin()) as call,
    ):
        await call.wait_echo(5)
        write_config(tmp_path / "a", more=more + relaying)
        await reload(host, "reload: done")
        alone = more.replace('host = "a"', 'host = "r"') + relaying
        async with running_appliance(tmp_path / "r", transceivers=0, more=alone) as relay:
            await relay.wait_line("host a is reached", 20)
            status = await relay.status()
            assert (status.signaling, status.clusters) == ([], [])
            await assert_nothing_lost([call])


async def test_an_upgrade_of_the_owners_host_ends_no_call(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    for each in folders:
        each.mkdir()
    pair = Pair(folders)
    versions = Versions(folders[1])
    versions.install("1.0.0")
    async with (
        running_appliance(folders[0], **pair.config(0)) as first,
        running_version(versions, folders[1], **pair.config(1)) as second,
    ):
        await first.wait_line("host b is reached", 20)
        async with calls_of_both(first, 3) as (own, its):
            versions.install("2.0.0")
            await upgrade(second)
            await second.wait_line("host a is reached", 20)
            for call in its:
                await call.wait_message(type="going_away")
                await call.restart_ice()
            async with calling(await first.origin()) as late:
                assert owner_of(late) == 5
                await assert_nothing_lost([own, *its, late])
