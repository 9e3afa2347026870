"""A link to a fake backend over real sockets: connecting, talking, ending."""

import logging
import socket

import pytest
import trio

from edge.backend.link import LinkState
from edge.backend.policy import LinkEnd, OnFailure
from edge.media.dialogue import Digit, Play
from tests.support.fake_backend import (
    Visitor,
    close_with,
    drop,
    fake_backend,
    hang_up_in_handshake,
    never_read,
    record,
    refuse,
    say,
    say_raw,
    speak_garbage,
    speak_http,
    stall_at_once,
    stall_in_handshake,
)
from tests.support.fake_session import frame, linked

# Connecting


async def test_sound_and_commands_go_both_ways() -> None:
    async with fake_backend(say(b"hello", "question")) as backend, linked(backend.url) as session:
        visitor = await backend.visitor()
        await visitor.wait_for("answer to question")
        session.link.hear(frame(1))
        await visitor.wait_for(frame(1).audio)
        assert visitor.messages == ["start", "answer to question", frame(1).audio]
        assert session.commands == [Play("1", b"hello")]
        figures = session.link.statistics()
        assert (figures.state, figures.connects) == (LinkState.OPEN, 1)
        assert (figures.messages_sent, figures.messages_received) == (3, 2)
        assert figures.connect_time is not None
        assert 0.0 < figures.connect_time < 1.0


async def test_the_handshake_has_headers_and_subprotocol() -> None:
    async with (
        fake_backend(record, subprotocol="edge.media.v1") as backend,
        linked(
            backend.url, headers=(("Authorization", "Bearer k"),), subprotocol="edge.media.v1"
        ) as session,
    ):
        await session.wait_until("s.link.state == 'open'")
        request = (await backend.visitor()).request
        assert request is not None
        assert request.path == "/voice?key=SECRET"
        assert request.headers["Authorization"] == "Bearer k"
        assert request.headers["Sec-WebSocket-Protocol"] == "edge.media.v1"
        assert "Sec-WebSocket-Extensions" not in request.headers


async def test_what_is_said_before_the_connection_is_up_arrives() -> None:
    async def slow(visitor: Visitor) -> None:
        await visitor.read_request()
        await trio.sleep(0.1)
        await record(visitor)

    async with fake_backend(slow) as backend, linked(backend.url, queue_max=0.1) as session:
        for number in range(8):
            session.link.hear(frame(number))
        session.link.tell(Digit("5", 0.0))
        visitor = await backend.visitor()
        await visitor.wait_for("Digit")
        assert visitor.messages == ["start", *(frame(n).audio for n in range(3, 8)), "Digit"]
        figures = session.link.statistics()
        assert (figures.frames_dropped, figures.queued) == (3, 0.0)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_is_final(status: int) -> None:
    async with fake_backend(refuse(status)) as backend, linked(backend.url) as session:
        await session.returned.wait()
        assert session.ends == [(LinkEnd.REFUSED, f"HTTP status {status}")]
        assert len(backend.visitors) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_unavailable_backend_is_tried_again(status: int) -> None:
    async with fake_backend(refuse(status), record) as backend, linked(backend.url) as session:
        await session.wait_until("s.link.state == 'open'")
        assert len(backend.visitors) == 2


async def test_attempts_come_to_an_end() -> None:
    async with fake_backend(refuse(503)) as backend, linked(backend.url, attempts=4) as session:
        await session.returned.wait()
        assert session.ends == [(LinkEnd.UNREACHABLE, "HTTP status 503")]
        assert len(backend.visitors) == 4


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with linked(f"ws://127.0.0.1:{taken.getsockname()[1]}/") as session:
            await session.returned.wait()
            assert [end for end, _ in session.ends] == [LinkEnd.UNREACHABLE]


@pytest.mark.parametrize("script", [stall_at_once, stall_in_handshake])
async def test_a_stalled_handshake_times_out(script: object) -> None:
    async with (
        fake_backend(script) as backend,  # type: ignore[arg-type]
        linked(backend.url, connect_timeout=0.1, attempts=2) as session,
    ):
        await session.returned.wait()
        assert session.ends == [(LinkEnd.UNREACHABLE, "no answer in time")]
        assert len(backend.visitors) == 2


async def test_an_end_in_the_handshake_is_tried_again() -> None:
    async with (
        fake_backend(hang_up_in_handshake, record) as backend,
        linked(backend.url) as session,
    ):
        await session.wait_until("s.link.state == 'open'")
        assert len(backend.visitors) == 2


@pytest.mark.parametrize("script", [speak_garbage, speak_http])
async def test_something_that_is_no_websocket_server_is_not_tried_again(script: object) -> None:
    async with fake_backend(script) as backend, linked(backend.url) as session:  # type: ignore[arg-type]
        await session.returned.wait()
        assert [end for end, _ in session.ends] in ([LinkEnd.PROTOCOL], [LinkEnd.REFUSED])
        assert len(backend.visitors) == 1


# Ending


async def test_finish_delivers_the_last_words_and_closes() -> None:
    async with fake_backend(record) as backend, linked(backend.url) as session:
        await session.wait_until("s.link.state == 'open'")
        session.link.hear(frame(1))
        session.link.finish("caller-left")
        session.link.finish("twice")
        session.link.hear(frame(2))
        await session.returned.wait()
        visitor = await backend.visitor()
        await visitor.gone.wait()
        assert visitor.messages == ["start", frame(1).audio, "stop caller-left"]
        assert visitor.close_code == 1000
        assert session.ends == []
        assert session.link.statistics().state is LinkState.CLOSED


