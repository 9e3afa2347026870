"""A histogram: how many values there were of each size, in memory that does not grow."""

from bisect import bisect_left
from itertools import pairwise


class Histogram:
    """Counts values by upper bounds, ascending; what is above the last has a count of its own."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        assert all(lower < upper for lower, upper in pairwise(bounds))
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """One for each bound, of values up to it and above the one before; and one for the rest."""
        self.total = 0.0
        """The sum of all values."""

    def note(self, value: float) -> None:
        """Count one value, of 0 or more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
