"""What the RTCP of all sessions of a worker says about the networks between it and its clients.

Every report is a sample: what we say of the client's stream, every 2.5 s, and what the client says
of ours. So a session counts for as long as it lasts, and nobody has to walk over all sessions.
"""

from typing import Final

from edge.histogram import Histogram

JITTER_BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Seconds."""
LOSS_BOUNDS: Final = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Share of the packets of one report interval; reports count in 1/256."""
ROUND_TRIP_BOUNDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
"""Seconds."""
BELIEVED_MAX: Final = 10.0
"""Seconds: a client may report what it likes, but not spoil the sums."""


class Quality:
    """Histograms that all sessions of a worker share."""

    def __init__(self) -> None:
        self.jitter = Histogram(JITTER_BOUNDS)
        """Of the client's stream, here."""
        self.loss = Histogram(LOSS_BOUNDS)
        """Likewise."""
        self.remote_jitter = Histogram(JITTER_BOUNDS)
        """Of our stream, at the client."""
        self.remote_loss = Histogram(LOSS_BOUNDS)
        """Likewise."""
        self.round_trip = Histogram(ROUND_TRIP_BOUNDS)

    def note_reception(self, jitter: float, fraction_lost: float) -> None:
        """Count our report on a stream of the client."""
        self.jitter.note(jitter)
        self.loss.note(fraction_lost)

    def note_report(self, jitter: float, fraction_lost: float, round_trip: float | None) -> None:
        """Count the client's report on our stream, with a round trip if it can tell."""
        self.remote_jitter.note(min(jitter, BELIEVED_MAX))
        self.remote_loss.note(fraction_lost)
        if round_trip is not None:
            self.round_trip.note(min(round_trip, BELIEVED_MAX))