async def test_finish_while_connecting_just_ends() -> None:
    async with fake_backend(stall_in_handshake) as backend, linked(backend.url) as session:
        visitor = await backend.visitor()
        while visitor.request is None:
            await trio.sleep(0.002)
        session.link.finish("caller-left")
        await session.returned.wait()
        assert session.ends == []


async def test_finish_does_not_wait_for_a_backend_that_takes_nothing() -> None:
    async with (
        fake_backend(never_read) as backend,
        linked(backend.url, close_timeout=0.1) as session,
    ):
        await session.wait_until("s.link.state == 'open'")
        session.link.finish("caller-left")
        with trio.fail_after(1):
            await session.returned.wait()


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_normal_close_is_the_end_of_the_call(code: int) -> None:
    async with (
        fake_backend(close_with(code)) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT) as session,
    ):
        await session.returned.wait()
        assert session.ends == [(LinkEnd.HUNG_UP, f"closed with {code}")]
        visitor = await backend.visitor()
        await visitor.gone.wait()
        assert visitor.close_code == code


async def test_a_hang_up_is_the_end_of_the_call() -> None:
    async with fake_backend(say("hang-up", "question")) as backend, linked(backend.url) as session:
        await session.returned.wait()
        assert session.ends == [(LinkEnd.HUNG_UP, "enough")]
        visitor = await backend.visitor()
        await visitor.gone.wait()
        assert (visitor.messages, visitor.close_code) == (["start"], 1000)


@pytest.mark.parametrize("script", [close_with(1011), drop])
async def test_a_lost_connection_ends_the_link(script: object) -> None:
    async with fake_backend(script) as backend, linked(backend.url) as session:  # type: ignore[arg-type]
        await session.returned.wait()
        assert [end for end, _ in session.ends] == [LinkEnd.LOST]
        assert len(backend.visitors) == 1


async def test_a_dialect_error_ends_the_link() -> None:
    async with fake_backend(say("bad")) as backend, linked(backend.url) as session:
        await session.returned.wait()
        assert session.ends == [(LinkEnd.PROTOCOL, "it was bad")]
        visitor = await backend.visitor()
        await visitor.gone.wait()
        assert visitor.close_code == 1008


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\xff\xff\xff\xff", 1002, id="garbage"),
        pytest.param(b"\x82\x81abcdx", 1002, id="masked"),
        pytest.param(b"\x80\x01a", 1002, id="continuation of nothing"),
        pytest.param(b"\x82\x7f" + (1 << 40).to_bytes(8), 1009, id="too long"),
        pytest.param(
            b"\x02\x7f" + (1 << 20).to_bytes(8) + bytes(1 << 20) + b"\x80\x01a", 1009, id="in parts"
        ),
        pytest.param(b"\x81\x02\xc3\x28", 1007, id="not UTF-8"),
    ],
)
async def test_broken_websocket_frames_end_the_link(data: bytes, code: int) -> None:
    async with (
        fake_backend(say_raw(data)) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT) as session,
    ):
        await session.returned.wait()
        assert [end for end, _ in session.ends] == [LinkEnd.PROTOCOL]
        visitor = await backend.visitor()
        await visitor.gone.wait()
        assert visitor.close_code == code


async def test_a_message_in_parts_is_put_together() -> None:
    parts = b"\x02\x02he" + b"\x80\x00"[:0] + b"\x89\x01p" + b"\x00\x00" + b"\x80\x03llo"
    async with fake_backend(say_raw(parts)) as backend, linked(backend.url) as session:
        await session.wait_until("s.commands")
        assert session.commands == [Play("1", b"hello")]


@pytest.mark.parametrize("where", ["receive", "hear"])
async def test_a_crash_ends_this_link_only(where: str, caplog: pytest.LogCaptureFixture) -> None:
    scripts = [say("crash") if where == "receive" else record, record]
    async with fake_backend(*scripts) as backend, linked(backend.url) as session:
        if where == "hear":
            await session.wait_until("s.link.state == 'open'")
            session.link.hear(frame(1, b"crash"))
            session.link.hear(frame(1, b"crash"))
        await session.returned.wait()
        assert session.ends == [(LinkEnd.CRASHED, "ValueError")]
        errors = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert len(errors) == 1
        assert "session 1.0.test" in errors[0].getMessage()
        async with linked(backend.url) as other:
            await other.wait_until("s.link.state == 'open'")
            other.link.hear(frame(2))
            await (await backend.visitor(1)).wait_for(frame(2).audio)


async def test_pings_find_out_who_is_dead() -> None:
    async with (
        fake_backend(record, never_read) as backend,
        linked(backend.url, ping_interval=0.1) as alive,
    ):
        await alive.wait_until("s.link.state == 'open'")
        async with linked(backend.url, ping_interval=0.1) as dead:
            await dead.returned.wait()
            assert dead.ends == [(LinkEnd.LOST, "does not answer pings")]
        assert alive.ends == []
        assert (await backend.visitor()).pings > 0


async def test_keys_are_in_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = (("Authorization", "Bearer SECRET"),)
    async with fake_backend(refuse(503), record) as backend:
        async with linked(backend.url, headers=headers) as session:
            await session.wait_until("s.link.state == 'open'")
            session.link.finish("caller-left")
            await session.returned.wait()
        async with (
            fake_backend(refuse(401)) as other,
            linked(other.url, headers=headers) as session,
        ):
            await session.returned.wait()
    ours = [each.getMessage() for each in caplog.records if each.name != "websockets.server"]
    assert "session %s: backend link ended: %s: %s" in [each.msg for each in caplog.records]
    assert "SECRET" not in "".join(ours)
