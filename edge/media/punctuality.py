"""How punctually a worker sends: the on-time frame ratio and the lateness of all its frames."""

from bisect import bisect_left
from itertools import pairwise

from attrs import frozen

ON_TIME = 0.005
"""A frame that leaves at most this late is on time."""

BUCKETS = (0.001, 0.002, ON_TIME, 0.01, 0.02, 0.05, 0.1)
"""Upper bounds of the histogram's buckets, in seconds; one more bucket is for all above."""

assert all(lower < upper for lower, upper in pairwise(BUCKETS))
_ON_TIME_BUCKETS = BUCKETS.index(ON_TIME) + 1


@frozen
class PunctualityStatistics:
    """A snapshot."""

    frames: int
    """Sent, late or not."""
    skipped: int
    """Frames that were never sent because the worker missed their time by 20 ms or more."""
    on_time_ratio: float
    histogram: tuple[int, ...]
    """Sent frames by lateness, one count for each of ``BUCKETS`` and one for all above."""
    late: float = 0.0
    """Seconds that all of them were late together."""


class Punctuality:
    """Counters that all sessions of a worker share."""

    def __init__(self) -> None:
        self._histogram = [0] * (len(BUCKETS) + 1)
        self._late = 0.0
        self._skipped = 0

    def note(self, lateness: float) -> None:
        """Count a frame that is sent so many seconds after it was due."""
        self._histogram[bisect_left(BUCKETS, lateness)] += 1
        self._late += lateness

    def note_skipped(self, frames: int) -> None:
        """Count frames whose time has passed unused."""
        self._skipped += frames

    @property
    def on_time_ratio(self) -> float:
        """Frames on time by all that were sent or skipped; 1 before the first."""
        due = sum(self._histogram) + self._skipped
        return sum(self._histogram[:_ON_TIME_BUCKETS]) / due if due else 1.0

    def statistics(self) -> PunctualityStatistics:
        return PunctualityStatistics(
            frames=sum(self._histogram),
            skipped=self._skipped,
            on_time_ratio=self.on_time_ratio,
            histogram=tuple(self._histogram),
            late=self._late,
        )
