"""Dialect, link and playout queue against a Realtime server as strict as the real one."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from attrs import define, evolve, field
from trio_websocket import (
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from edge.backend.dialect import SessionFacts
from edge.backend.link import Link, LinkState
from edge.backend.policy import LinkEnd, LinkSettings, OnFailure
from edge.backend.realtime import HOLD_MAX, RealtimeDialect
from edge.backend.realtime_settings import DigitPolicy, RealtimeSettings, realtime_url
from edge.backend.tally import LinkTally
from edge.media.dialogue import Clear, Digit, EndItem, ItemEnded, ItemPosition, Play, PlayoutCommand
from edge.media.frames import AudioFrame, Label
from edge.media.payloads import Codec
from edge.media.playout import Playout
from edge.poller import Poller
from tests.support.realtime_conversation import FakeConversation, FakeSettings, tone
from tests.support.realtime_server import RealtimeServer, open_realtime_server

FACTS = SessionFacts(session="s1", route="sales", codec=Codec.OPUS)
SETTINGS = RealtimeSettings(model="gpt-realtime", voice="marin", instructions="Be short.")
FRAME_BYTES = 960
SILENCE = bytes(FRAME_BYTES)
LOUD = tone(0.02)
TIME_LIMIT = 10.0


@define
class Call:
    """A session with a link and a playout. Nothing is sent to the client but by ``play``."""

    dialect: RealtimeDialect
    link: Link = field(init=False)
    playout: Playout = field(init=False)
    appended: bytearray = field(factory=bytearray)
    played: bytearray = field(factory=bytearray)
    ended: list[ItemPosition] = field(factory=list)
    clears: int = 0
    openings: int = 0
    ends: list[tuple[LinkEnd, str]] = field(factory=list)

    async def speak(self, frame: bytes, count: int) -> None:
        """Let the client say so many frames, as fast as they can be sent."""
        for _ in range(count):
            self.appended += frame
            self.link.hear(AudioFrame(Label.RECEIVED, 0.0, 0.02, 0.0, frame, None))
            await trio.lowlevel.checkpoint()

    def play(self, count: int) -> None:
        """Send so many frames of the answer to the client."""
        for _ in range(count):
            frame = self.playout.take()
            assert frame is not None
            self.played += frame.audio
        self._tell()

    async def wait_ready(self) -> None:
        """Wait until the server's ``session.updated`` is here."""
        await wait_until(lambda: self.dialect._is_ready)

    async def wait_queued(self, seconds: float) -> None:
        """Wait until so much of the answer waits to be played."""
        await wait_until(lambda: self.playout.queued >= seconds * 24_000)

    # As a link's control

    def opened(self) -> None:
        self.openings += 1

    def command(self, command: PlayoutCommand) -> None:
        match command:
            case Play(item, audio):
                self.playout.play(item, audio)
            case EndItem(item):
                self.playout.end_item(item)
            case Clear():
                self.clears += 1
                self.playout.clear()
            case _:
                raise AssertionError(command)
        self._tell()

    def end(self, end: LinkEnd, detail: str) -> None:
        self.ends.append((end, detail))

    def _tell(self) -> None:
        while (notice := self.playout.next_notice()) is not None:
            if isinstance(notice, ItemEnded):
                self.ended.append(notice.position)
            self.link.tell(notice)


async def wait_until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(TIME_LIMIT):
        while not is_so():
            await trio.sleep(0.005)


