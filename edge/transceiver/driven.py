"""One session with what its driver knows about it."""

import math
from collections.abc import Callable

from attrs import define, field

from edge.machine import Address
from edge.transceiver.session import Ended, LayerUp, Session

Report = Callable[[LayerUp | Ended], None]


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
    sends_media: bool = False
    """Whether media of its own schedule has been sent."""
    wakes_at: float = math.inf
    """The earliest entry of this session in the driver's timer heap."""
    media_wakes_at: float = math.inf
    """The earliest entry of this session in the pacer's."""

    @ufrags.default
    def _first_ufrag(self) -> dict[bytes, int]:
        return {self.ufrag: self.key_id}
