"""A new version of the program follows the running one, under calls."""

import contextlib
import os
import re
import signal
import socket
from pathlib import Path

import pytest
import trio

from edge.operate.client import REPLY_TIME, Connection, ControlError
from edge.operate.protocol import OrderUpgrade
from tests.integration.test_generations import slot_of, states
from tests.integration.test_reload import assert_nothing_lost, reload, running
from tests.integration.test_supervision import alive, children_of, wait_dead
from tests.support.appliance import Appliance, wait_status, write_config
from tests.support.caller import LiveCall, calling, new_credentials, offer, signaling
from tests.support.program import Versions, running_version
from tests.support.service_manager import FakeServiceManager
from tests.support.tcp_client import calling_over_tcp


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    versions = Versions(tmp_path)
    versions.install("1.0.0")
    return versions


async def upgrade(appliance: Appliance, outcome: str = "ready: ") -> str:
    """Ask for an upgrade and wait for what the log says of it."""
    seen = len(appliance.lines)
    appliance.process.send_signal(signal.SIGUSR2)
    with trio.fail_after(30):
        while True:
            for line in appliance.lines[seen:]:
                if re.search(outcome, line):
                    return line
            await trio.sleep(0.02)


async def more(calls: list[LiveCall], frames: int = 25) -> None:
    for call in calls:
        await call.wait_echo(call.peer.record.echoed + frames)


async def version_of(appliance: Appliance) -> str:
    return (await appliance.status()).version


async def test_a_call_goes_on_through_two_upgrades(tmp_path: Path, versions: Versions) -> None:
    async with (
        running_version(versions, tmp_path) as appliance,
        contextlib.AsyncExitStack() as stack,
    ):
        origin, pid = await appliance.origin(), appliance.process.pid
        calls = [await stack.enter_async_context(calling(origin)) for _ in range(4)]
        assert {slot_of(call.session) for call in calls} == {0, 1}
        await more(calls)
        known = {one.pid for one in await appliance.workers("relay")}
        for version, slots in (("2.0.0", {2, 3}), ("3.0.0", {4, 5})):
            versions.install(version)
            await upgrade(appliance)
            assert await version_of(appliance) == version
            assert appliance.process.poll() is None
            assert appliance.process.pid == pid
            now = await states(appliance)
            assert {slot for slot, state in now.items() if state == "running"} == slots
            assert now[0] == now[1] == "leaving"
            relays = {one.pid for one in await appliance.workers("relay")}
            assert not relays & known
            known = relays
            await more(calls)
            late = await stack.enter_async_context(calling(origin))
            await late.wait_echo(10)
            assert slot_of(late.session) in slots
            calls.append(late)
        for call in calls[:-1]:
            await call.wait_message(type="going_away")
        await assert_nothing_lost(calls)
        gaps = max(call.peer.record.longest_gap for call in calls)
        print(f"longest gap over two upgrades: {gaps * 1000:.0f} ms")
        await calls[0].send({"type": "bye"})
        await calls[0].wait_message(type="bye", reason="hang-up")
        children = children_of(pid)
    await wait_dead(children)


async def test_what_the_former_version_leaves_is_cleaned_up(
    tmp_path: Path, versions: Versions
) -> None:
    async with running_version(versions, tmp_path) as appliance:
        pid = appliance.process.pid
        before = children_of(pid)
        async with calling(await appliance.origin()) as call:
            await call.wait_echo(10)
            versions.install("2.0.0")
            await upgrade(appliance)
            assert before & alive(before), "the forkserver and the worker of the call"
        await wait_dead(before)
        assert all(state == "running" for state in (await states(appliance)).values())


async def test_signals_and_crashes_mean_the_same_after_an_upgrade(
    tmp_path: Path, versions: Versions
) -> None:
    async with running_version(versions, tmp_path) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo(10)
            versions.install("2.0.0")
            await upgrade(appliance)
            write_config(tmp_path, relays=3, routes={"default": 'kind = "loopback"'})
            await reload(appliance, "reload: done")
            assert len(await running(appliance)) == 3
            victim = next(one for one in await appliance.workers("transceiver") if one.index > 1)
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            await appliance.wait_line(f"worker transceiver-{victim.index} is back")
            await assert_nothing_lost([call], in_order=False)


