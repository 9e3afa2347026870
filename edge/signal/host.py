"""What the signaling server needs of the worker that owns the sessions."""

from collections.abc import Callable
from typing import Protocol

from edge.signal.messages import Bye, ByeReason, State

StateReport = State | Bye
"""What a session tells its client on its own; a Bye is the last of it."""


class OpenedSession(Protocol):
    """A session that was opened through signaling."""

    @property
    def id(self) -> str:
        """Unguessable, and fit for logs."""

    @property
    def answer_sdp(self) -> str: ...

    def close(self, reason: ByeReason) -> None:
        """End the session. Does nothing if it is over; reports from now on are ignored."""


class SessionHost(Protocol):
    """Opens sessions. Everything here is synchronous and quick."""

    def open_session(self, offer_sdp: str, report: Callable[[StateReport], None]) -> OpenedSession:
        """Open a session for an offer.

        ``report`` never blocks and never raises; it may be called from now until the Bye, but not
        from inside this call.

        Raises:
            SdpError: the offer is malformed or refused.
            SignalError: with an ``ErrorCode`` as its reason, ``busy`` as a rule.

        """
