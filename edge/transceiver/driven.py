"""One session with what its driver knows about it."""

import math
from collections.abc import Callable

from attrs import define, field, frozen

from edge.control.inspection import MediaFigures
from edge.machine import Address
from edge.transceiver.session import Ended, LayerUp, Session
from edge.trunk.answering import Way

Report = Callable[[LayerUp | Ended], None]


@frozen
class Description:
    """What is known of a session beside its machine."""

    route: str
    codec: str
    made_at: float
    """Seconds on the driver's clock."""
    media: Callable[[], MediaFigures]
    """What its sound has come to so far."""


UNDESCRIBED = Description("", "", 0.0, MediaFigures)


@define(eq=False)
class Driven:
    id: str
    ufrag: bytes
    session: Session
    report: Report
    key_id: int
    """Of the routing key that sealed the ufrag."""
    ufrags: dict[bytes, int] = field()
    """Those that lead here, and their keys: the first one, and others once ICE restarts."""
    addresses: dict[Address, bytes] = field(factory=dict)
    """Bound addresses and their 28 bytes."""
    ways: dict[Address, Way] = field(factory=dict)
    """The ways back to those that are behind another host's relay now."""
    sends_media: bool = False
    """Whether media of its own schedule has been sent."""
    up_after: float = 0.0
    """When the latest of its layers came up, in seconds after it was made."""
    wakes_at: float = math.inf
    """The earliest entry of this session in the driver's timer heap."""
    media_wakes_at: float = math.inf
    """The earliest entry of this session in the pacer's."""
    description: Description = UNDESCRIBED
    backend_up: float | None = None
    """When its backend was there first, seconds after it was made."""
    number: int = 0
    """Sessions of a worker are counted from 1, in the order of their making."""
    paced: int = 0
    """Packets that were due at a time of their own."""
    lateness_sum: float = 0.0
    """Of those packets, seconds."""
    lateness_max: float = 0.0

    @ufrags.default
    def _first_ufrag(self) -> dict[bytes, int]:
        return {self.ufrag: self.key_id}

    def note_lateness(self, lateness: float) -> None:
        """Count a packet that left so many seconds after it was due."""
        self.paced += 1
        self.lateness_sum += lateness
        self.lateness_max = max(self.lateness_max, lateness)
