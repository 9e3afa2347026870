"""One WebSocket's conversation with a host of the test's: restarts, resumption, what is left."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, evolve, field
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)

from edge.errors import SdpError, SignalError
from edge.signal.conversation import Conversation
from edge.signal.host import OpenedSession, Report, SessionRequest
from edge.signal.messages import (
    Bye,
    ByeReason,
    Error,
    ErrorCode,
    Layer,
    LayerState,
    State,
    Verdict,
)
from edge.signal.settings import SignalSettings

SETTINGS = SignalSettings(close_timeout=0.5)
ICE_UP = State(layer=Layer.ICE, state=LayerState.CONNECTED, ms=12.5)
REPLACED = Error(code=ErrorCode.REPLACED, message="Another connection has resumed the session.")
SECRET = "s3cret-of-the-session"


@define
class FakeSession:
    id: str
    report: Report
    answer_sdp: str = "first answer"
    secret: str = SECRET
    restarts: list[str] = field(factory=list)
    closed: list[ByeReason] = field(factory=list)
    detached: int = 0
    failure: Exception | None = None
    pause: trio.Event | None = None

    async def restart(self, offer_sdp: str) -> str:
        if self.pause is not None:
            await self.pause.wait()
        if self.failure is not None:
            raise self.failure
        self.restarts.append(offer_sdp)
        return f"answer {len(self.restarts) + 1}"

    def close(self, reason: ByeReason) -> None:
        self.closed.append(reason)

    def detach(self) -> None:
        self.detached += 1


@define
class FakeHost:
    sessions: list[FakeSession] = field(factory=list)
    requests: list[SessionRequest] = field(factory=list)
    failure: Exception | None = None
    pause: trio.Event | None = None
    cancelled: int = 0
    early: tuple[State, ...] = ()
    """What a session reports before it is handed out."""

    async def open_session(self, request: SessionRequest, report: Report) -> OpenedSession:
        self.requests.append(request)
        return await self._hand_out(FakeSession(f"session-{len(self.sessions)}", report))

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        for each in self.sessions:
            if each.id == session and secret == each.secret:
                assert report is not None
                return await self._hand_out(evolve(each, report=report))
        raise SignalError(ErrorCode.UNKNOWN_SESSION, "There is no such session.")

    async def _hand_out(self, session: FakeSession) -> FakeSession:
        try:
            await trio.lowlevel.checkpoint()
            if self.pause is not None:
                await self.pause.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        self.sessions.append(session)
        for state in self.early:
            session.report(state)
        return session


@define
class Talk:
    """A client, and the conversation that the server has with it."""

    client: WebSocketConnection
    stream: trio.abc.Stream
    conversation: Conversation
    over: trio.Event

    async def send(self, **message: object) -> None:
        await self.client.send_message(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        message = json.loads(await self.client.get_message())
        assert isinstance(message, dict)
        return message

    async def open(self, sdp: str = "an offer") -> dict[str, Any]:
        await self.send(type="offer", sdp=sdp)
        return await self.receive()

    async def wait_closed(self) -> int:
        """Return the code that the server closes with; every message until then is dropped."""
        with suppress(ConnectionClosed):
            while True:
                await self.client.get_message()
        assert self.client.closed is not None
        return int(self.client.closed.code)


@asynccontextmanager
async def talking(host: FakeHost, settings: SignalSettings = SETTINGS) -> AsyncIterator[Talk]:
    near, far = trio.testing.memory_stream_pair()
    over = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[Conversation]) -> None:
        async with trio.open_nursery() as inner:
            request = await wrap_server_stream(inner, far)
            websocket = await request.accept()
            conversation = Conversation(websocket, host, settings, 7)
            task_status.started(conversation)
            await conversation.run()
            over.set()
            inner.cancel_scope.cancel()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            clients: list[WebSocketConnection] = []

            async def connect() -> None:
                # Any stream will do, whatever the annotation says.
                client = await wrap_client_stream(nursery, near, "server", "/")  # type: ignore[arg-type]
                clients.append(client)

            nursery.start_soon(connect)
            conversation = await nursery.start(serve)
            await trio.testing.wait_all_tasks_blocked()
            yield Talk(clients[0], near, conversation, over)
            nursery.cancel_scope.cancel()


async def test_a_client_with_a_session_hears_a_heartbeat() -> None:
    host = FakeHost()
    async with talking(host, evolve(SETTINGS, heartbeat_interval=0.05)) as talk:
        with trio.move_on_after(0.3) as quiet:
            await talk.receive()
        assert quiet.cancelled_caught, "there is no session yet"
        assert (await talk.open())["heartbeat"] == 0.05
        for _ in range(3):
            assert await talk.receive() == {"type": "heartbeat"}
        await talk.send(type="bye")
        while (await talk.receive())["type"] == "heartbeat":
            pass
        with trio.move_on_after(0.3) as quiet:
            await talk.receive()
        assert quiet.cancelled_caught, "the session is over"


async def test_the_first_answer_has_the_secret_and_later_ones_do_not() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        assert await talk.open() == {
            "type": "answer",
            "sdp": "first answer",
            "session": "session-0",
            "secret": SECRET,
            "grace": SignalSettings().grace,
            "heartbeat": SignalSettings().heartbeat_interval,
        }
        assert await talk.open("a restart") == {
            "type": "answer",
            "sdp": "answer 2",
            "session": "session-0",
        }
        assert await talk.open("a direction") == {
            "type": "answer",
            "sdp": "answer 3",
            "session": "session-0",
        }
    assert host.sessions[0].restarts == ["a restart", "a direction"]
    assert len(host.requests) == 1


async def test_a_later_offer_that_is_refused_leaves_the_session() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        (session,) = host.sessions
        session.failure = SdpError("codec-changed", "the offer has another codec")
        error = await talk.open("another codec")
        assert error["code"] == "offer-refused"
        assert error["message"] == "The offer is refused: the offer has another codec."
        session.failure = SignalError(ErrorCode.UNKNOWN_SESSION, "It is gone.")
        assert (await talk.open("too late"))["code"] == "unknown-session"
        session.failure = None
        assert (await talk.open("a restart"))["sdp"] == "answer 2"
        assert session.closed == []
        assert session.detached == 0


async def test_an_answer_to_a_session_that_has_ended_meanwhile_is_not_sent() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        (session,) = host.sessions
        session.pause = trio.Event()
        await talk.send(type="offer", sdp="a restart")
        await trio.testing.wait_all_tasks_blocked()
        session.report(Bye(reason=ByeReason.CONSENT_LOST, message="Gone."))
        session.pause.set()
        assert (await talk.receive())["type"] == "bye"
        assert (await talk.open())["session"] == "session-1"


async def test_resume_finds_the_session_and_its_states() -> None:
    host = FakeHost()
    async with talking(host) as first:
        await first.open()
        await first.stream.aclose()  # no close frame: the connection broke
        await first.over.wait()
    assert (host.sessions[0].detached, host.sessions[0].closed) == (1, [])
    host.early = (ICE_UP,)
    async with talking(host) as second:
        await second.send(type="resume", session="session-0", secret=SECRET)
        assert await second.receive() == {"type": "resumed", "session": "session-0"}
        assert (await second.receive())["layer"] == "ice"
        resumed = host.sessions[-1]
        resumed.report(Bye(reason=ByeReason.PEER_CLOSED, message="Gone.", verdict=Verdict.OK))
        bye = await second.receive()
        assert (bye["type"], bye["reason"], bye["verdict"]) == ("bye", "peer-closed", "ok")


async def test_a_resumed_session_can_restart_ice() -> None:
    host = FakeHost()
    async with talking(host) as first:
        await first.open()
    async with talking(host) as second:
        await second.send(type="resume", session="session-0", secret=SECRET)
        await second.receive()
        assert (await second.open("a restart"))["sdp"] == "answer 2"
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    ("session", "secret"), [("session-0", "guess"), ("session-9", SECRET), ("", "")]
)
async def test_resume_without_the_secret_is_refused(session: str, secret: str) -> None:
    host = FakeHost()
    async with talking(host) as owner:
        await owner.open()
        async with talking(host, evolve(SETTINGS, refusals_max=3)) as thief:
            for _ in range(3):
                await thief.send(type="resume", session=session, secret=secret)
                assert (await thief.receive())["code"] == "unknown-session"
            assert (await thief.receive())["code"] == "too-many-refusals"
            assert await thief.wait_closed() == 1008
        assert host.sessions[0].detached == 0


async def test_who_has_a_session_cannot_resume_another() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        await talk.send(type="resume", session="session-0", secret=SECRET)
        assert (await talk.receive())["code"] == "session-exists"


async def test_a_replaced_connection_is_told_and_closed_and_touches_nothing() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        (session,) = host.sessions
        session.report(REPLACED)
        error = await talk.receive()
        assert (error["type"], error["code"]) == ("error", "replaced")
        assert await talk.wait_closed() == 1000
        await talk.over.wait()
    assert session.closed == []
    assert session.detached == 0


@pytest.mark.parametrize("code", [1000, 4000])
async def test_a_closed_websocket_leaves_the_session(code: int) -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        await talk.client.aclose(code)
        await talk.over.wait()
    assert (host.sessions[0].detached, host.sessions[0].closed) == (1, [])


async def test_a_page_that_is_left_ends_its_session() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        await talk.client.aclose(1001)
        await talk.over.wait()
    assert (host.sessions[0].detached, host.sessions[0].closed) == (0, [ByeReason.HANG_UP])


async def test_bye_ends_the_session_and_nothing_is_left_behind() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        await talk.send(type="bye")
        assert (await talk.receive())["reason"] == "hang-up"
    assert (host.sessions[0].detached, host.sessions[0].closed) == (0, [ByeReason.HANG_UP])


async def test_a_stopping_server_leaves_sessions_that_live_elsewhere() -> None:
    host = FakeHost()
    async with talking(host) as talk:
        await talk.open()
        talk.conversation.go_away()
        assert await talk.wait_closed() == 1001
    assert (host.sessions[0].detached, host.sessions[0].closed) == (1, [])


async def test_a_client_that_leaves_while_its_session_is_opened() -> None:
    host = FakeHost(pause=trio.Event())
    async with talking(host) as talk:
        await talk.send(type="offer", sdp="an offer")
        await trio.testing.wait_all_tasks_blocked()
        talk.conversation._give_up()
        await talk.over.wait()
    assert host.cancelled == 1
    assert host.sessions == []


async def test_a_server_that_stops_while_a_session_is_opened() -> None:
    pause = trio.Event()
    host = FakeHost(pause=pause)
    async with talking(host, evolve(SETTINGS, send_timeout=1.0)) as talk:
        await talk.send(type="offer", sdp="an offer")
        await trio.testing.wait_all_tasks_blocked()
        talk.conversation.go_away()
        pause.set()
        assert await talk.wait_closed() == 1001
        await talk.over.wait()
    assert host.cancelled == 1 or host.sessions[0].detached == 1


async def test_states_that_come_before_the_session_come_after_the_answer() -> None:
    host = FakeHost(early=(ICE_UP,))
    async with talking(host) as talk:
        assert (await talk.open())["type"] == "answer"
        assert (await talk.receive())["layer"] == "ice"


async def test_busy_says_when_to_try_again() -> None:
    host = FakeHost(failure=SignalError(ErrorCode.BUSY, "Full.", retry_after=2.5))
    async with talking(host) as talk:
        assert await talk.open() == {
            "type": "error",
            "code": "busy",
            "message": "Full.",
            "retry_after": 2.5,
        }


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    host = FakeHost()
    async with talking(host) as first:
        await first.open()
        async with talking(host) as second:
            await second.send(type="resume", session="session-0", secret=SECRET)
            await second.receive()
            host.failure = RuntimeError("broken")
            async with talking(host) as third:
                await third.send(type="resume", session="session-0", secret=SECRET)
                assert (await third.receive())["code"] == "internal"
    assert "session session-0: resumed" in caplog.text
    assert SECRET not in caplog.text
