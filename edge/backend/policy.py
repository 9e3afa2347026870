"""What a link may do, how it ends, and what becomes of a connection that failed."""

from enum import StrEnum
from typing import Final

from attrs import field, frozen

from edge.errors import BackendError


class LinkEnd(StrEnum):
    """Why a link ended by itself."""

    HUNG_UP = "hung-up"
    """The backend wanted it: a hang-up, or its WebSocket closed with 1000 or 1001."""
    REFUSED = "refused"
    """It does not take us: an HTTP status in answer to the handshake, or its certificate."""
    UNREACHABLE = "unreachable"
    """No connection could be made, in all attempts."""
    LOST = "lost"
    """The connection broke, and could or should not be replaced."""
    PROTOCOL = "protocol"
    """It breaks the rules of WebSocket or of its dialect."""
    CRASHED = "crashed"
    """A fault of ours."""


class Failure(StrEnum):
    """The reasons of a ``BackendError`` that a connection ends with."""

    CLOSED = "closed"
    """In order, by the backend: close code 1000, 1001 or none."""
    LOST = "lost"
    """Reset, ended without a close frame, silent, or closed with another code."""
    TIMEOUT = "time-out"
    UNREACHABLE = "unreachable"
    """Name resolution, TCP or the TLS handshake failed."""
    UNTRUSTED = "untrusted"
    """Its certificate is not valid for its name."""
    REFUSED = "refused"
    """An HTTP status that asking again will not change."""
    UNAVAILABLE = "unavailable"
    """An HTTP status that may be another one soon: 408, 425, 429, 5xx."""
    PROTOCOL = "protocol"


_FINAL: Final[dict[str, LinkEnd]] = {
    Failure.CLOSED: LinkEnd.HUNG_UP,
    Failure.UNTRUSTED: LinkEnd.REFUSED,
    Failure.REFUSED: LinkEnd.REFUSED,
    Failure.PROTOCOL: LinkEnd.PROTOCOL,
}
"""Failures after which a new connection makes no sense."""

STABLE_AFTER: Final = 10.0
"""Seconds that a connection has to last before its loss counts as a new one. So a backend that
accepts and drops connections is tried with growing delays, and not for ever."""


class OnFailure(StrEnum):
    """What a lost connection means."""

    END = "end"
    RECONNECT = "reconnect"


@frozen
class LinkSettings:
    """How to reach a backend. Times in seconds.

    Neither headers nor the URL are in the ``repr``: both may hold keys.
    """

    url: str = field(repr=False)
    """``ws://`` or ``wss://``."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with the handshake, beside those of WebSocket."""
    subprotocol: str | None = None
    """Asked for. A backend that names none is taken all the same, another one is not."""
    ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's."""
    connect_timeout: float = 5.0
    """For one attempt: name resolution, TCP, TLS and WebSocket handshake together."""
    attempts: int = 3
    """Connections to try before the first that works."""
    backoff: float = 0.2
    """Before the second attempt; doubles with each, up to ``backoff_max``, less up to a half."""
    backoff_max: float = 5.0
    on_failure: OnFailure = OnFailure.END
    reconnect_limit: float = 30.0
    """How long to try to replace a lost connection."""
    queue_max: float = 5.0
    """Sound that waits for the backend. Beyond it the oldest is dropped."""
    close_timeout: float = 2.0
    """To deliver what is queued and close in order."""
    ping_interval: float = 20.0
    """Between pings; one that is not answered by the next ends the connection."""


class Retries:
    """Decides whether and when to connect again, since the session or since a loss."""

    def __init__(self, settings: LinkSettings, *, again: bool, now: float) -> None:
        self.again = again
        """A connection was lost: it is about time now, and not about the number of attempts."""
        self._settings = settings
        self._give_up_at = now + settings.reconnect_limit
        self._failed = 0

    def next_delay(self, failure: BackendError, spread: float, now: float) -> float | None:
        """Return how long to wait after a failed attempt; None: give up.

        ``spread``, 0 to 1, keeps links that failed together from coming back together.
        """
        settings = self._settings
        self._failed += 1
        if failure.reason in _FINAL:
            return None
        doubled = settings.backoff * 2.0 ** min(self._failed - 1, 30)
        delay = min(doubled, settings.backoff_max) * (1.0 - spread / 2)
        if self.again:
            return delay if now + delay < self._give_up_at else None
        return delay if self._failed < settings.attempts else None

    def end(self, failure: BackendError) -> LinkEnd:
        """Return what the link ends with when this failure is its last."""
        given_up = LinkEnd.LOST if self.again else LinkEnd.UNREACHABLE
        return end_after(failure) or given_up


def end_after(failure: BackendError) -> LinkEnd | None:
    """Return what the link ends with whatever its settings say; None: they decide."""
    return _FINAL.get(failure.reason)
