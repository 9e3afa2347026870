"""Which sequence numbers carried how much of which item: what a receiver report says has arrived.

Packets in a row that belong to one item are one *run*, so that a long speech costs no more memory
than a short one.
"""

from collections import deque

from edge.media.item import Item
from edge.rtp.serial import sequence_difference

RUNS_MAX = 512
"""Beyond it the oldest run is forgotten: what it carried is never said to have arrived."""


class _Run:
    """Units of an item's sound, spread evenly over the packets ``first`` to ``last``."""

    __slots__ = ("first", "item", "last", "units")

    def __init__(self, item: Item, units: int, sequence: int) -> None:
        self.item = item
        self.units: float = units
        self.first = self.last = sequence


class Deliveries:
    """What has been sent and not yet reported on. Sequence numbers count on beyond 16 bits."""

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        self._reported = -1

    def note_sent(self, item: Item, units: int, sequence: int) -> None:
        """Remember what a packet carries.

        A frame that was not worth a packet (DTX) is noted with the packet before it.
        """
        if self._runs:
            run = self._runs[-1]
            if run.item is item and sequence - run.last <= 1:
                run.last = sequence
                run.units += units
                return
            if len(self._runs) >= RUNS_MAX:
                self._runs.popleft()
        self._runs.append(_Run(item, units, sequence))

    def note_report(self, highest_sequence: int, fraction_lost: float, last_sent: int) -> bool:
        """Credit the items with what has arrived since the latest report.

        Only the lower 16 bits of ``highest_sequence`` count: how often the client saw them wrap
        depends on which packet it heard first. Returns whether the report is news: False if it
        says no more than the one before, or speaks of packets that were never sent.
        """
        behind = sequence_difference(last_sent & 0xFFFF, highest_sequence & 0xFFFF)
        highest = last_sent - behind
        if behind < 0 or highest <= self._reported:
            return False
        self._reported = highest
        arrived = 1.0 - fraction_lost
        while self._runs and self._runs[0].first <= highest:
            run = self._runs[0]
            item = run.item
            if run.last <= highest:
                item.received = (item.received or 0.0) + run.units * arrived
                self._runs.popleft()
                continue
            share = run.units * (highest + 1 - run.first) / (run.last + 1 - run.first)
            item.received = (item.received or 0.0) + share * arrived
            run.units -= share
            run.first = highest + 1
        return True
