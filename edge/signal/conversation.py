"""One client's WebSocket: messages in, messages out, and the one session they are about.

A session outlives its WebSocket. One that closes or breaks leaves the session without signaling;
its owner keeps it for the grace time, in which another WebSocket may resume it. Only who says
``bye``, or leaves the page (close code 1001), ends the session with it.
"""

import logging
from collections.abc import Awaitable
from functools import partial
from math import inf
from typing import TypeVar, assert_never

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from edge.errors import RedirectError, SdpError, SignalError
from edge.signal.host import OpenedSession, Report, SessionHost, SessionRequest, StateReport
from edge.signal.messages import (
    Answer,
    Bye,
    ByeReason,
    Candidate,
    Error,
    ErrorCode,
    HangUp,
    Heartbeat,
    Offer,
    Redirect,
    Resume,
    Resumed,
    ServerMessage,
    decode_client_message,
    encode_server_message,
)
from edge.signal.settings import SignalSettings
from edge.steering.redirect import websocket_url

logger = logging.getLogger(__name__)

AnsweredT = TypeVar("AnsweredT")

# Close codes of RFC 6455 §7.4.1. 1009, too big, is sent by trio-websocket itself.
NORMAL = 1000
GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


class Conversation:
    """Runs an accepted WebSocket until either side closes it.

    Tasks: a reader, a writer that takes what the others and the session's reports have queued, one
    that pings, one that tells the client that the connection works, and one that waits for a client
    that has had no session for too long.
    """

    def __init__(
        self,
        websocket: WebSocketConnection,
        host: SessionHost,
        settings: SignalSettings,
        number: int,
    ) -> None:
        self.session: OpenedSession | None = None
        """The session that this WebSocket is about."""
        self._websocket = websocket
        self._host = host
        self._settings = settings
        self._number = number
        self._queue, self._queued = trio.open_memory_channel[ServerMessage](settings.reports_max)
        self._scope = trio.CancelScope()
        self._idle = trio.CancelScope()
        self._close_code: int | None = None
        self._refusals = 0
        self._sessions = 0
        self._early: list[StateReport] | None = None
        """What a session reports while it is not known here yet."""

    async def run(self) -> None:
        """Talk until either side closes, then close the WebSocket."""
        self._restart_idle_timer()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._ping)
                    nursery.start_soon(self._send_heartbeats)
                    nursery.start_soon(self._wait_until_idle)
                    await self._write()
                    nursery.cancel_scope.cancel()
        finally:
            self._leave_session()
        self._queue.close()
        self._queued.close()
        assert self._close_code is not None  # set by _finish and _give_up, the two ways out
        with trio.move_on_after(self._settings.close_timeout):
            await self._websocket.aclose(self._close_code)

    def go_away(self) -> None:
        """End the conversation because the server stops; a session elsewhere may be resumed."""
        self._leave_session()
        self._finish(GOING_AWAY)

    async def _read(self) -> None:
        while self._close_code is None:
            try:
                message = await self._websocket.get_message()
            except ConnectionClosed as exc:
                if exc.reason is not None and exc.reason.code == GOING_AWAY:
                    self._end_left_session()
                self._give_up()
                return
            await self._receive(message)

    async def _write(self) -> None:
        async for message in self._queued:
            try:
                with trio.fail_after(self._settings.send_timeout):
                    await self._websocket.send_message(encode_server_message(message))
            except (ConnectionClosed, trio.TooSlowError):
                self._give_up()

    async def _ping(self) -> None:
        while True:
            await trio.sleep(self._settings.ping_interval)
            try:
                with trio.fail_after(self._settings.ping_interval):
                    await self._websocket.ping()
            except (ConnectionClosed, trio.TooSlowError):
                self._give_up()

    async def _send_heartbeats(self) -> None:
        while True:
            await trio.sleep(self._settings.heartbeat_interval)
            if self.session is not None:
                self._send(Heartbeat())

    async def _wait_until_idle(self) -> None:
        with self._idle:
            await trio.sleep_forever()
        self._send(
            Error(code=ErrorCode.IDLE, message="The connection has had no session for too long.")
        )
        self._finish(POLICY_VIOLATION)

    def _restart_idle_timer(self) -> None:
        self._idle.deadline = trio.current_time() + self._settings.idle_timeout

    async def _receive(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._send(
                Error(code=ErrorCode.BINARY_MESSAGE, message="Messages are text, never binary.")
            )
            self._finish(UNSUPPORTED_DATA)
            return
        try:
            decoded = decode_client_message(message)
        except SignalError as exc:
            self._refuse(ErrorCode.MALFORMED_MESSAGE, str(exc))
            return
        match decoded:
            case Offer(sdp=sdp) if self.session is not None:
                await self._renegotiate(self.session, sdp)
            case Offer(sdp=sdp, route=route, metadata=metadata):
                await self._open_session(SessionRequest(sdp, route, metadata or {}))
            case Resume(session=session, secret=secret):
                await self._resume(session, secret)
            case HangUp():
                if self.session is not None:
                    self._end_session(ByeReason.HANG_UP, "The session has ended, as asked.")
            case Candidate():
                pass
            case _:
                assert_never(decoded)

    async def _open_session(self, request: SessionRequest) -> None:
        session = await self._ask(self._host.open_session(request, self._new_report()))
        if session is not None:
            answer = Answer(
                sdp=session.answer_sdp,
                session=session.id,
                secret=session.secret,
                grace=self._settings.grace,
                heartbeat=self._settings.heartbeat_interval,
            )
            self._adopt(session, answer, "opened")

    async def _resume(self, session_id: str, secret: str) -> None:
        if self.session is not None:
            self._refuse(ErrorCode.SESSION_EXISTS, "This connection already has a session.")
            return
        session = await self._ask(self._host.attach(session_id, secret, self._new_report()))
        if session is not None:
            self._adopt(session, Resumed(session=session.id), "resumed")

    async def _renegotiate(self, session: OpenedSession, sdp: str) -> None:
        answer_sdp = await self._ask(session.restart(sdp))
        if answer_sdp is not None and self.session is session:
            self._log("renegotiated", session)
            self._send(Answer(sdp=answer_sdp, session=session.id))

    async def _ask(self, request: Awaitable[AnsweredT]) -> AnsweredT | None:
        """Return what the host answers; None if it refuses or fails, which the client is told."""
        try:
            return await request
        except SdpError as exc:
            self._refuse(ErrorCode.OFFER_REFUSED, f"The offer is refused: {exc}.")
        except RedirectError as exc:
            self._send(Redirect(url=websocket_url(exc.signaling)))
            self._finish(NORMAL)
        except SignalError as exc:
            self._refuse(ErrorCode(exc.reason), str(exc), exc.retry_after)
        except Exception:  # the host's fault: it must not end the server
            logger.exception("connection %d: the session host has failed", self._number)
            self._send(Error(code=ErrorCode.INTERNAL, message="The server has failed."))
            self._finish(INTERNAL_ERROR)
        return None

    def _new_report(self) -> Report:
        """Return what takes the reports of this connection's next session."""
        self._sessions += 1
        self._early = []
        return partial(self._report, self._sessions)

    def _adopt(self, session: OpenedSession, word: ServerMessage, verb: str) -> None:
        """Take a session over, and tell the client of it."""
        self._log(verb, session)
        self.session = session
        if self._close_code is not None:
            self._leave_session()
            return
        self._idle.deadline = inf
        self._send(word)
        early, self._early = self._early or [], None
        for report in early:
            self._report(self._sessions, report)

    def _report(self, number: int, report: StateReport) -> None:
        """Pass on what session ``number`` of this connection reports."""
        if number != self._sessions:
            return
        if self._early is not None:
            if len(self._early) < self._settings.reports_max:
                self._early.append(report)
            return
        if self.session is None:
            return
        self._send(report)
        if isinstance(report, Bye):
            self._forget_session(report.reason)
        elif isinstance(report, Error):  # it goes on elsewhere
            self._forget_session(report.code)
            self._finish(NORMAL)

    def _end_session(self, reason: ByeReason, message: str) -> None:
        session = self.session
        assert session is not None
        self._forget_session(reason)  # first: what it reports while it closes is ignored
        session.close(reason)
        self._send(Bye(reason=reason, message=message))

    def _end_left_session(self) -> None:
        """End the session of a client that has left the page, and its media with it."""
        session = self.session
        if session is not None:
            self._forget_session(ByeReason.HANG_UP)
            session.close(ByeReason.HANG_UP)

    def _leave_session(self) -> None:
        """Leave the session, if it lives, to whoever resumes it."""
        session = self.session
        if session is not None:
            self._forget_session("detached")
            session.detach()

    def _forget_session(self, why: str) -> None:
        if self.session is not None:
            self._log(why, self.session)
        self.session = None
        self._restart_idle_timer()

    def _log(self, what: str, session: OpenedSession) -> None:
        extra = {"session_id": session.id}
        logger.info("connection %d: session %s: %s", self._number, session.id, what, extra=extra)

    def _refuse(self, code: ErrorCode, message: str, retry_after: float | None = None) -> None:
        self._send(Error(code=code, message=message, retry_after=retry_after))
        self._refusals += 1
        if self._refusals >= self._settings.refusals_max:
            self._send(
                Error(code=ErrorCode.TOO_MANY_REFUSALS, message="Too many messages were refused.")
            )
            self._finish(POLICY_VIOLATION)

    def _send(self, message: ServerMessage) -> None:
        try:
            self._queue.send_nowait(message)
        except trio.WouldBlock:
            self._give_up()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # too late: the conversation is over

    def _finish(self, code: int) -> None:
        """Close once everything that is queued has been sent."""
        if self._close_code is None:
            self._close_code = code
            self._queue.close()

    def _give_up(self) -> None:
        """Close now: the client has left, or takes nothing. What is queued is lost."""
        if self._close_code is None:
            self._close_code = POLICY_VIOLATION
        self._scope.cancel()
