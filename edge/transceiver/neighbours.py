"""The accepting worker's end of the internal channel: sessions that other workers own.

A worker connects to another one when it first needs it. What one end sends is read in order there,
and carried out at once. If a connection ends, so has the owner, and its sessions with it: their
signaling is told.
"""

import itertools
import logging
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from edge.errors import AccessError, LocalProtocolError, SdpError, SignalError
from edge.signal.host import Report, SessionRequest, StateReport
from edge.signal.messages import Bye, ByeReason, Error, ErrorCode
from edge.signal.sdp import SdpReason
from edge.transceiver import neighbour_messages as wire
from edge.transceiver.channel import Channel, NeighbourError
from edge.transceiver.residents import HeldReports, unknown_session

logger = logging.getLogger(__name__)

REPLY_TIME = 2.0
"""How long a worker may take to answer."""
REQUESTS_MAX = 1000
"""Requests to one worker that are not answered yet."""


class Neighbour:
    """Another worker of the host. ``start`` runs the task of a connection to it."""

    def __init__(self, path: str, start: Callable[[Callable[[], Awaitable[object]]], None]) -> None:
        self._path = path
        self._start = start
        self._connecting = trio.Lock()
        self._end: _AcceptingEnd | None = None

    @property
    def sessions(self) -> int:
        """What this worker is attached to there."""
        return len(self._end.sessions) if self._end is not None else 0

    async def open_session(self, request: SessionRequest, report: Report) -> "RemoteSession":
        """``SessionHost.open_session`` on that worker.

        Raises:
            SdpError, SignalError, AccessError: as the owner.
            NeighbourError: it does not answer. If it opens the session nevertheless, it ends it.

        """
        end = await self._connected()
        number = end.new_number()
        return await end.attach(wire.Open(number, request), report)

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> "RemoteSession":
        """``SessionHost.attach`` on that worker; errors as those of ``open_session``."""
        end = await self._connected()
        attach = wire.Attach(end.new_number(), session, secret, report is not None)
        return await end.attach(attach, report)

    async def _connected(self) -> "_AcceptingEnd":
        async with self._connecting:
            if self._end is None or self._end.channel.ended:
                try:
                    with trio.fail_after(REPLY_TIME):
                        stream = await trio.open_unix_socket(self._path)
                except (OSError, trio.TooSlowError) as exc:
                    raise NeighbourError(f"cannot connect to {self._path}") from exc
                self._end = _AcceptingEnd(Channel(stream))
                self._start(self._end.run)
            return self._end


@define(eq=False)
class _Awaited:
    came: trio.Event = field(factory=trio.Event)
    reply: wire.Reply | None = None
    """None: the connection has ended."""


class _AcceptingEnd:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.sessions: dict[int, RemoteSession] = {}
        self._numbers = itertools.count(1)
        self._awaited: dict[int, _Awaited] = {}

    def new_number(self) -> int:
        return next(self._numbers)

    async def run(self) -> None:
        """Run the connection to its end, and tell everybody of it."""
        try:
            await self.channel.run(self._take)
        except* Exception:
            logger.exception("the connection to another worker has failed")
        finally:
            for awaited in self._awaited.values():
                awaited.came.set()
            for session in list(self.sessions.values()):
                session.lose()

    async def attach(
        self, request: wire.Open | wire.Attach, report: Report | None
    ) -> "RemoteSession":
        """Have the owner open or find a session."""
        session = RemoteSession(self, request.number, report)
        self.sessions[request.number] = session
        try:
            opened = await self.request(request)
        except BaseException:
            # Whatever the owner does with a request that nobody waits for is undone.
            if isinstance(request, wire.Open):
                session.close(ByeReason.SIGNALING_CLOSED)
            else:
                session.detach()
            raise
        assert isinstance(opened, wire.Opened)  # refusals have been raised
        session.id, session.secret = opened.session, opened.secret
        session.answer_sdp = opened.answer_sdp
        return session

    async def request(self, request: wire.Request) -> wire.Opened | wire.Answered:
        """Ask the owner something and wait for what it says.

        Raises:
            SdpError, SignalError, AccessError: as the owner.
            NeighbourError: it does not answer.

        """
        if len(self._awaited) >= REQUESTS_MAX:
            raise NeighbourError("too many requests to one worker")
        awaited = self._awaited[request.number] = _Awaited()
        try:
            self.channel.send(request)
            if self.channel.ended:
                awaited.came.set()
            with trio.fail_after(REPLY_TIME):
                await awaited.came.wait()
        except trio.TooSlowError as exc:
            raise NeighbourError("another worker does not answer") from exc
        except LocalProtocolError as exc:  # everything else in a request is bounded before
            raise SdpError(SdpReason.TOO_LARGE, "the offer is too long") from exc
        finally:
            del self._awaited[request.number]
        match awaited.reply:
            case None:
                raise NeighbourError("another worker has ended")
            case wire.Refused(_, error, reason, message, retry_after):
                if error == "sdp":
                    raise SdpError(reason, message)
                kind = SignalError if error == "signal" else AccessError
                raise kind(reason, message, retry_after=retry_after)
            case reply:
                return reply

    def _take(self, data: bytes) -> None:
        message = wire.decode_to_accepting(data)
        match message:
            case wire.Told(number, report):
                if (session := self.sessions.get(number)) is not None:
                    session.tell(report)
            case _:
                if (awaited := self._awaited.get(message.number)) is not None:
                    awaited.reply = message
                    awaited.came.set()


class RemoteSession:
    """An ``OpenedSession`` that another worker owns. Its reports are held back until ``begin``."""

    def __init__(self, end: _AcceptingEnd, number: int, report: Report | None) -> None:
        self.id = ""
        self.secret = ""
        self.answer_sdp = ""
        self._end = end
        self._number = number
        self._reports = HeldReports(report or _ignore)
        self._over = False

    def begin(self) -> None:
        """Let the reports flow."""
        self._reports.release()

    def tell(self, report: StateReport) -> None:
        if isinstance(report, Bye | Error):
            self._leave()
        self._reports.tell(report)

    def lose(self) -> None:
        """Its owner has died."""
        text = "the session failed because of a fault of this server"
        self.tell(Bye(reason=ByeReason.INTERNAL, message=text))

    async def restart(self, offer_sdp: str) -> str:
        if self._over:
            raise unknown_session()
        request = wire.Restart(self._end.new_number(), self._number, offer_sdp)
        try:
            answered = await self._end.request(request)
        except NeighbourError as exc:
            if self._over:
                raise unknown_session() from exc
            text = "The session's owner does not answer."
            raise SignalError(ErrorCode.BUSY, text, retry_after=REPLY_TIME) from exc
        self.answer_sdp = answered.answer_sdp
        return answered.answer_sdp

    def close(self, reason: ByeReason) -> None:
        self._stop(wire.Close(self._number, reason))

    def detach(self) -> None:
        self._stop(wire.Detach(self._number))

    def _stop(self, farewell: wire.Close | wire.Detach) -> None:
        if not self._over:
            self._leave()
            self._reports.stop()
            self._end.channel.send(farewell)

    def _leave(self) -> None:
        self._over = True
        self._end.sessions.pop(self._number, None)


def _ignore(_report: StateReport) -> None:
    """Take a report that is nobody's."""
