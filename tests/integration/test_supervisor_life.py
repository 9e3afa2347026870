"""The supervisor between its states: signals and orders while it starts, and while it stops."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from edge.operate.client import Connection, ControlError, fetch_status
from edge.operate.protocol import OrderDrain, OrderReload, OrderUndrain, OrderUpgrade, Request
from edge.process import EX_CONFIG
from tests.integration.test_commands import has_sessions
from tests.integration.test_supervision import (
    alive,
    children_of,
    parent_of,
    run_to_end,
    wait_dead,
)
from tests.support.appliance import (
    Appliance,
    attended,
    running_appliance,
    start_edge,
    wait_status,
    write_config,
)
from tests.support.caller import LiveCall, calling, new_credentials, offer, signaling

CALL_TIME = 4.0
"""Seconds that calls have when the appliance stops."""
LATE = 2.0
"""Seconds that a busy machine may be late."""
CHANGED = "\nsessions_max = 77"
"""What only a new generation of transceiver workers can be given."""


def ask(directory: Path, request: Request) -> str:
    """Give an order; return what is said to it."""
    with Connection([directory / "control.sock"]) as connection:
        return str(connection.ask(request))


async def started(directory: Path) -> trio.Process:
    """Start an appliance and return as soon as it takes orders: its workers are not ready yet."""
    process = await start_edge("run", "--config", str(write_config(directory)))
    with trio.fail_after(20):
        while not (directory / "control.sock").exists():
            await trio.sleep(0.005)
    return process


@asynccontextmanager
async def call_while_it_stops(directory: Path) -> AsyncIterator[tuple[Appliance, LiveCall]]:
    supervisor = f"drain_limit = {CALL_TIME}"
    async with (
        running_appliance(directory, supervisor=supervisor) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo()
        await wait_status(appliance, has_sessions(1))
        yield appliance, call


async def assert_kept_until_the_limit(call: LiveCall, stopped_at: float) -> None:
    """A call goes on for as long as a stop leaves it, and is told of its end."""
    while trio.current_time() < stopped_at + CALL_TIME - LATE:
        await call.wait_echo(call.peer.record.echoed + 10)
    await call.wait_message(type="bye", reason="going-away")
    assert trio.current_time() > stopped_at + CALL_TIME - 0.5


def first_worker(path: Path) -> int:
    """Wait, in a thread, until a worker has a process, and return its id."""
    while True:
        try:
            pids = [one.pid for one in fetch_status(path).workers]
        except ControlError:
            continue
        for pid in pids:
            if pid is not None:
                return pid


async def test_a_drain_while_workers_are_forked_has_them_start_paused(tmp_path: Path) -> None:
    process = await started(tmp_path)
    said = await trio.to_thread.run_sync(ask, tmp_path, OrderDrain())
    assert "draining" in said
    async with attended(process, tmp_path) as appliance:
        status = await appliance.status()
        assert status.drain is not None
        assert [one.restarts for one in status.workers] == [0, 0, 0, 0]
        async with signaling(await appliance.origin()) as websocket:
            refusal = await offer(websocket, new_credentials())
        assert (refusal["type"], refusal["code"]) == ("error", "busy")


async def test_a_reload_while_it_starts_is_done_when_it_has(tmp_path: Path) -> None:
    process = await started(tmp_path)
    write_config(tmp_path, transceiver=CHANGED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, ask, tmp_path, OrderReload())
        async with attended(process, tmp_path) as appliance:
            await appliance.wait_line("reload: done", 30.0)
            ready = next(at for at, line in enumerate(appliance.lines) if "ready: " in line)
            assert any("reload: done" in line for line in appliance.lines[ready:])


async def test_nothing_is_changed_once_it_stops(tmp_path: Path) -> None:
    async with call_while_it_stops(tmp_path) as (appliance, call):
        write_config(tmp_path, transceiver=CHANGED, supervisor=f"drain_limit = {CALL_TIME}")
        stopped_at = trio.current_time()
        appliance.terminate()
        await appliance.wait_line("SIGTERM: stopping")
        for order in (OrderReload(), OrderUpgrade(), OrderDrain(), OrderUndrain()):
            with pytest.raises(ControlError, match="stopping") as refused:
                await trio.to_thread.run_sync(ask, tmp_path, order)
            assert refused.value.exit_status == os.EX_TEMPFAIL
        appliance.process.send_signal(signal.SIGHUP)
        appliance.process.send_signal(signal.SIGUSR2)
        await assert_kept_until_the_limit(call, stopped_at)
        with trio.fail_after(10):
            assert await appliance.process.wait() == 0
    assert not [line for line in appliance.lines if "killing it" in line or "cannot fork" in line]


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3])
async def test_a_reload_under_way_ends_when_it_stops(tmp_path: Path, delay: float) -> None:
    async with call_while_it_stops(tmp_path) as (appliance, call):
        write_config(
            tmp_path, relays=3, transceiver=CHANGED, supervisor=f"drain_limit = {CALL_TIME}"
        )
        pids = children_of(appliance.process.pid)
        appliance.process.send_signal(signal.SIGHUP)
        await trio.sleep(delay)
        stopped_at = trio.current_time()
        appliance.terminate()
        await assert_kept_until_the_limit(call, stopped_at)
        with trio.fail_after(10):
            assert await appliance.process.wait() == 0
        await wait_dead(pids)
    assert not [line for line in appliance.lines if "killing it" in line or "cannot fork" in line]


async def test_relays_are_kept_alive_while_calls_end(tmp_path: Path) -> None:
    async with call_while_it_stops(tmp_path) as (appliance, call):
        stopped_at = trio.current_time()
        appliance.terminate()
        await appliance.wait_line("SIGTERM: stopping")
        for relay in await appliance.workers("relay"):
            assert relay.pid is not None
            os.kill(relay.pid, signal.SIGKILL)
            await appliance.wait_line(f"worker relay-{relay.index} is back")
        await assert_kept_until_the_limit(call, stopped_at)


async def test_a_stop_while_it_starts_does_not_wait_for_the_workers(tmp_path: Path) -> None:
    process = await started(tmp_path)
    process.send_signal(signal.SIGTERM)
    with trio.fail_after(15):
        assert await process.wait() == 0
    assert process.stderr is not None
    told = bytes(await process.stderr.receive_some(1 << 20))
    assert b"SIGTERM: stopping" in told
    assert b"ready: " not in told


async def test_half_a_request_does_not_end_the_forkserver(tmp_path: Path) -> None:
    """Whoever breaks off is not worth the workers, which end with the forkserver."""
    async with running_appliance(tmp_path) as appliance:
        pids = {one.pid for one in (await appliance.status()).workers}
        (forkserver,) = {parent_of(pid) for pid in pids}
        stream = await trio.open_unix_socket(listening_at(forkserver))
        await stream.aclose()
        await trio.sleep(0.5)
        assert alive({forkserver}) == {forkserver}
        assert {one.pid for one in (await appliance.status()).workers} == pids
        os.kill(next(pid for pid in pids if pid is not None), signal.SIGKILL)
        await appliance.wait_line("is back")


def listening_at(pid: int) -> str:
    """Return the path that a process listens at."""
    own = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if f"socket:[{words[6]}]" in own and len(words) == 8 and "listener-" in words[7]:
            return words[7]
    raise LookupError(pid)


async def test_a_worker_killed_before_it_was_ready_is_worth_another_try(tmp_path: Path) -> None:
    process = await started(tmp_path)
    victim = await trio.to_thread.run_sync(first_worker, tmp_path / "control.sock")
    os.kill(victim, signal.SIGKILL)
    with trio.fail_after(20):
        assert await process.wait() == os.EX_TEMPFAIL


async def test_workers_that_are_not_ready_in_time_are_worth_another_try(tmp_path: Path) -> None:
    config = write_config(tmp_path, supervisor="boot_timeout = 0.01")
    status, errors = await run_to_end("run", "--config", str(config))
    assert status == os.EX_TEMPFAIL
    assert "not ready in time" in errors
    assert not (tmp_path / "control.sock").exists()


async def test_what_a_worker_misses_is_not_worth_another_try(tmp_path: Path) -> None:
    """A file that is not there is not there at the next start."""
    signal_lines = f'tls_certificate = "{tmp_path}/none.pem"\ntls_key = "{tmp_path}/none.key"'
    config = write_config(tmp_path, signal=signal_lines)
    status, errors = await run_to_end("run", "--config", str(config))
    assert status == EX_CONFIG
    assert "none." in errors


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
async def test_signals_while_it_starts_do_not_end_it(tmp_path: Path, number: int) -> None:
    """They come from the first moment at which it is our program that is asked."""
    config = write_config(tmp_path)
    process = await start_edge("run", "--config", str(config))
    assert process.stderr is not None
    with trio.fail_after(20):
        while b"configuration: " not in await process.stderr.receive_some():
            pass
    for _ in range(30):
        process.send_signal(number)
        await trio.sleep(0.02)
    async with (
        attended(process, tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo()
