"""The sessions that one worker owns, as signaling sees them: who is attached, and for how long.

A session has one listener at most, whose signaling gets its reports. One that opens or attaches
takes the place of the one before. Without a listener a session lives for the grace time, unless its
client has said that it keeps no signaling connection.
"""

import hmac
import logging
import math
import secrets
from collections.abc import Callable, Iterator
from typing import Protocol

from attrs import define, field

from edge.errors import SignalError
from edge.signal.host import Report, SessionRequest, StateReport
from edge.signal.messages import Bye, ByeReason, Error, ErrorCode, GoingAway, Layer, State
from edge.transceiver.reports import END_REASONS
from edge.transceiver.session import EndReason

logger = logging.getLogger(__name__)

SECRET_BYTES = 18
"""Of a session's secret, before it is written in Base64."""


class OwnedSession(Protocol):
    """A session that this worker drives."""

    @property
    def id(self) -> str: ...

    @property
    def answer_sdp(self) -> str:
        """The latest answer."""

    def restart(self, offer_sdp: str) -> str:
        """Answer a later offer. Raises SdpError."""

    def end(self, reason: EndReason) -> None:
        """End it. Nothing happens if it has ended."""


class Admission(Protocol):
    """A session's permit."""

    @property
    def max_duration(self) -> float | None:
        """Seconds that it may last."""

    def release(self) -> None:
        """It is over."""

    def withdraw(self) -> None:
        """It has not come to be."""


Make = Callable[[SessionRequest, Report], OwnedSession]
"""Makes a session that reports to the second argument. Raises SdpError or SignalError.
"""

Admit = Callable[[SessionRequest], Admission | None]
"""Lets somebody in, on terms or (None) without. Raises AccessError."""


class HeldReports:
    """Passes reports on, but holds them back until ``release``, so that none is early."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._held: list[StateReport] | None = []

    def tell(self, report: StateReport) -> None:
        if self._held is None:
            self._report(report)
        else:
            self._held.append(report)

    def release(self) -> None:
        """Pass on what was held, and from now on everything at once."""
        held, self._held = self._held or [], None
        for report in held:
            self._report(report)

    def stop(self) -> None:
        """Pass nothing on any more."""
        self._held, self._report = None, _ignore


class Residents:
    """All sessions of a worker.

    ``clock`` tells seconds; ``changed`` is told how many sessions there are whenever that changes.
    """

    def __init__(
        self,
        make: Make,
        admit: Admit,
        grace: float,
        clock: Callable[[], float],
        changed: Callable[[int], None],
    ) -> None:
        self._make = make
        self._admit = admit
        self._grace = grace
        self._clock = clock
        self._changed = changed
        self._living: dict[str, _Resident] = {}
        self._ends_at = math.inf
        self.opened_for_others = 0
        """Sessions that other workers have asked for."""

    def __len__(self) -> int:
        return len(self._living)

    @property
    def detached(self) -> int:
        """Sessions that nobody is attached to."""
        return sum(each.listener is None for each in self._living.values())

    def is_attached(self, session: str) -> bool:
        """Whether signaling is attached to a session."""
        resident = self._living.get(session)
        return resident is not None and resident.listener is not None

    def open(self, request: SessionRequest, report: Report) -> "Attachment":
        """Open a session; its reports wait for the attachment's ``begin``.

        Raises:
            SdpError, SignalError: as ``make``.
            AccessError: as ``admit``.

        """
        admission = self._admit(request)
        resident = _Resident(admission, lasting=request.lasting)
        try:
            session = self._make(request, lambda each: self._tell(resident, each))
        except BaseException:
            if admission is not None:
                admission.withdraw()
            raise
        if resident.over:
            raise SignalError(ErrorCode.INTERNAL, "The session failed at once.")
        resident.session, resident.id = session, session.id
        if admission is not None and admission.max_duration is not None:
            resident.ends_at = self._clock() + admission.max_duration
        self._living[session.id] = resident
        self._changed(len(self._living))
        return self._listen(resident, report)

    def attach(self, session: str, secret: str | None, report: Report | None) -> "Attachment":
        """Attach to a session; ``SessionHost.attach``, but the reports wait for ``begin``.

        Raises:
            SignalError: unknown-session.

        """
        resident = self._living.get(session)
        if resident is None or not (secret is None or _same(secret, resident.secret)):
            raise unknown_session()
        if report is None:
            return Attachment(self, resident, None)
        replaced = resident.listener
        if replaced is not None:
            text = "Another connection has resumed the session."
            replaced.tell(Error(code=ErrorCode.REPLACED, message=text))
            replaced.stop()
        logger.info("session %s: signaling is back", session, extra={"session_id": session})
        attachment = self._listen(resident, report)
        for state in resident.states.values():
            attachment.tell(state)
        if self._ends_at < math.inf:
            attachment.tell(GoingAway(deadline=max(0.0, self._ends_at - self._clock())))
        return attachment

    def go_away(self, grace: float) -> None:
        """Tell the clients of all sessions that these will end within ``grace`` seconds."""
        self._ends_at = min(self._ends_at, self._clock() + grace)
        for resident in self._living.values():
            if resident.listener is not None:
                resident.listener.tell(GoingAway(deadline=grace))

    def tick(self) -> None:
        """End the sessions whose time is over."""
        now = self._clock()
        for resident in self._due(now):
            late = now >= resident.ends_at
            resident.session.end(EndReason.TIME_LIMIT if late else EndReason.CLIENT_GONE)

    def close(self, attachment: "Attachment", reason: ByeReason) -> None:
        """An attachment's ``close``."""
        resident = attachment.resident
        if attachment.counts and not resident.over:
            attachment.stop()
            resident.session.end(END_REASONS[reason])

    def detach(self, attachment: "Attachment") -> None:
        """An attachment's ``detach``."""
        resident = attachment.resident
        if resident.listener is not attachment or resident.over:
            return
        attachment.stop()
        resident.listener = None
        if resident.lasting:
            return
        resident.leaves_at = self._clock() + self._grace
        logger.info(
            "session %s: signaling is gone, %g s of grace",
            resident.id,
            self._grace,
            extra={"session_id": resident.id},
        )
        if not self._grace:
            resident.session.end(EndReason.CLIENT_GONE)

    def _listen(self, resident: "_Resident", report: Report) -> "Attachment":
        resident.leaves_at = math.inf
        resident.listener = attachment = Attachment(self, resident, report)
        return attachment

    def _tell(self, resident: "_Resident", report: StateReport) -> None:
        """Take what a session reports."""
        listener = resident.listener
        if isinstance(report, State):
            resident.states[report.layer] = report
        elif isinstance(report, Bye):
            self._forget(resident)
        if listener is not None:
            listener.tell(report)

    def _forget(self, resident: "_Resident") -> None:
        resident.over = True
        resident.listener = None
        self._living.pop(resident.id, None)
        if resident.admission is not None:
            resident.admission.release()
        self._changed(len(self._living))

    def _due(self, now: float) -> Iterator["_Resident"]:
        for resident in list(self._living.values()):
            if now >= resident.ends_at or now >= resident.leaves_at:
                yield resident