@asynccontextmanager
async def connect(
    url: str, headers: list[tuple[bytes, bytes]] | None = None
) -> AsyncIterator[WebSocketConnection]:
    """Connect, and close the socket in the end whoever closed the WebSocket."""
    parts = urlsplit(url)
    assert parts.port is not None
    resource = f"{parts.path}?{parts.query}" if parts.query else parts.path
    stream = await trio.open_tcp_stream("127.0.0.1", parts.port)
    async with stream, trio.open_nursery() as nursery:
        ws = await wrap_client_stream(
            nursery, stream, parts.netloc, resource, extra_headers=headers or []
        )
        yield ws
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_call(
    server: RealtimeServer, settings: RealtimeSettings = SETTINGS
) -> AsyncIterator[tuple[Call, FakeConversation]]:
    call = Call(RealtimeDialect(settings))
    link_settings = LinkSettings(
        url=realtime_url(server.url, settings.model),
        headers=(("Authorization", f"Bearer {server.settings.key}"),),
        on_failure=OnFailure.RECONNECT,
        backoff=0.01,
        close_timeout=0.2,
    )
    poller = Poller()
    call.link = Link(call.dialect, link_settings, FACTS, call, poller, LinkTally())
    call.playout = Playout(call.dialect.format, 120.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        nursery.start_soon(call.link.run)
        with trio.fail_after(TIME_LIMIT):
            yield call, await server.wait_conversation()
            call.link.finish("hang-up")
            await wait_until(lambda: call.link.state is LinkState.CLOSED)
        nursery.cancel_scope.cancel()


async def test_a_question_and_its_answer() -> None:
    async with open_realtime_server() as server, open_call(server) as (call, conversation):
        await call.speak(LOUD, 25)
        await call.wait_ready()
        await call.speak(SILENCE, 30)
        await wait_until(lambda: call.playout.complete)
        call.play(50)
        assert bytes(call.played) == tone(1.0)
        assert [(each.sent, each.received) for each in call.ended] == [(1.0, None)]
        # Not a sample of the question is lost, not even of what was said before session.updated.
        assert conversation.heard == call.appended
        assert conversation.session["audio"]["output"]["voice"] == "marin"
        assert conversation.session["instructions"] == "Be short."
        assert "model=gpt-realtime" in conversation.path
        assert conversation.received_types() == ["session.update"]
        assert [each.role for each in conversation.items.values()] == ["user", "assistant"]
        assert not conversation.refusals


async def answer_in_progress(call: Call, *, seconds: float) -> None:
    await call.speak(LOUD, 10)
    await call.wait_ready()
    await call.speak(SILENCE, 25)
    await call.wait_queued(seconds)


async def test_an_interruption_truncates_the_answer_at_what_was_heard() -> None:
    settings = FakeSettings(tone=3.0)
    async with open_realtime_server(settings) as server, open_call(server) as (call, conversation):
        await answer_in_progress(call, seconds=3.0)
        call.play(25)
        await call.speak(LOUD, 10)
        truncate = await conversation.wait_for("conversation.item.truncate")
        assert truncate["audio_end_ms"] == 500
        assert call.clears == 1
        assert call.playout.queued == 0
        answer = conversation.responses[0].item
        assert (answer.truncated_ms, answer.text) == (500, "")
        assert bytes(answer.sound) == bytes(call.played)
        await call.speak(SILENCE, 25)
        await call.wait_queued(3.0)
        assert len(conversation.responses) == 2
        assert conversation.received_types() == ["session.update", "conversation.item.truncate"]
        assert not conversation.refusals


async def test_an_interruption_while_the_answer_is_still_being_made() -> None:
    settings = FakeSettings(tone=60.0, speed=10.0)
    async with open_realtime_server(settings) as server, open_call(server) as (call, conversation):
        await answer_in_progress(call, seconds=0.5)
        call.play(10)
        await call.speak(LOUD, 10)
        await conversation.wait_for("conversation.item.truncate")
        (response,) = conversation.responses
        assert response.status == "cancelled"
        assert response.item.truncated_ms == 200
        assert conversation.received_types() == ["session.update", "conversation.item.truncate"]
        assert call.playout.queued == 0
        assert not conversation.refusals


async def test_a_server_that_does_not_interrupt_is_told_to_cancel() -> None:
    extra = {"audio": {"input": {"turn_detection": {"interrupt_response": False}}}}
    ours = evolve(SETTINGS, session=extra)
    settings = FakeSettings(tone=60.0, speed=10.0)
    async with (
        open_realtime_server(settings) as server,
        open_call(server, ours) as (call, conversation),
    ):
        await answer_in_progress(call, seconds=0.5)
        await call.speak(LOUD, 10)
        await conversation.wait_for("conversation.item.truncate")
        assert conversation.received_types() == [
            "session.update",
            "response.cancel",
            "conversation.item.truncate",
        ]
        assert conversation.responses[0].status == "cancelled"
        assert not conversation.refusals


async def test_the_old_names_are_understood() -> None:
    settings = FakeSettings(is_beta=True)
    async with open_realtime_server(settings) as server, open_call(server) as (call, _):
        await answer_in_progress(call, seconds=1.0)
        await wait_until(lambda: call.playout.complete)
        call.play(50)
        assert bytes(call.played) == tone(1.0)


async def test_digits_and_semantic_turn_detection_are_accepted() -> None:
    extra = {
        "audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}},
        "max_output_tokens": 500,
    }
    ours = evolve(SETTINGS, session=extra, digits=DigitPolicy.TEXT)
    async with open_realtime_server() as server, open_call(server, ours) as (call, conversation):
        await wait_until(lambda: call.link.state is LinkState.OPEN)
        call.link.tell(Digit("7", 0.0))
        await conversation.wait_for("conversation.item.create")
        (item,) = conversation.items.values()
        assert (item.role, "7" in item.text) == ("user", True)
        assert not conversation.refusals


async def test_a_setting_that_the_server_does_not_know_ends_the_link() -> None:
    ours = evolve(SETTINGS, session={"audio": {"output": {"pitch": 2}}})
    async with open_realtime_server() as server, open_call(server, ours) as (call, _):
        await wait_until(lambda: bool(call.ends))
        ((end, detail),) = call.ends
        assert end is LinkEnd.PROTOCOL
        assert "pitch" in detail


async def test_errors_and_garbage_of_the_server() -> None:
    async with open_realtime_server() as server, open_call(server) as (call, conversation):
        conversation.fail("server_error", message="Sorry.")
        conversation.emit_raw("no json")
        conversation.emit_raw(b"\0\1\2")
        conversation.emit({"type": "response.output_audio.delta", "item_id": 3})
        conversation.emit({"type": "something.new"})
        await wait_until(lambda: call.dialect.drops["malformed-message"] == 3)
        assert call.dialect.last_error == "server_error: Sorry."
        assert not call.ends
        conversation.fail("insufficient_quota")
        await wait_until(lambda: bool(call.ends))
        ((end, detail),) = call.ends
        assert end is LinkEnd.PROTOCOL
        assert "insufficient_quota" in detail


async def test_a_session_that_has_expired_is_followed_by_another() -> None:
    async with open_realtime_server() as server, open_call(server) as (call, conversation):
        conversation.fail("session_expired")
        await server.wait_conversation(2)
        await wait_until(lambda: call.openings == 2)
        assert not call.ends


async def test_a_new_connection_is_a_new_conversation() -> None:
    settings = FakeSettings(tone=3.0)
    async with open_realtime_server(settings) as server, open_call(server) as (call, first):
        await answer_in_progress(call, seconds=1.0)
        await first.close(1011)
        second = await server.wait_conversation(2)
        await wait_until(lambda: call.link.statistics().connects == 2)
        await call.wait_ready()
        call.play(10)  # of the old answer
        await call.speak(LOUD, 10)
        await wait_until(lambda: call.clears == 1)
        await call.speak(SILENCE, 25)
        await call.wait_queued(1.0)
        assert second.received_types() == ["session.update"]
        assert not second.refusals


async def test_a_server_that_says_nothing_is_spoken_to() -> None:
    settings = FakeSettings(is_silent=True)
    async with open_realtime_server(settings) as server, open_call(server) as (call, conversation):
        await wait_until(lambda: call.link.state is LinkState.OPEN)
        await call.speak(LOUD, round(HOLD_MAX / 0.02) - 1)
        assert call.link.statistics().messages_sent == 1  # session.update
        await call.speak(LOUD, 1)
        assert call.link.statistics().messages_sent == 2
        assert not conversation.received


async def test_a_server_that_stops_reading_is_left_behind() -> None:
    async with open_realtime_server() as server, open_call(server) as (call, conversation):
        await call.speak(SILENCE, 1)
        await call.wait_ready()
        conversation.stall()
        await call.speak(SILENCE, 200)
        await trio.sleep(0.05)
        assert len(conversation.heard) <= 3 * FRAME_BYTES
        assert not call.ends


@pytest.mark.parametrize(
    ("settings", "headers", "path", "status"),
    [
        (FakeSettings(key="k"), [], "/v1/realtime?model=m", 401),
        (FakeSettings(key="k"), [(b"Authorization", b"Bearer wrong")], "/v1/realtime?model=m", 401),
        (FakeSettings(refuse=503), [], "/v1/realtime?model=m", 503),
        (FakeSettings(), [], "/v1/realtime", 404),
        (FakeSettings(), [], "/chat?model=m", 404),
    ],
)
async def test_the_server_refuses_who_has_no_business_there(
    settings: FakeSettings, headers: list[tuple[bytes, bytes]], path: str, status: int
) -> None:
    async with open_realtime_server(settings) as server:
        url = f"ws://127.0.0.1:{server.port}{path}"
        with pytest.RaisesGroup(pytest.RaisesExc(ConnectionRejected)) as caught:
            async with connect(url, headers):
                pass
        (rejection,) = caught.value.exceptions
        assert isinstance(rejection, ConnectionRejected)
        assert rejection.status_code == status


async def exchange(ws: WebSocketConnection, event: Any) -> dict[str, Any]:
    """Send an event and return the server's next one."""
    await ws.send_message(event if isinstance(event, str) else json.dumps(event))
    answer = json.loads(await ws.get_message())
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ("{", "invalid_json"),
        ({"type": "input_audio_buffer.apend", "audio": ""}, "invalid_value"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter"),
        ({"type": "input_audio_buffer.append", "audio": 1}, "invalid_type"),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": "", "x": 1}, "unknown_parameter"),
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
        ({"type": "session.update", "session": {}}, "missing_required_parameter"),
        (
            {
                "type": "session.update",
                "session": {
                    "type": "realtime",
                    "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}},
                },
            },
            "invalid_value",
        ),
        (
            {
                "type": "conversation.item.truncate",
                "item_id": "x",
                "content_index": 0,
                "audio_end_ms": 1,
            },
            "item_truncate_invalid_item_id",
        ),
        (
            {
                "type": "conversation.item.truncate",
                "item_id": "x",
                "content_index": 0,
                "audio_end_ms": 1.5,
            },
            "invalid_type",
        ),
        ({"type": "response.cancel"}, "response_cancel_not_active"),
    ],
)
async def test_the_server_is_strict(event: Any, code: str) -> None:
    async with (
        open_realtime_server() as server,
        connect(realtime_url(server.url, "m")) as ws,
    ):
        assert json.loads(await ws.get_message())["type"] == "session.created"
        answer = await exchange(ws, event)
        assert answer["type"] == "error"
        assert answer["error"]["code"] == code


async def test_the_server_refuses_a_truncation_beyond_the_sound_and_of_the_user() -> None:
    async with open_realtime_server() as server, open_call(server) as (call, conversation):
        await answer_in_progress(call, seconds=1.0)
        for item in list(conversation.items):
            event = {
                "type": "conversation.item.truncate",
                "item_id": item,
                "content_index": 0,
                "audio_end_ms": 1001,
            }
            conversation.take(json.dumps(event))
        assert [each.code for each in conversation.refusals] == [
            "unsupported_content_type",
            "invalid_value",
        ]


async def test_the_server_runs_by_itself() -> None:
    command = [sys.executable, "-m", "tests.support.realtime_server", "--port", "0"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        with trio.fail_after(TIME_LIMIT):
            url = (await process.stdout.receive_some()).decode().strip()
            async with connect(realtime_url(url, "m")) as ws:
                assert json.loads(await ws.get_message())["type"] == "session.created"
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()
