"""One client's WebSocket: messages in, messages out, and the one session they are about."""

import logging
from functools import partial
from math import inf
from typing import assert_never

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from edge.errors import SdpError, SignalError
from edge.signal.host import OpenedSession, SessionHost, StateReport
from edge.signal.messages import (
    Answer,
    Bye,
    ByeReason,
    Candidate,
    Error,
    ErrorCode,
    HangUp,
    Offer,
    ServerMessage,
    decode_client_message,
    encode_server_message,
)
from edge.signal.settings import SignalSettings

logger = logging.getLogger(__name__)

# Close codes of RFC 6455 §7.4.1. 1009, too big, is sent by trio-websocket itself.
GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


class Conversation:
    """Runs an accepted WebSocket until either side closes it.

    Three tasks: a reader, a writer that takes what the other two and the session's reports have
    queued, and a pinger. A fourth waits for a client that has had no session for too long.
    """

    def __init__(
        self,
        websocket: WebSocketConnection,
        host: SessionHost,
        settings: SignalSettings,
        number: int,
    ) -> None:
        self.session: OpenedSession | None = None
        """The living session; after ``run`` the one that the client has left behind."""
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

    async def run(self) -> None:
        """Talk until either side closes, then close the WebSocket."""
        self._restart_idle_timer()
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._ping)
                nursery.start_soon(self._wait_until_idle)
                await self._write()
                nursery.cancel_scope.cancel()
        self._queue.close()
        self._queued.close()
        assert self._close_code is not None  # set by _finish and _give_up, the two ways out
        with trio.move_on_after(self._settings.close_timeout):
            await self._websocket.aclose(self._close_code)

    def go_away(self) -> None:
        """End the session and the conversation because the server stops."""
        if self.session is not None:
            self._end_session(ByeReason.GOING_AWAY, "The server is shutting down.")
        self._finish(GOING_AWAY)

    async def _read(self) -> None:
        while self._close_code is None:
            try:
                message = await self._websocket.get_message()
            except ConnectionClosed:
                self._give_up()
                return
            self._receive(message)

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

    async def _wait_until_idle(self) -> None:
        with self._idle:
            await trio.sleep_forever()
        self._send(
            Error(code=ErrorCode.IDLE, message="The connection has had no session for too long.")
        )
        self._finish(POLICY_VIOLATION)

    def _restart_idle_timer(self) -> None:
        self._idle.deadline = trio.current_time() + self._settings.idle_timeout

    def _receive(self, message: str | bytes) -> None:
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
            case Offer(sdp=sdp):
                self._open_session(sdp)
            case HangUp():
                if self.session is not None:
                    self._end_session(ByeReason.HANG_UP, "The session has ended, as asked.")
            case Candidate():
                pass
            case _:
                assert_never(decoded)

    def _open_session(self, sdp: str) -> None:
        if self.session is not None:
            self._refuse(ErrorCode.SESSION_EXISTS, "This connection already has a session.")
            return
        self._sessions += 1
        try:
            session = self._host.open_session(sdp, partial(self._report, self._sessions))
        except SdpError as exc:
            self._refuse(ErrorCode.OFFER_REFUSED, f"The offer is refused: {exc}.")
        except SignalError as exc:
            self._refuse(ErrorCode(exc.reason), str(exc))
        except Exception:  # the host's fault: it must not end the server
            logger.exception("connection %d: cannot open a session", self._number)
            self._send(Error(code=ErrorCode.INTERNAL, message="The server has failed."))
            self._finish(INTERNAL_ERROR)
        else:
            logger.info("connection %d: session %s opened", self._number, session.id)
            self.session = session
            self._idle.deadline = inf
            self._send(Answer(sdp=session.answer_sdp, session=session.id))

    def _report(self, number: int, report: StateReport) -> None:
        """Pass on what session ``number`` of this connection reports."""
        if self.session is None or number != self._sessions:
            return
        self._send(report)
        if isinstance(report, Bye):
            self._forget_session(report.reason)

    def _end_session(self, reason: ByeReason, message: str) -> None:
        session = self.session
        assert session is not None
        self._forget_session(reason)  # first: what it reports while it closes is ignored
        session.close(reason)
        self._send(Bye(reason=reason, message=message))

    def _forget_session(self, reason: ByeReason) -> None:
        if self.session is not None:
            logger.info(
                "connection %d: session %s ended: %s", self._number, self.session.id, reason
            )
        self.session = None
        self._restart_idle_timer()

    def _refuse(self, code: ErrorCode, message: str) -> None:
        self._send(Error(code=code, message=message))
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
