"""How late packets come: the fastest path of late, and how long to wait beyond it.

A packet's *transit* is its time of arrival minus its media time. The two clocks have nothing to do
with each other, so a transit means something only beside another. The lowest one of the last few
seconds stands for the *fastest path*: it forgets, since clocks drift apart (200 ppm are 12 ms in a
minute) and routes change. A packet's *lateness* is its transit beyond that: the part of the
network's delay that varies. A packet that was overtaken is late, too, so reordering needs no
measure of its own.

The *target* is how late a packet has to be to be given up: nearly the greatest lateness in the
last three seconds, and a little more. So it goes up with the first packets of a spike, and is back
down when the last of them is three seconds old.
"""

from bisect import bisect_left, insort
from collections import deque
from math import inf
from typing import Final

FASTEST_PERIOD: Final = 2.0
"""Seconds. The fastest path is the one of this period and the one before."""
LATENESS_PERIOD: Final = 3.0
"""Seconds for which a packet's lateness counts."""
LATENESSES_MAX: Final = 256
"""So many at most, of the latest packets."""
OUTLIERS: Final = 128
"""One packet of so many does not count: the latest."""
MARGIN: Final = 0.005
"""Seconds. What was nearly the greatest lateness so far will be passed by a little."""


class PathDelay:
    """Fastest path and target of one source. Times: seconds; ``now`` on the caller's clock."""

    __slots__ = (
        "_current",
        "_delay_max",
        "_delay_min",
        "_noted",
        "_period_ends",
        "_previous",
        "_sorted",
        "fastest",
        "lateness",
        "target",
    )

    def __init__(self, delay_min: float, delay_max: float) -> None:
        self._delay_min, self._delay_max = delay_min, delay_max
        self.restart()

    def restart(self) -> None:
        """Forget everything: the source's clock or its path is another one."""
        self.fastest = inf
        """Transit of the fastest path: add a media time for the earliest time of arrival."""
        self.lateness = 0.0
        """Of the latest packet."""
        self.target = self._delay_min
        """Lateness to wait for, between the limits."""
        self._current = self._previous = inf
        self._period_ends = -inf
        self._noted: deque[tuple[float, float]] = deque()  # arrival, lateness
        self._sorted: list[float] = []

    def note(self, media_time: float, now: float) -> float:
        """Take a packet's arrival and return its lateness."""
        transit = now - media_time
        if now >= self._period_ends:
            recent = now < self._period_ends + FASTEST_PERIOD
            self._previous = self._current if recent else inf
            self._current = transit
            self._period_ends = now + FASTEST_PERIOD
        elif transit < self._current:
            self._current = transit
        self.fastest = fastest = min(self._current, self._previous)
        self.lateness = lateness = transit - fastest
        noted, ordered = self._noted, self._sorted
        while noted and (noted[0][0] < now - LATENESS_PERIOD or len(noted) >= LATENESSES_MAX):
            del ordered[bisect_left(ordered, noted.popleft()[1])]
        noted.append((now, lateness))
        insort(ordered, lateness)
        count = len(ordered)
        wished = ordered[count - 1 - count // OUTLIERS] + MARGIN
        self.target = min(max(self._delay_min, wished), self._delay_max)
        return lateness

    def shift(self, seconds: float) -> None:
        """Follow media times that are ``seconds`` greater from now on."""
        self._current -= seconds
        self._previous -= seconds
        self.fastest -= seconds
