"""When the sessions of a worker want to be woken: one heap of time-outs for all of them.

A session is in it for its earliest time-out; an entry that an earlier one has replaced is passed
over when it comes up, which is cheaper than to move it.
"""

import heapq
import itertools
import math
from collections.abc import Iterator

from edge.transceiver.driven import Driven


class Timers:
    """Times: seconds on the caller's monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Driven]] = []
        self._order = itertools.count()

    def next_wake(self) -> float:
        """When the first time-out is due."""
        return self._heap[0][0] if self._heap else math.inf

    def schedule(self, driven: Driven, timeout: float) -> bool:
        """Note a session's time-out; tell whether its is now the first of all."""
        if timeout >= driven.wakes_at:
            return False
        driven.wakes_at = timeout
        heapq.heappush(self._heap, (timeout, next(self._order), driven))
        return self._heap[0][2] is driven

    def take_due(self, now: float) -> Iterator[Driven]:
        """Yield the sessions whose time-outs are due. What they schedule meanwhile counts too."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, driven = heapq.heappop(heap)
            if due > driven.wakes_at:
                continue  # an earlier entry has already done its work
            driven.wakes_at = math.inf
            yield driven

    def forget(self, driven: Driven) -> None:
        """Keep no ended session alive until its last time-out would have come."""
        kept = [entry for entry in self._heap if entry[2] is not driven]
        heapq.heapify(kept)
        self._heap[:] = kept
