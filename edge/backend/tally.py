"""What the links of all sessions of a worker do, counted where it happens."""

from collections import Counter
from typing import Final

from edge.histogram import Histogram

CONNECT_BOUNDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds."""
ROUND_TRIP_BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds."""


class LinkTally:
    """Counters that all links of a worker share."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        """Links by their present state; ended ones are not counted."""
        self.connect = Histogram(CONNECT_BOUNDS)
        """How long it took until a connection was open, failed attempts before it included."""
        self.round_trip = Histogram(ROUND_TRIP_BOUNDS)
        """From a ping to its pong."""
        self.failures: Counter[str] = Counter()
        """Attempts and connections that failed, by ``Failure``."""
        self.ends: Counter[str] = Counter()
        """Links that ended by themselves, by ``LinkEnd``."""
        self.messages_sent = 0
        self.messages_received = 0
        self.frames_dropped = 0
        """Sound that was dropped because a backend did not keep up or was not there."""
        self.drops: Counter[str] = Counter()
        """What else was lost, by reason; of links that are over."""
