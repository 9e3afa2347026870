"""What a jitter buffer gives out."""

from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    PACKET = "packet"
    COPY = "copy"
    """Another packet's copy of this one (RFC 2198)."""
    QUIET = "quiet"
    """A packet that says that silence begins or goes on."""
    MISSING = "missing"
    """A packet that should have come."""
    SILENCE = "silence"
    """Nothing was sent."""


class Piece(NamedTuple):
    """What happens from ``start`` on, for ``ticks``."""

    kind: Kind
    start: int
    """Media time in ticks."""
    ticks: int
    payload: bytes
    """Of the packet. Of a missing one: the payload of the packet right after it, which may carry a
    copy in its own way, or nothing."""
    extension: tuple[int, bytes] | None
    sequence: int
    """Sequence number, counted on over its wraps."""
    arrival: float
    lateness: float
    """Seconds after the fastest path."""