class Attachment:
    """An ``OpenedSession`` in its owner. Its reports are held back until ``begin``.

    One that was replaced, or has been closed or left, has no effect any more.
    """

    def __init__(self, owner: Residents, resident: "_Resident", report: Report | None) -> None:
        self._owner = owner
        self.resident = resident
        self._reports = HeldReports(report or _ignore)
        self._is_visit = report is None
        self.id = resident.id
        self.secret = resident.secret

    @property
    def counts(self) -> bool:
        """Whether the session does as this attachment says."""
        return self._is_visit or self.resident.listener is self

    @property
    def answer_sdp(self) -> str:
        return self.resident.session.answer_sdp

    def begin(self) -> None:
        """Let the reports flow."""
        self._reports.release()

    def tell(self, report: StateReport) -> None:
        self._reports.tell(report)

    def stop(self) -> None:
        """Report nothing any more."""
        self._reports.stop()

    async def restart(self, offer_sdp: str) -> str:
        return self.restart_now(offer_sdp)

    def restart_now(self, offer_sdp: str) -> str:
        """``restart``, which never waits in the session's owner."""
        if not self.counts or self.resident.over:
            raise unknown_session()
        return self.resident.session.restart(offer_sdp)

    def close(self, reason: ByeReason) -> None:
        self._owner.close(self, reason)

    def detach(self) -> None:
        self._owner.detach(self)


def unknown_session() -> SignalError:
    return SignalError(
        ErrorCode.UNKNOWN_SESSION, "There is no such session, or its secret is another."
    )


@define(eq=False)
class _Resident:
    admission: Admission | None
    lasting: bool
    session: OwnedSession = field(init=False)
    id: str = field(init=False, default="")
    secret: str = field(init=False, factory=lambda: secrets.token_urlsafe(SECRET_BYTES), repr=False)
    listener: Attachment | None = None
    states: dict[Layer, State] = field(init=False, factory=dict)
    ends_at: float = math.inf
    """The end of the time that it was given."""
    leaves_at: float = math.inf
    """The end of the grace time."""
    over: bool = False


def _same(shown: str, secret: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), secret.encode())


def _ignore(_report: StateReport) -> None:
    """Take a report that is nobody's."""
