"""The operator's commands against a running appliance, as a shell runs them."""

import json
import os
import pty
import re
import signal
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from edge.cli import main
from edge.control.status import Status
from edge.keys import KEY_FILE_NAME, generate_keys, save_keys
from edge.operate.client import Connection
from edge.operate.protocol import SESSIONS_SHOWN_MAX, AskSessions, TheSessions
from edge.operate.status_text import transceivers
from tests.support.appliance import Appliance, running_appliance, wait_status
from tests.support.caller import LiveCall, attribute, calling, new_credentials, offer, signaling


async def edge(directory: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its exit status, output and errors."""
    command = [sys.executable, "-m", "edge", *arguments, "--config", str(directory / "edge.toml")]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@asynccontextmanager
async def appliance_with_calls(
    directory: Path, count: int
) -> AsyncIterator[tuple[Appliance, list[LiveCall]]]:
    """Run an appliance with two workers; yield it and its calls."""
    async with running_appliance(directory) as appliance, trio.open_nursery() as nursery:
        calls: list[LiveCall] = []
        up = trio.Event()

        async def call() -> None:
            async with calling(await appliance.origin()) as one:
                await one.wait_echo(20)
                calls.append(one)
                if len(calls) == count:
                    up.set()
                await trio.sleep_forever()

        for _ in range(count):
            nursery.start_soon(call)
        with trio.fail_after(30):
            await up.wait()
        await wait_status(appliance, has_sessions(count))
        yield appliance, calls
        nursery.cancel_scope.cancel()


def has_sessions(count: int) -> Callable[[Status], bool]:
    return lambda status: sum(each.sessions for each in transceivers(status)) == count


async def test_status(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 1) as (appliance, _):
        status, text, _ = await edge(tmp_path, "status")
        assert status == 0
        for name in ("relay-0", "relay-1", "transceiver-0", "transceiver-1"):
            assert name in text
        assert "1 of 1000 sessions (1 opened, 1 with media)" in text
        assert re.search(
            r"^sessions   1 of 2000, [0-9.]+% of frames on time lately$", text, re.MULTILINE
        )
        status, text, _ = await edge(tmp_path, "status", "--json")
        assert status == 0
        document = json.loads(text)
        assert [worker["state"] for worker in document["workers"]] == ["running"] * 4
        assert document["udp"] == [":".join(map(str, await appliance.udp()))]


async def test_sessions_and_one_of_them(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 3) as (_, calls):
        status, text, _ = await edge(tmp_path, "sessions")
        assert status == 0
        header, *lines = text.splitlines()
        assert header.split()[:4] == ["session", "worker", "up", "age"]
        assert {line.split()[0] for line in lines} == {call.session for call in calls}
        assert all(" media " in line and " default " in line for line in lines)

        status, text, _ = await edge(tmp_path, "sessions", "--limit", "2", "--json")
        document = json.loads(text)
        assert (len(document["sessions"]), document["total"]) == (2, 3)
        status, text, _ = await edge(tmp_path, "sessions", "--limit", "2")
        assert "2 of 3 sessions: --limit shows more\n" in text

        status, text, _ = await edge(tmp_path, "session", calls[0].session)
        assert status == 0
        shown = dict(line.split(None, 1) for line in text.splitlines())
        assert shown["session"] == calls[0].session
        assert shown["verdict"].startswith(("ok, ", "gave-up, "))
        assert re.match(
            r"ice \d+ ms, dtls \d+ ms, media \d+ ms", shown["up"].removeprefix("after").lstrip()
        )
        assert re.match(r"127\.0\.0\.1:\d+, nominated by the client", shown["client"])
        assert re.match(r"[1-9]\d* packets, \d+ bytes; 0 lost", shown["received"])

        status, text, _ = await edge(tmp_path, "session", calls[0].session, "--json")
        details = json.loads(text)
        assert details["line"]["id"] == calls[0].session
        assert details["rtp"]["packets_received"] >= 20
        for secret in (calls[0].ufrag, calls[0].secret, attribute(calls[0].sdp, "ice-pwd")):
            assert secret not in text


async def test_ending_a_session(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 2) as (appliance, calls):
        status, text, _ = await edge(tmp_path, "end", calls[0].session)
        assert (status, text) == (0, f"session {calls[0].session} has ended\n")
        found = await wait_status(appliance, has_sessions(1))
        assert sum(each.ended.get("going-away", 0) for each in transceivers(found)) == 1
        for command in ("session", "end"):
            status, text, errors = await edge(tmp_path, command, calls[0].session)
            assert (status, text) == (65, "")
            assert errors == f"there is no session {calls[0].session}: edge sessions lists them\n"
        assert (await edge(tmp_path, "session", calls[1].session))[0] == 0


async def test_a_drain_refuses_offers_until_it_is_taken_back(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 1) as (appliance, calls):
        status, text, _ = await edge(tmp_path, "drain")
        assert (status, text) == (0, "draining: no new sessions; 1 left\n")
        assert "DRAINING" in (await edge(tmp_path, "status"))[1]
        assert await refusal(appliance) == ("busy", "This server takes no new sessions for now.")
        assert (await edge(tmp_path, "session", calls[0].session))[0] == 0

        status, text, _ = await edge(tmp_path, "undrain")
        assert (status, text) == (0, "taking new sessions again\n")
        assert "DRAINING" not in (await edge(tmp_path, "status"))[1]
        async with calling(await appliance.origin()) as call:
            await call.wait_echo(5)
        assert (await edge(tmp_path, "undrain"))[1] == "nothing was draining\n"


async def test_a_drain_survives_a_worker(tmp_path: Path) -> None:
    async with running_appliance(tmp_path, transceivers=1) as appliance:
        assert (await edge(tmp_path, "drain"))[0] == 0
        (worker,) = await appliance.workers("transceiver")
        assert worker.pid is not None
        await trio.run_process(["kill", "-9", str(worker.pid)])

        def is_back(status: Status) -> bool:
            (one,) = (each for each in status.workers if each.kind == "transceiver")
            return one.restarts == 1 and one.state == "running" and one.statistics is not None

        await wait_status(appliance, is_back)
        assert await refusal(appliance) == ("busy", "This server takes no new sessions for now.")


async def test_what_is_left_at_the_deadline_is_ended(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 2) as (appliance, _):
        with trio.fail_after(20):
            status, text, _ = await edge(tmp_path, "drain", "--deadline", "1", "--wait")
        assert status == 0
        assert text == (
            "draining: no new sessions; 2 left, to be ended in 1 s\nno session is left\n"
        )
        found = await wait_status(appliance, has_sessions(0))
        assert sum(each.ended.get("going-away", 0) for each in transceivers(found)) == 2
        assert found.drain is not None
        assert found.drain.deadline is None


async def test_a_worker_that_hangs_is_named(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 1) as (appliance, calls):
        pids = {each.index: each.pid for each in await appliance.workers("transceiver")}
        idle = 1 - int(calls[0].session.split(".")[1])
        hung = pids[idle]
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)  # until the supervisor ends it, after 5 s
        found: dict[str, tuple[int, str, str]] = {}

        async def ask(name: str, *arguments: str) -> None:
            found[name] = await edge(tmp_path, *arguments)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "list", "sessions")
            nursery.start_soon(ask, "one", "session", calls[0].session)
            nursery.start_soon(ask, "none", "session", "1.0.nobody")
        status, text, _ = found["list"]
        assert status == 0
        assert calls[0].session in text
        assert f"no answer from transceiver-{idle}: its sessions are missing\n" in text
        assert found["one"][0] == 0
        status, _, errors = found["none"]
        assert status == 75
        assert f"transceiver-{idle} did not answer: try again" in errors


async def test_reload(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        assert (await edge(tmp_path, "reload"))[:2] == (0, "nothing to change\n")
        good = (tmp_path / "edge.toml").read_text()
        waiting = good.replace("[relay]", "[relay]\nreceive_buffer_bytes = 100000")
        (tmp_path / "edge.toml").write_text(waiting)
        said = "nothing to change; wait for a restart: relay.receive_buffer_bytes\n"
        assert (await edge(tmp_path, "reload"))[:2] == (0, said)
        live = waiting.replace("[signal]", "[signal]\ngrace = 7.0")
        (tmp_path / "edge.toml").write_text(live)
        said = said.replace("nothing to change", "done")
        assert (await edge(tmp_path, "reload"))[:2] == (0, said)
        (tmp_path / "edge.toml").write_text(good.replace("[relay]", "[relay]\nflows = 1"))
        # The file with the mistake would be the command's, too.
        command = ["reload", "--socket", str(appliance.control_socket)]
        done = await trio.run_process(
            [sys.executable, "-m", "edge", *command], capture_stderr=True, check=False
        )
        assert done.returncode == 75
        assert done.stderr.decode().startswith("nothing was changed: ")


async def test_an_upgrade_keeps_calls_and_the_drain(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 1) as (appliance, calls):
        assert (await edge(tmp_path, "drain", "--deadline", "500"))[0] == 0
        status, text, _ = await edge(tmp_path, "upgrade")
        assert status == 0
        assert text.endswith(" takes over\n")
        await appliance.wait_line("ready: .*", 30)
        found = await wait_status(
            appliance, lambda found: any(one.state == "leaving" for one in found.workers), 30
        )
        assert found.drain is not None
        assert found.drain.deadline is not None
        assert 400 < found.drain.deadline < 500
        assert (await edge(tmp_path, "session", calls[0].session))[0] == 0


async def test_top_without_a_terminal_is_one_picture(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 1):
        status, text, _ = await edge(tmp_path, "top", "--interval", "0.3")
        assert status == 0
        assert "sessions 1 of 2000" in text
        assert "transceiver-1" in text
        command = [sys.executable, "-m", "edge", "top", "--once", "--interval", "0.3"]
        narrow = await trio.run_process(
            [*command, "--config", str(tmp_path / "edge.toml")],
            env={**os.environ, "COLUMNS": "40", "PYTHONIOENCODING": "latin-1"},
            capture_stdout=True,
        )
        assert "sessions 1 of 2000" in narrow.stdout.decode("ascii")


async def test_top_on_a_terminal_ends_with_q(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 1):
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        command = ["top", "--interval", "0.2", "--config", str(tmp_path / "edge.toml")]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "edge", *command],
            stdin=theirs,
            stdout=theirs,
            env={**os.environ, "TERM": "xterm"},
        )
        shown = b""
        with trio.fail_after(20):
            while b"/s" not in shown or shown.count(b"transceiver-1") < 2:
                await trio.lowlevel.wait_readable(ours)
                shown += os.read(ours, 65_536)
            os.write(ours, b"q")
            assert await process.wait() == 0
        assert b"q ends" in shown
        assert termios.tcgetattr(theirs) == before
        os.close(ours)
        os.close(theirs)


async def test_a_list_of_many_sessions_comes_in_pages(tmp_path: Path) -> None:
    """More than a page has, on one worker; and none twice."""
    async with (
        running_appliance(tmp_path, transceivers=1) as appliance,
        trio.open_nursery() as all_,
    ):
        origin = await appliance.origin()
        opened: list[str] = []

        async def call(task_status: trio.TaskStatus[None]) -> None:
            async with calling(origin) as one:
                opened.append(one.session)
                task_status.started()
                await trio.sleep_forever()

        for _ in range(70):
            await all_.start(lambda *, task_status: call(task_status))

        def ask() -> TheSessions:
            with Connection([appliance.control_socket]) as connection:
                listed = connection.ask(AskSessions(limit=SESSIONS_SHOWN_MAX))
            assert isinstance(listed, TheSessions)
            return listed

        listed = await trio.to_thread.run_sync(ask)
        assert [each.id for each in listed.sessions] == opened
        assert listed.silent == []
        all_.cancel_scope.cancel()


async def test_ufrag_inspect(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        status, text, _ = await edge(tmp_path, "ufrag", "inspect", call.ufrag)
        assert status == 0
        assert f"transceiver  {call.session.split('.')[1]}\n" in text
        assert "cluster      1\n" in text


async def refusal(appliance: Appliance) -> tuple[str, str]:
    """Offer a session that is refused; return how."""
    async with signaling(await appliance.origin()) as websocket:
        message = await offer(websocket, new_credentials())
        return message["code"], message["message"]


@pytest.mark.parametrize(
    ("token", "reason"), [("nonsense", "malformed"), ("A" * 24, "unknown-version")]
)
def test_a_ufrag_of_somebody_else(
    token: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_keys(tmp_path / KEY_FILE_NAME, generate_keys(os.urandom))
    assert main(["ufrag", "inspect", token], {"STATE_DIRECTORY": str(tmp_path)}) == 65
    assert f"{token}: not a ufrag of ours: {reason}" in capsys.readouterr().err
