"""The sessions that one worker owns, as signaling sees them: who is attached, and for how long.

A session has one listener at most, whose signaling gets its reports. One that opens or attaches
takes the place of the one before. Without a listener a session lives for the grace time, unless its
client has said that it keeps no signaling connection.

Who listens is told when all sessions will end: because the worker has handed over or stops, or
because an operator ends them, whichever is earlier. The latter may be taken back.
"""

import hmac
import logging
import math
from collections.abc import Callable, Iterator

from edge.errors import SignalError
from edge.signal.host import Report, SessionRequest, StateReport
from edge.signal.messages import (
    Bye,
    ByeReason,
    Error,
    ErrorCode,
    GoingAway,
    State,
    Staying,
)
from edge.transceiver.attachment import (
    Admission,
    Attachment,
    OwnedSession,
    Resident,
    unknown_session,
)
from edge.transceiver.reports import END_REASONS
from edge.transceiver.session import EndReason

logger = logging.getLogger(__name__)

Make = Callable[[SessionRequest, Report], OwnedSession]
"""Makes a session that reports to the second argument. Raises SdpError or SignalError.
"""

Admit = Callable[[SessionRequest], Admission | None]
"""Lets somebody in, on terms or (None) without. Raises AccessError."""


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
        self._living: dict[str, Resident] = {}
        self._leaves_at = math.inf
        self._drained_at = math.inf
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

    def open(self, request: SessionRequest, report: Report) -> Attachment:
        """Open a session; its reports wait for the attachment's ``begin``.

        Raises:
            SdpError, SignalError: as ``make``.
            AccessError: as ``admit``.

        """
        admission = self._admit(request)
        resident = Resident(admission, lasting=request.lasting)
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
        attachment = self._listen(resident, report)
        self._foretell(resident)
        return attachment

    def attach(self, session: str, secret: str | None, report: Report | None) -> Attachment:
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
        self._foretell(resident)
        return attachment

    def leave(self, ends_at: float) -> None:
        """Tell the clients of all sessions that the worker ends then. Only sooner is news."""
        self._leaves_at = min(self._leaves_at, ends_at)
        self._foretell_all()

    def drain(self, ends_at: float | None) -> None:
        """Tell the clients of all sessions that an operator ends them then; None: no more."""
        self._drained_at = math.inf if ends_at is None else ends_at
        self._foretell_all()

    def tick(self) -> None:
        """End the sessions whose time is over."""
        now = self._clock()
        for resident in self._due(now):
            late = now >= resident.ends_at
            resident.session.end(EndReason.TIME_LIMIT if late else EndReason.CLIENT_GONE)

    def close(self, attachment: Attachment, reason: ByeReason) -> None:
        """An attachment's ``close``."""
        resident = attachment.resident
        if attachment.counts and not resident.over:
            attachment.stop()
            resident.session.end(END_REASONS[reason])

    def detach(self, attachment: Attachment) -> None:
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

    @property
    def _end_at(self) -> float:
        """When all sessions will end, as far as it is known."""
        return min(self._leaves_at, self._drained_at)

    def _foretell_all(self) -> None:
        for resident in self._living.values():
            if resident.foretold != self._end_at:
                self._foretell(resident)

    def _foretell(self, resident: Resident) -> None:
        """Tell who listens when the session will end; that it stays only to who thinks not."""
        listener = resident.listener
        if listener is None:
            return
        if self._end_at < math.inf:
            listener.tell(GoingAway(deadline=max(0.0, self._end_at - self._clock())))
        elif resident.foretold < math.inf:
            listener.tell(Staying())
        resident.foretold = self._end_at

    def _listen(self, resident: Resident, report: Report) -> Attachment:
        resident.leaves_at = math.inf
        resident.listener = attachment = Attachment(self, resident, report)
        return attachment

    def _tell(self, resident: Resident, report: StateReport) -> None:
        """Take what a session reports."""
        listener = resident.listener
        if isinstance(report, State):
            resident.states[report.layer] = report
        elif isinstance(report, Bye):
            self._forget(resident)
        if listener is not None:
            listener.tell(report)

    def _forget(self, resident: Resident) -> None:
        resident.over = True
        resident.listener = None
        self._living.pop(resident.id, None)
        if resident.admission is not None:
            resident.admission.release()
        self._changed(len(self._living))

    def _due(self, now: float) -> Iterator[Resident]:
        for resident in list(self._living.values()):
            if now >= resident.ends_at or now >= resident.leaves_at:
                yield resident


def _same(shown: str, secret: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), secret.encode())