async def test_a_version_that_refuses_the_configuration_gets_nothing(
    tmp_path: Path, versions: Versions
) -> None:
    async with (
        running_version(versions, tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(10)
        pids = {one.pid for one in (await appliance.status()).workers}
        versions.install("2.0.0", "if 'check-config' in sys.argv: sys.exit('I do not like it')")
        line = await upgrade(appliance, "upgrade: nothing was changed")
        assert "I do not like it" in line
        (tmp_path / "current").unlink()
        await upgrade(appliance, "upgrade: nothing was changed")
        versions.install("1.0.0")
        path = tmp_path / "edge.toml"
        path.write_text(path.read_text() + "\n[nonsense]\n")
        line = await upgrade(appliance, "upgrade: nothing was changed")
        assert "nonsense" in line
        assert {one.pid for one in (await appliance.status()).workers} == pids
        assert await version_of(appliance) == "1.0.0"
        await assert_nothing_lost([call])


@pytest.mark.parametrize("module", ["supervisor", "relay", "transceiver/worker"])
async def test_a_version_that_cannot_be_imported_gets_nothing(
    tmp_path: Path, versions: Versions, module: str
) -> None:
    async with (
        running_version(versions, tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(10)
        versions.install("2.0.0")
        broken = tmp_path / "2.0.0" / "edge" / f"{module}.py"
        broken.write_text('raise RuntimeError("it was not built well")\n')
        line = await upgrade(appliance, "upgrade: nothing was changed|takes over|going on as")
        assert "it was not built well" in line
        assert appliance.process.poll() is None
        assert await version_of(appliance) == "1.0.0"
        await assert_nothing_lost([call])


async def test_the_command_waits_for_a_check_that_takes_long(
    tmp_path: Path, versions: Versions
) -> None:
    """Longer than other commands wait for their replies."""
    async with running_version(versions, tmp_path) as appliance:
        slow = f"import time; time.sleep({REPLY_TIME + 1.0} * ('check-config' in sys.argv))"
        versions.install("2.0.0", slow)
        arguments = ["upgrade", "--socket", str(appliance.control_socket)]
        command = [str(tmp_path / "1.0.0" / "edge-program"), *arguments]
        done = await trio.run_process(command, capture_stdout=True, cwd=tmp_path)
        assert done.stdout == b"edge 2.0.0 takes over\n"
        await appliance.wait_line("upgrade: going on as")
        await wait_status(appliance, lambda status: status.version == "2.0.0", timeout=30.0)


async def test_a_command_that_hears_nothing_says_that_the_upgrade_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with (
            Connection([path], reply_time=0.05) as connection,
            pytest.raises(ControlError, match="no reply in time; it goes on with it") as refused,
        ):
            connection.ask(OrderUpgrade())
    assert refused.value.exit_status == os.EX_TEMPFAIL


async def test_workers_of_a_new_version_that_do_not_start_leave_the_former_ones_at_work(
    tmp_path: Path, versions: Versions
) -> None:
    async with running_version(versions, tmp_path) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo(10)
            versions.install("2.0.0")
            broken = tmp_path / "2.0.0" / "edge" / "transceiver" / "worker.py"
            broken.write_text(broken.read_text().replace("opus_version()", "raise SystemExit(1)"))
            await upgrade(appliance, "the workers of the former version go on")
            await appliance.wait_line("ready: ")
            assert await version_of(appliance) == "2.0.0"
            assert await states(appliance) == {0: "running", 1: "running"}
            await more([call])
            async with calling(origin) as late:
                await late.wait_echo(10)
            versions.install("3.0.0")
            await upgrade(appliance)
            await assert_nothing_lost([call])


async def test_a_client_by_tcp_stays_with_its_relay(tmp_path: Path, versions: Versions) -> None:
    tcp = 'tcp_listen = ["127.0.0.1:0"]'
    async with running_version(versions, tmp_path, relay=tcp, relays=1) as appliance:
        origin = await appliance.origin()
        async with calling_over_tcp(origin) as call:
            await call.wait_echo(10)
            versions.install("2.0.0")
            await upgrade(appliance)
            async with calling_over_tcp(origin) as late:
                await late.wait_echo(10)
            await assert_nothing_lost([call])


async def test_the_service_manager_sees_one_process_that_reloads(
    tmp_path: Path, versions: Versions
) -> None:
    manager = FakeServiceManager(tmp_path / "notify")
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        async with running_version(versions, tmp_path, manager.environment) as appliance:
            assert manager.has_said(READY="1") == 1
            kept = {each["FDNAME"] for each in manager.said if "FDSTORE" in each}
            versions.install("2.0.0")
            await upgrade(appliance)
            with trio.fail_after(5):
                while manager.has_said(READY="1") < 2:
                    await trio.sleep(0.02)
            assert manager.has_said(RELOADING="1") == 1
            assert manager.has_said(STOPPING="1") == 0
            assert not any("FDSTOREREMOVE" in each for each in manager.said)
            assert {each["FDNAME"] for each in manager.said if "FDSTORE" in each} == kept
        nursery.cancel_scope.cancel()


async def test_a_drain_goes_on_after_an_upgrade(tmp_path: Path, versions: Versions) -> None:
    async with running_version(versions, tmp_path) as appliance:
        origin = await appliance.origin()

        async def operate(*arguments: str) -> str:
            program = [str(versions.current), *arguments, "--socket", str(appliance.control_socket)]
            done = await trio.run_process(program, capture_stdout=True, cwd=tmp_path)
            return done.stdout.decode()

        async with calling(origin) as call:
            await call.wait_echo(10)
            await operate("drain", "--deadline", "300")
            versions.install("2.0.0")
            seen = len(appliance.lines)
            assert "edge 2.0.0 takes over" in await operate("upgrade")
            with trio.fail_after(30):
                while not any("ready: " in line for line in appliance.lines[seen:]):
                    await trio.sleep(0.02)
            drain = (await appliance.status()).drain
            assert drain is not None
            assert drain.deadline is not None
            assert 250 < drain.deadline <= 300
            async with signaling(origin) as websocket:
                assert (await offer(websocket, new_credentials()))["code"] == "busy"
            await operate("undrain")
            async with calling(origin) as late:
                await late.wait_echo(10)
            await assert_nothing_lost([call])
