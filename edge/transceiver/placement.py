"""Which worker of the host a new session goes to: the one with the least sessions for its size.

A worker that is full, draining, or late with its frames takes none, and neither does one whose slot
in the load table is stale. Of several that are equal it is the worker that asks, as that is one hop
less, or else the next behind it, so that workers that ask at the same time take different ones.
Sessions that were asked for and are not opened yet count, so that a burst of offers spreads.
"""

from collections import Counter
from collections.abc import Callable, Collection

from edge.fleet.states import HostState
from edge.media.punctuality import PunctualityStatistics
from edge.transceiver.load import Load, LoadTable, OnTimeWindow, host_state


class Placement:
    """One worker's own load, and its view of the others'.

    ``clock`` tells seconds and is one that all workers share.
    """

    def __init__(
        self,
        table: LoadTable,
        worker: int,
        *,
        sessions_max: int,
        on_time_min: float,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._worker = worker
        self._sessions_max = sessions_max
        self._on_time_min = on_time_min
        self._clock = clock
        self._sessions = 0
        self._on_time = OnTimeWindow()
        self.draining = False
        """It takes no new sessions, any more or yet."""
        self.paused = False
        """The operator wants no new sessions here."""
        self.pending: Counter[int] = Counter()
        """Sessions that this worker has asked for, by the worker that is to open them."""

    @property
    def load(self) -> Load:
        """Return the load of the worker itself."""
        draining = self.draining or self.paused
        return Load(self._sessions, self._sessions_max, self._on_time.ratio, draining=draining)

    @property
    def has_room(self) -> bool:
        """Whether the worker itself may be given another session."""
        return self._takes_more(self.load)

    def note_sessions(self, sessions: int) -> None:
        """Tell everybody how many sessions the worker has now."""
        self._sessions = sessions
        self._publish()

    def note_frames(self, counted: PunctualityStatistics) -> None:
        """Tell everybody how punctual the worker is, and that it lives; to be called often."""
        self._on_time.note(counted, self._clock())
        self._publish()

    def drain(self) -> None:
        """Take no new sessions any more, and tell everybody."""
        self.draining = True
        self._publish()

    def open(self) -> None:
        """Take new sessions, and tell everybody."""
        self.draining = False
        self._publish()

    def has_worker(self, worker: int) -> bool:
        """Whether a worker is to be expected in a slot, even if it does not answer now."""
        return 0 <= worker < self._table.workers and not self._table.is_empty(worker)

    def pause(self, *, paused: bool) -> None:
        """Take no new sessions for as long as that is wanted, and tell everybody."""
        self.paused = paused
        self._publish()

    def of_host(self) -> HostState:
        """Return what the workers of the host have together."""
        return host_state(self._table, self._clock(), self._on_time_min)

    def choose(self, tried: Collection[int]) -> int | None:
        """Return the worker to ask, none of those ``tried``; None if nobody is left."""
        best: tuple[float, int] | None = None
        workers, now = self._table.workers, self._clock()
        for distance in range(workers):
            worker = (self._worker + distance) % workers
            if worker in tried:
                continue
            load = self._table.read(worker, now) if distance else self.load
            if load is None or not self._takes_more(load):
                continue
            fullness = (load.sessions + self.pending[worker]) / load.sessions_max
            if fullness < 1 and (best is None or fullness < best[0]):
                best = fullness, worker
        return best[1] if best is not None else None

    def _takes_more(self, load: Load) -> bool:
        return load.room(self._on_time_min) > 0

    def _publish(self) -> None:
        self._table.publish(self._worker, self.load, self._clock())
