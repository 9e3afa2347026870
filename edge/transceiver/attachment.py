"""One session in its owner, and who is attached to it."""

import math
import secrets
from typing import Protocol

from attrs import define, field

from edge.errors import SignalError
from edge.signal.host import Report, StateReport
from edge.signal.messages import ByeReason, ErrorCode, Layer, State
from edge.transceiver.held_reports import HeldReports
from edge.transceiver.session import EndReason

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


@define(eq=False)
class Resident:
    """A session, and what its owner knows of it."""

    admission: Admission | None
    lasting: bool
    session: OwnedSession = field(init=False)
    id: str = field(init=False, default="")
    secret: str = field(init=False, factory=lambda: secrets.token_urlsafe(SECRET_BYTES), repr=False)
    listener: "Attachment | None" = None
    states: dict[Layer, State] = field(init=False, factory=dict)
    ends_at: float = math.inf
    """The end of the time that it was given."""
    leaves_at: float = math.inf
    """The end of the grace time."""
    foretold: float = math.inf
    """When it will end, as its client was told the last time."""
    over: bool = False


class Attachment:
    """An ``OpenedSession`` in its owner. Its reports are held back until ``begin``.

    One that was replaced, or has been closed or left, has no effect any more.
    """

    def __init__(self, owner: "Owner", resident: Resident, report: Report | None) -> None:
        self._owner = owner
        self.resident = resident
        self._reports = HeldReports(report)
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


class Owner(Protocol):
    """What an attachment needs of the owner of its session."""

    def close(self, attachment: Attachment, reason: ByeReason) -> None:
        """End the session, if the attachment counts."""

    def detach(self, attachment: Attachment) -> None:
        """Leave the session, if the attachment counts."""


def unknown_session() -> SignalError:
    return SignalError(
        ErrorCode.UNKNOWN_SESSION, "There is no such session, or its secret is another."
    )
