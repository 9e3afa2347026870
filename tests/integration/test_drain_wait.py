"""``edge drain --wait``: it returns when no session is left, and neither before nor without it."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from edge.cli import main
from edge.commands import operator
from edge.operate import server
from edge.operate.protocol import Agreed, OrderDrain, Reply, Request
from tests.integration.test_commands import edge
from tests.support.appliance import (
    Appliance,
    attended,
    running_appliance,
    start_edge,
    wait_status,
    write_config,
)
from tests.support.caller import calling


@asynccontextmanager
async def waiting(directory: Path) -> AsyncIterator[trio.Process]:
    """Run ``edge drain --wait``, and wait until it has drained; end it afterwards."""
    config = str(directory / "edge.toml")
    command = [sys.executable, "-m", "edge", "drain", "--wait", "--config", config]
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def said(process: trio.Process, text: str, timeout: float = 30.0) -> None:
    """Wait until a process has said something on its standard output."""
    assert process.stdout is not None
    seen = ""
    with trio.fail_after(timeout):
        while text not in seen:
            chunk = await process.stdout.receive_some()
            assert chunk, f"it has ended after {seen!r}"
            seen += chunk.decode()


async def ends(process: trio.Process, timeout: float = 60.0) -> tuple[int, str]:
    """Wait for a process's end; return its exit status and its errors."""
    assert process.stderr is not None
    with trio.fail_after(timeout):
        errors = b"".join([chunk async for chunk in process.stderr])
        return await process.wait(), errors.decode()


async def test_figures_of_old_heartbeats_are_not_believed(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    slow = "heartbeat_interval = 60.0\nheartbeat_limit = 120.0"
    text = path.read_text().replace("heartbeat_interval = 0.1\nheartbeat_limit = 5.0", slow)
    assert slow in text
    path.write_text(text)
    process = await start_edge("run", "--config", str(path))
    async with attended(process, tmp_path) as appliance:
        async with calling(await appliance.origin()) as call, waiting(tmp_path) as command:
            await said(command, "draining: no new sessions; 1 left\n")
            await trio.sleep(2 * operator.WAIT_INTERVAL)
            assert command.poll() is None, "there is a call"
            await call.send({"type": "bye"})
            await said(command, "no session is left\n")
            assert await ends(command) == (0, "")
        assert "no new sessions; 0 left" in (await edge(tmp_path, "drain"))[1]


async def test_an_upgrade_in_between_is_no_end(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
        waiting(tmp_path) as command,
    ):
        await call.wait_echo(5)
        await said(command, "1 left\n")
        await upgraded(appliance, tmp_path)
        await trio.sleep(2 * operator.WAIT_INTERVAL)
        assert command.poll() is None, "there is a call"
        await call.send({"type": "bye"})
        await said(command, "no session is left\n")
        assert await ends(command) == (0, "")


async def upgraded(appliance: Appliance, directory: Path) -> None:
    seen = len(appliance.lines)
    assert (await edge(directory, "upgrade"))[0] == 0
    with trio.fail_after(60):
        while not any("ready: " in line for line in appliance.lines[seen:]):
            await trio.sleep(0.05)
    await wait_status(appliance, lambda found: found.drain is not None, 30)


async def test_a_drain_that_is_taken_back_is_not_waited_for(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
        waiting(tmp_path) as command,
    ):
        await call.wait_echo(5)
        await said(command, "1 left\n")
        assert (await edge(tmp_path, "undrain"))[0] == 0
        assert await ends(command) == (75, "the drain is over: new sessions are taken\n")


async def test_an_appliance_that_does_not_come_back_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operator, "WAIT_INTERVAL", 0.05)
    monkeypatch.setattr(operator, "AWAY_TIME", 0.3)
    path = tmp_path / "control.sock"

    async with trio.open_nursery() as nursery:

        async def answer(request: Request) -> Reply:
            if isinstance(request, OrderDrain):
                return Agreed(message="draining")
            path.unlink()
            nursery.cancel_scope.cancel()
            return Agreed(message="never heard")

        with server.open_control_socket(path) as listener:
            nursery.start_soon(server.serve_operators, listener, answer)
            with trio.CancelScope(shield=True):
                command = ["drain", "--wait", "--socket", str(path)]
                status = await trio.to_thread.run_sync(main, command, {})
    assert status == os.EX_UNAVAILABLE
    assert "edge is not running: no control socket" in capsys.readouterr().err
