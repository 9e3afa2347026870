"""When the sessions of a worker have media to send or to miss: one schedule for all of them.

Every deadline is absolute, so that no delay adds up. A session is in the heap for its earliest
deadline; an entry that has become too early is put back when it comes up, which is cheaper than to
move it with every packet that comes in.

A packet counts as sent by the clock as it is when the system call that sent it has returned. To
encode for many sessions takes time, so what is ready does not wait for the rest for long.
"""

import heapq
import itertools
import math
from collections.abc import Callable

from edge.media.punctuality import Punctuality
from edge.transceiver.driven import Driven

FLUSH_INTERVAL = 0.001
"""Seconds that a ready packet may wait for others."""
TURNS_MAX = 4
"""How often one session is asked in a row, so that none can hold the worker."""

Clock = Callable[[], float]


class Pacer:
    """The schedule. ``send`` queues a packet for a session, ``flush`` sends what is queued."""

    def __init__(
        self,
        punctuality: Punctuality,
        clock: Clock,
        send: Callable[[Driven, bytes], None],
        flush: Callable[[], None],
        crash: Callable[[Driven, Exception], None],
    ) -> None:
        self._punctuality = punctuality
        self._clock = clock
        self._send = send
        self._flush = flush
        self._crash = crash
        self._heap: list[tuple[float, int, Driven]] = []
        self._order = itertools.count()
        self._unsent: list[tuple[float, Driven]] = []
        """When the queued packets should have left, and whose they are."""

    def next_wake(self) -> float:
        """When ``fire`` wants to be called next."""
        return self._heap[0][0] if self._heap else math.inf

    def schedule(self, driven: Driven, earliest: float = -math.inf) -> bool:
        """Note when a session wants to be woken; tell whether that is now the first of all."""
        wake = driven.session.next_media()
        if wake is None:
            return False
        wake = max(wake, earliest)
        if wake >= driven.media_wakes_at:
            return False
        driven.media_wakes_at = wake
        entry = (wake, next(self._order), driven)
        heapq.heappush(self._heap, entry)
        return self._heap[0] is entry

    def forget(self, driven: Driven) -> None:
        """The session has ended."""
        kept = [entry for entry in self._heap if entry[2] is not driven]
        heapq.heapify(kept)
        self._heap[:] = kept

    def fire(self, now: float) -> None:
        """Send what is due."""
        heap = self._heap
        began = now
        while heap and heap[0][0] <= now:
            due, _, driven = heapq.heappop(heap)
            if due > driven.media_wakes_at:
                continue  # an earlier entry has already done its work
            driven.media_wakes_at = math.inf
            try:
                self._run(driven, now)
            except Exception as exc:  # noqa: BLE001 - the crash scope of a session
                self._crash(driven, exc)
            if self._unsent and self._clock() - began >= FLUSH_INTERVAL:
                began = self._send_queued()
        if self._unsent:
            self._send_queued()

    def _run(self, driven: Driven, now: float) -> None:
        session = driven.session
        for _ in range(TURNS_MAX):
            wake = session.next_media()
            if wake is None or wake > now:
                break
            paced = session.send_media(now)
            if paced is not None:
                self._send(driven, paced.packet)
                self._unsent.append((paced.due, driven))
        self.schedule(driven, math.nextafter(now, math.inf))

    def _send_queued(self) -> float:
        """Send, count how late each packet was, and return the time."""
        self._flush()
        now = self._clock()
        for due, driven in self._unsent:
            lateness = now - due
            self._punctuality.note(lateness)
            driven.note_lateness(lateness)
        self._unsent.clear()
        return now
