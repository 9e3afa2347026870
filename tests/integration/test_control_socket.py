"""The control socket: many clients, bad ones, silent ones; and what a command makes of it."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from edge.control.status import Status
from edge.errors import BootError
from edge.operate import server
from edge.operate.client import Connection, ControlError, fetch_status
from edge.operate.protocol import (
    PROTOCOL_VERSION,
    REQUEST_BYTES_MAX,
    Agreed,
    AskSession,
    AskSessions,
    OperatorError,
    OrderDrain,
    OrderReload,
    OrderUndrain,
    RefusalCode,
    Refused,
    Reply,
    Request,
    TheStatus,
    decode_reply,
    decode_request,
    encode_line,
)

STATUS = Status(version="1", uptime=2.0, udp=["u:1"], tcp=[], signaling=[], workers=[])


async def answer(request: Request) -> Reply:
    if isinstance(request, OrderDrain):
        return Agreed(message="draining")
    if isinstance(request, AskSession):
        raise OperatorError(RefusalCode.UNKNOWN_SESSION, f"there is no session {request.session}")
    if isinstance(request, AskSessions):
        await trio.sleep_forever()
    if isinstance(request, OrderUndrain):
        raise KeyError(request)  # a defect of ours
    if isinstance(request, OrderReload):
        return Agreed(message="half a character: \ud83d")  # another one, that encoding finds
    return TheStatus(status=STATUS)


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "run" / "control.sock"
    listener = server.open_control_socket(path)
    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve_operators, listener, answer)
            yield path
            nursery.cancel_scope.cancel()


async def talk(path: Path, *lines: bytes) -> list[Reply]:
    """Say something and return what is answered until the server closes, or has answered all."""
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        for line in lines:
            await stream.send_all(line)
        await stream.send_eof()
        received = b"".join([chunk async for chunk in stream])
    return [decode_reply(line) for line in received.splitlines()]


async def test_requests_are_answered_in_turn(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        lines = encode_line(OrderDrain(deadline=5.0)), encode_line(AskSession(session="1.0.x"))
        replies = await talk(path, *lines, b'{"do":"status"}\n')
    assert replies == [
        Agreed(message="draining"),
        Refused(code=RefusalCode.UNKNOWN_SESSION, message="there is no session 1.0.x"),
        TheStatus(status=STATUS),
    ]


async def test_the_socket_is_for_its_group(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        assert path.stat().st_mode & 0o777 == 0o660
        assert path.parent.stat().st_mode & 0o777 == 0o750


async def test_nonsense_is_refused_and_the_conversation_goes_on(tmp_path: Path) -> None:
    nonsense = [b"\xff\n", b"\n", b"[]\n", b'{"do":"fly"}\n', b'{"do":"drain","deadline":-1}\n']
    nonsense += [b'{"do":"end","session":"\xff\xff"}\n', b"[" * 1990 + b"]" * 1990 + b"\n"]
    async with serving(tmp_path) as path:
        *refused, last = await talk(path, *nonsense, b'{"do":"status","more":"ignored"}\n')
    assert [each.code for each in refused if isinstance(each, Refused)] == ["bad-request"] * 7
    assert last == TheStatus(status=STATUS)


@pytest.mark.parametrize("line", [b'{"do":"undrain"}\n', b'{"do":"reload"}\n'])
async def test_a_defect_ends_one_conversation_only(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as path:
        (refused,) = await talk(path, line, b'{"do":"status"}\n')
        assert isinstance(refused, Refused)
        assert refused.code == "fault"
        assert await talk(path, b'{"do":"status"}\n') == [TheStatus(status=STATUS)]

        def command() -> None:
            with Connection([path]) as connection:
                with pytest.raises(ControlError, match="fault of edge") as caught:
                    connection.ask(OrderUndrain())
                assert caught.value.exit_status == os.EX_SOFTWARE

        await trio.to_thread.run_sync(command)
    (first, _) = (each for each in caplog.records if each.levelname == "ERROR")
    assert first.exc_info is not None


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["without end", "with one"])
async def test_a_line_that_is_too_long_is_refused(tmp_path: Path, end: bytes) -> None:
    async with serving(tmp_path) as path:
        (refused,) = await talk(path, b"x" * (REQUEST_BYTES_MAX + 1) + end)
    assert isinstance(refused, Refused)
    assert refused.code == "bad-request"
    assert "bytes at most" in refused.message


async def test_another_version_is_told_so(tmp_path: Path) -> None:
    line = f'{{"do":"something-new","version":{PROTOCOL_VERSION + 1}}}\n'.encode()
    async with serving(tmp_path) as path:
        (refused,) = await talk(path, line)
    assert isinstance(refused, Refused)
    assert refused.code == "version"


async def test_one_client_too_many_is_sent_away(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        streams = [await trio.open_unix_socket(str(path)) for _ in range(server.CLIENTS_MAX)]
        (refused,) = await talk(path)
        assert isinstance(refused, Refused)
        assert refused.code == "busy"
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(5):
            while (await talk(path, b'{"do":"status"}\n')) != [TheStatus(status=STATUS)]:
                await trio.sleep(0.01)


async def test_a_silent_client_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_TIME", 0.05)
    async with serving(tmp_path) as path:
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            with trio.fail_after(5):
                assert await stream.receive_some(1) == b""


async def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:

        def command() -> None:
            assert fetch_status(path) == STATUS
            with Connection([tmp_path / "none", path], reply_time=0.2) as connection:
                assert connection.path == path
                with pytest.raises(ControlError, match="there is no session x") as caught:
                    connection.ask(AskSession(session="x"))
                assert caught.value.exit_status == os.EX_DATAERR
                with pytest.raises(ControlError, match="no reply in time") as caught:
                    connection.ask(AskSessions())
                assert caught.value.exit_status == os.EX_TEMPFAIL

        await trio.to_thread.run_sync(command)


def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(ControlError, match=f"nobody listens at {path}") as caught:
        fetch_status(path)
    assert caught.value.exit_status == os.EX_UNAVAILABLE
    with server.open_control_socket(path), pytest.raises(BootError, match="already running"):
        server.open_control_socket(path)


async def test_a_socket_that_was_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "old.sock"))
    async with serving(tmp_path) as path:

        def command() -> None:
            with Connection([tmp_path / "old.sock", path]) as connection:
                assert connection.path == path

        await trio.to_thread.run_sync(command)


def test_a_path_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="cannot open the control socket"):
        server.open_control_socket(tmp_path / ("x" * 120) / "control.sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody else")
def test_a_stranger_may_not_ask(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    with server.open_control_socket(directory / "control.sock"):
        # Within a process of its own: users are a matter of processes.
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for parent in directory.parents:
                    if parent.is_relative_to("/tmp"):
                        parent.chmod(parent.stat().st_mode | 0o011)
                os.setgroups([])
                os.setgid(65_534)
                os.setuid(65_534)
                fetch_status(directory / "control.sock")
            except ControlError as exc:
                status = exc.exit_status
            finally:
                os._exit(status)
        _, waited = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(waited) == os.EX_NOPERM


def test_what_was_encoded_decodes_again() -> None:
    for request in (AskSession(session="1.2.abc"), OrderDrain(deadline=1.5), AskSessions(limit=7)):
        assert decode_request(encode_line(request)) == request
