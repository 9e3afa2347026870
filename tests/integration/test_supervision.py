"""The whole appliance: how it starts, what it survives, how it ends."""

import contextlib
import os
import random
import signal
import socket
from pathlib import Path

import trio

from edge.control.status import Status
from edge.process import EX_CONFIG
from edge.udp import BATCH_ROWS
from tests.support.appliance import (
    Appliance,
    running_appliance,
    start_edge,
    wait_status,
    write_config,
)
from tests.support.caller import LiveCall, calling, new_credentials, offer, signaling

SESSIONS = 20
SESSIONS_MAX = 80


def children_of(pid: int) -> set[int]:
    """Return all descendants of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | children_of(child)
    return found


def parent_of(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists()}


async def wait_dead(pids: set[int]) -> None:
    with trio.fail_after(10):
        while alive(pids):
            await trio.sleep(0.02)


def transceiver_of(call: LiveCall) -> int:
    return int(call.session.split(".")[1])


async def kill_worker(appliance: Appliance, kind: str, index: int) -> None:
    pid = (await appliance.workers(kind))[index].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def test_many_sessions_share_one_port_and_reach_their_owners_over_any_relay(
    tmp_path: Path,
) -> None:
    """First packets that land on either relay worker reach either transceiver worker."""
    async with (
        running_appliance(tmp_path) as appliance,
        contextlib.AsyncExitStack() as calls,
    ):
        origin, udp = await appliance.origin(), await appliance.udp()
        opened: list[LiveCall] = []
        while True:
            opened.append(await calls.enter_async_context(calling(origin, frames=100)))
            assert opened[-1].peer.server[:2] == udp
            if len(opened) < SESSIONS:
                continue
            for call in opened:
                await call.wait_echo()
            await trio.sleep(0.2)  # two heartbeats
            routed = [relay.first_checks for relay in await appliance.relays()]
            if all(all(checks[:2]) for checks in routed):
                break
            assert len(opened) < SESSIONS_MAX, f"never seen on one of the ways: {routed}"
        assert {transceiver_of(call) for call in opened} == {0, 1}
        for call in opened:
            await call.wait_echo(100, timeout=30.0)
        for relay in await appliance.relays():
            assert relay.drops == {}
        assert len((await appliance.status()).udp) == 1


async def test_a_killed_transceiver_ends_only_its_own_sessions_and_is_back(
    tmp_path: Path,
) -> None:
    async with running_appliance(tmp_path) as appliance, contextlib.AsyncExitStack() as calls:
        origin = await appliance.origin()
        opened: list[LiveCall] = []
        while {transceiver_of(call) for call in opened} != {0, 1}:
            opened.append(await calls.enter_async_context(calling(origin)))
        for call in opened:
            await call.wait_echo()
        await kill_worker(appliance, "transceiver", 0)
        await appliance.wait_line("worker transceiver-0 is back")
        echoed = {call.session: call.peer.record.echoed for call in opened}
        for call in opened:
            if transceiver_of(call) == 1:
                call.peer.record.longest_gap = 0.0
                await call.wait_echo(echoed[call.session] + 25)
                assert call.peer.record.longest_gap < 1.0
            else:
                assert call.peer.record.echoed == echoed[call.session]
        owners = set()
        while 0 not in owners:
            again = await calls.enter_async_context(calling(origin))
            await again.wait_echo()
            owners.add(transceiver_of(again))
        workers = await appliance.workers("transceiver")
        assert [worker.restarts for worker in workers] == [1, 0]


async def test_a_flow_of_a_killed_transceiver_does_not_bind_its_client_for_ever(
    tmp_path: Path,
) -> None:
    """A client that calls again from the same port may be given to another transceiver."""
    async with running_appliance(tmp_path) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo()
            port, killed = call.udp.getsockname()[1], transceiver_of(call)
            await kill_worker(appliance, "transceiver", killed)
            await appliance.wait_line(f"worker transceiver-{killed} is back")
            await call.wait(lambda: call.peer.record.sent > call.peer.record.echoed + 25)
        owners: set[int] = set()
        while owners != {0, 1}:
            async with calling(origin, port=port) as again:
                await again.wait_echo(25)
                owners.add(transceiver_of(again))


async def test_a_killed_relay_loses_only_what_was_in_its_hands(tmp_path: Path) -> None:
    """Its successor finds the queue in the socket and the flows in shared memory."""
    async with running_appliance(tmp_path) as appliance, contextlib.AsyncExitStack() as calls:
        origin = await appliance.origin()
        opened = [
            await calls.enter_async_context(calling(origin, frames=400)) for _ in range(SESSIONS)
        ]
        for call in opened:
            await call.wait_echo(10)
        for index in (0, 1):
            await kill_worker(appliance, "relay", index)
            await appliance.wait_line(f"worker relay-{index} is back")
        for call in opened:
            await call.wait_sent(400, timeout=30.0)
        await trio.sleep(1.0)  # what is under way arrives
        lost = sum(400 - call.peer.record.echoed for call in opened)
        gap = max(call.peer.record.longest_gap for call in opened)
        print(f"both relays killed under {SESSIONS} calls: {lost} lost, longest gap {gap:.3f} s")
        assert lost <= 2 * BATCH_ROWS
        assert gap < 2.0, "not a check interval: nobody waited for the next check"
        assert sum(one.sessions for one in await appliance.transceivers()) == len(opened)
        taken_over = sum(
            table.taken_over for relay in await appliance.relays() for table in relay.flows
        )
        assert taken_over == len(opened)


async def test_a_hung_worker_is_found_and_replaced(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        pid = (await appliance.workers("relay"))[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await appliance.wait_line("worker relay-0 does not answer", timeout=20.0)
        await appliance.wait_line("worker relay-0 is back", timeout=20.0)


async def test_everything_is_back_when_the_forkserver_was_killed(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        workers = {worker.pid for worker in (await appliance.status()).workers}
        (forkserver,) = {parent_of(pid) for pid in workers}
        os.kill(forkserver, signal.SIGKILL)
        await wait_status(
            appliance,
            lambda status: all(
                worker.state == "running" and worker.pid not in workers for worker in status.workers
            ),
        )
        async with calling(await appliance.origin()) as call:
            await call.wait_echo()


async def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        port = (await appliance.udp())[1]
        pids = children_of(appliance.process.pid)
        assert len(pids) >= 5  # forkserver, resource tracker, four workers
        appliance.terminate()
        with trio.fail_after(10):
            assert await appliance.process.wait() == 0
        await wait_dead(pids)
        assert not appliance.control_socket.exists()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(("127.0.0.1", port))


async def test_the_workers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        pids = children_of(appliance.process.pid)
        appliance.process.kill()
        await appliance.process.wait()
        await wait_dead(pids)
    async with running_appliance(tmp_path) as appliance:  # over the stale control socket
        assert len((await appliance.status()).workers) == 4


async def test_sessions_may_finish_while_it_drains(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, supervisor="drain_limit = 60.0") as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo()
        await wait_status(appliance, lambda status: sessions_of(status) == 1)
        appliance.terminate()
        await appliance.wait_line("waiting up to 60 s for 1 sessions")
        await call.wait_echo(call.peer.record.echoed + 50)
        async with signaling(await appliance.origin()) as websocket:
            refusal = await offer(websocket, new_credentials())
        assert (refusal["type"], refusal["code"]) == ("error", "busy")
        await call.send({"type": "bye"})
        with trio.fail_after(10):
            assert await appliance.process.wait() == 0


async def test_when_the_drain_limit_is_over_clients_are_told(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, supervisor="drain_limit = 0.5") as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo()
        await wait_status(appliance, lambda status: sessions_of(status) == 1)
        appliance.terminate()
        await call.wait_message(type="bye", reason="going-away")
        with trio.fail_after(10):
            assert await appliance.process.wait() == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, supervisor="drain_limit = 600.0") as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo()
        await wait_status(appliance, lambda status: sessions_of(status) == 1)
        appliance.terminate()
        await appliance.wait_line("SIGTERM: stopping")
        appliance.process.send_signal(signal.SIGINT)
        await call.wait_message(type="bye", reason="going-away")
        with trio.fail_after(10):
            assert await appliance.process.wait() == 0


async def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        config = write_config(tmp_path, relays=1, transceivers=1)
        text = config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)
        config.write_text(text)
        status, errors = await run_to_end("run", "--config", str(config))
    assert status == EX_CONFIG
    assert f"cannot open UDP 127.0.0.1 port {port}: Address already in use" in errors


async def test_a_second_appliance_on_the_same_state_is_refused(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        status, errors = await run_to_end("run", "--config", str(tmp_path / "edge.toml"))
        assert status == EX_CONFIG
        assert "already running" in errors
        assert (await appliance.status()).workers


async def test_a_quarter_of_all_packets_lost_in_the_handshake(tmp_path: Path) -> None:
    chance = random.Random(25)
    async with running_appliance(tmp_path) as appliance, contextlib.AsyncExitStack() as calls:
        origin = await appliance.origin()
        opened = [
            await calls.enter_async_context(calling(origin, drop=lambda _: chance.random() < 0.25))
            for _ in range(8)
        ]
        for call in opened:
            await call.wait_echo(timeout=20.0)


async def test_ipv6_end_to_end(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, host="[::1]") as appliance,
        calling(await appliance.origin(), frames=50) as call,
    ):
        assert call.peer.server.host == "::1"
        await call.wait_echo(50)
        assert call.peer.mapped is not None
        assert call.peer.mapped[:2] == call.udp.getsockname()[:2]


async def test_a_closed_websocket_ends_the_session_after_the_grace(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, signal="grace = 1.0") as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo()
        await call.websocket.aclose()
        echoed = call.peer.record.echoed
        await call.wait_echo(echoed + 20)
        await wait_status(appliance, lambda status: sessions_of(status) == 0)
        ended = [one.ended for one in await appliance.transceivers()]
        assert {"client-gone": 1} in ended


async def test_a_client_that_changes_its_port_keeps_its_call(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(20)
        call.peer.record.longest_gap = 0.0
        await call.rebind()
        call.peer.check(trio.current_time())
        await call.wait_echo(call.peer.record.echoed + 50)
        print(f"gap after the change of port: {call.peer.record.longest_gap:.3f} s")


async def run_to_end(*arguments: str) -> tuple[int, str]:
    """Run a command that is expected to end by itself."""
    process = await start_edge(*arguments)
    assert process.stderr is not None
    errors = b""
    with trio.fail_after(30):
        async for chunk in process.stderr:
            errors += chunk
        return await process.wait(), errors.decode()


def sessions_of(status: Status) -> int:
    return sum(getattr(worker.statistics, "sessions", 0) for worker in status.workers)
