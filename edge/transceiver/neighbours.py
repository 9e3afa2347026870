"""The accepting worker's end of the internal channel: sessions that other workers own.

A worker connects to another one, or to another host, when it first needs it. What one end sends is
read in order there. If the connection to a worker of the same host ends, so has that one, and its
sessions with it: their signaling is told. The connection to another host may have ended with a
worker that only passed things on, so its sessions are looked for once more before they are lost.
"""

import itertools
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from attrs import define, field

from edge.errors import AccessError, FleetError, LocalProtocolError, SdpError, SignalError
from edge.process import leaves
from edge.signal.host import Report, SessionRequest, StateReport
from edge.signal.messages import Bye, ByeReason, Error, ErrorCode, Layer, State
from edge.signal.sdp import SdpReason
from edge.transceiver import neighbour_messages as wire
from edge.transceiver.attachment import unknown_session
from edge.transceiver.channel import Channel, NeighbourError
from edge.transceiver.held_reports import HeldReports

logger = logging.getLogger(__name__)

REPLY_TIME = 2.0
"""How long a worker may take to answer."""
REQUESTS_MAX = 1000
"""Requests to one worker that are not answered yet."""
REGAINS_MAX = 100
"""Sessions of one lost connection that are looked for at the same time."""

SETTLE_POLL = 0.01
"""How often a connection that is replaced is looked at for what is still under way on it."""

Start = Callable[[Callable[[], Awaitable[object]]], None]
"""Runs a task."""

OWNER_FAILED = Bye(
    reason=ByeReason.INTERNAL,
    message="the session failed because of a fault of this server",
)


class Neighbour:
    """Another worker of the host, or another host.

    ``connect`` makes a connection to it, or raises NeighbourError; ``start`` runs its task. With
    ``regains``, sessions are looked for once more over a new connection when one has ended. What is
    not found is told the ``loss``.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Channel]],
        start: Start,
        *,
        regains: bool = False,
        loss: Bye = OWNER_FAILED,
    ) -> None:
        self._connect = connect
        self._start = start
        self._regains = regains
        self._loss = loss
        self._connecting = trio.Lock()
        self._end: _AcceptingEnd | None = None
        self._former: set[_AcceptingEnd] = set()
        """Replaced, and not ended yet."""
        self._regaining: dict[RemoteSession, None] = {}
        self._regaining_turns = trio.Semaphore(REGAINS_MAX)

    @property
    def sessions(self) -> int:
        """What this worker is attached to there."""
        ends = {self._end, *self._former} if self._end is not None else self._former
        return sum(len(each.sessions) for each in ends) + len(self._regaining)

    def renew(self, *, at_once: bool) -> None:
        """Use a new connection from now on.

        The present one ends when what is under way on it has arrived, or ``at_once``; sessions are
        then looked for over the new one.
        """
        end, self._end = self._end, None
        if end is not None and not end.channel.ended:
            self._former.add(end)
            self._start(end.retire)
        if at_once:
            for each in self._former:
                each.channel.close()

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
                self._end = _AcceptingEnd(await self._connect(), self._lose)
                self._start(partial(self._run, self._end))
            return self._end

    async def _run(self, end: "_AcceptingEnd") -> None:
        try:
            await end.run()
        finally:
            self._former.discard(end)

    def _lose(self, session: "RemoteSession") -> None:
        """Take a session whose connection has ended."""
        if session in self._regaining:
            return  # whoever looks for it finds out
        if not self._regains or not session.id:
            session.tell(self._loss)
            return
        self._regaining[session] = None
        self._start(partial(self._regain, session))

    async def _regain(self, session: "RemoteSession") -> None:
        try:
            async with self._regaining_turns:
                end = await self._connected()
                await end.adopt(session)
        except (NeighbourError, SignalError):
            session.tell(self._loss)
        except Exception:  # it must not end this worker
            logger.exception("a session cannot be looked for")
            session.tell(self._loss)
        finally:
            del self._regaining[session]


@define(eq=False)
class _Awaited:
    came: trio.Event = field(factory=trio.Event)
    reply: wire.Reply | None = None
    """None: the connection has ended."""


class _AcceptingEnd:
    def __init__(self, channel: Channel, lose: Callable[["RemoteSession"], None]) -> None:
        self.channel = channel
        self._lose = lose
        self.sessions: dict[int, RemoteSession] = {}
        self._numbers = itertools.count(1)
        self._awaited: dict[int, _Awaited] = {}

    def new_number(self) -> int:
        return next(self._numbers)

    async def run(self) -> None:
        """Run the connection to its end, and tell everybody of it."""
        try:
            await self.channel.run(self._take)
        except* FleetError as group:
            logger.warning("a connection to another host has failed: %s", leaves(group)[0])
        except* Exception:
            logger.exception("the connection to another worker has failed")
        finally:
            for awaited in self._awaited.values():
                awaited.came.set()
            lost, self.sessions = self.sessions, {}
            for session in lost.values():
                self._lose(session)

    async def retire(self) -> None:
        """End the connection when all that was asked for has been answered and all said is sent."""
        with trio.move_on_after(REPLY_TIME):
            while self._awaited or self.channel.has_unsent:  # noqa: ASYNC110 - once per key
                await trio.sleep(SETTLE_POLL)
        self.channel.close()

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

    async def adopt(self, session: "RemoteSession") -> None:
        """Attach to a session that was reached over another connection.

        Raises:
            SignalError, NeighbourError: it is not there any more.

        """
        number = self.new_number()
        session.move(self, number)
        try:
            await self.request(wire.Attach(number, session.id, None, session.takes_reports))
        except BaseException:
            self.sessions.pop(number, None)
            self.channel.send(wire.Detach(number))
            raise
        session.farewell_again()

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
            case None:
                return
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
        self.takes_reports = report is not None
        self._reports = HeldReports(report)
        self._states: dict[Layer, State] = {}
        self._over = False
        self._farewell: Callable[[int], wire.Close | wire.Detach] | None = None

    def begin(self) -> None:
        """Let the reports flow."""
        self._reports.release()

    def tell(self, report: StateReport) -> None:
        if isinstance(report, State):
            if self._states.get(report.layer) == report:  # told again when it was regained
                return
            self._states[report.layer] = report
        elif isinstance(report, Bye | Error):
            self._leave()
        self._reports.tell(report)

    def move(self, end: _AcceptingEnd, number: int) -> None:
        """Reach its owner over another connection from now on."""
        self._end, self._number = end, number
        end.sessions[number] = self

    def farewell_again(self) -> None:
        """Say to the owner what it could not hear while there was no connection."""
        if self._farewell is not None:
            self._leave()
            self._end.channel.send(self._farewell(self._number))

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
        self._stop(partial(wire.Close, reason=reason))

    def detach(self) -> None:
        self._stop(wire.Detach)

    def _stop(self, farewell: Callable[[int], wire.Close | wire.Detach]) -> None:
        if self._over:
            return
        self._leave()
        self._reports.stop()
        if self._end.channel.ended:
            self._farewell = farewell
        else:
            self._end.channel.send(farewell(self._number))

    def _leave(self) -> None:
        self._over = True
        self._end.sessions.pop(self._number, None)
