"""How busy the transceiver workers of a host are: a table in shared memory.

The supervisor holds the memory (a memfd), every transceiver worker maps it, writes its own slot and
reads all of them. There is no lock: a slot that is read while it is being written fails its
checksum, and is read again. Writing takes about a microsecond, so one that fails a few times in a
row has no writer any more: it was torn by a worker that died, and counts as absent.

Slot, 32 bytes, in the host's byte order:

| bytes | content |
| --- | --- |
| 0..7 | float: when it was written, seconds on the system-wide monotonic clock |
| 8..15 | float: on-time ratio of the last seconds |
| 16..19 | sessions |
| 20..23 | sessions at most |
| 24..27 | 1: takes no new sessions any more |
| 28..31 | CRC-32 of bytes 0..27 |
"""

import struct
import zlib
from collections import deque

from attrs import frozen

from edge.fleet.states import HostState
from edge.media.punctuality import BUCKETS, ON_TIME, PunctualityStatistics

PUBLISH_INTERVAL = 0.25
"""How often a worker writes its slot, at least."""
STALE_AFTER = 1.0
"""A slot that is older is of a worker that has ended, or does not get to it any more."""
ON_TIME_SPAN = 5.0
"""The on-time ratio is that of the frames of so many seconds."""
FRAMES_MIN = 1000
"""With fewer frames in that time the missing ones count as on time: those of four calls. A pause
that makes half of a single call's few frames late is not the calls' doing."""

_CHECKED = struct.Struct("@ddIII")
_CHECKSUM = struct.Struct("@I")
_SLOT_BYTES = _CHECKED.size + _CHECKSUM.size
_READS_MAX = 4


@frozen
class Load:
    """One worker's."""

    sessions: int
    sessions_max: int
    on_time_ratio: float = 1.0
    """Of the last seconds."""
    draining: bool = False
    """It takes no new sessions any more."""

    def room(self, on_time_min: float) -> int:
        """Return how many more sessions it takes now, if it is to be as punctual as that."""
        if self.draining or self.on_time_ratio < on_time_min:
            return 0
        return max(self.sessions_max - self.sessions, 0)


def load_table_bytes(workers: int) -> int:
    """Return the size of the table of so many workers."""
    return workers * _SLOT_BYTES


class LoadTable:
    """The table: mapped memory of ``load_table_bytes``, zeros at first.

    Times are seconds on a clock that all workers share.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.workers = len(memory) // _SLOT_BYTES

    def publish(self, worker: int, load: Load, now: float) -> None:
        """Write a worker's slot. Only that worker may."""
        checked = _CHECKED.pack(
            now, load.on_time_ratio, load.sessions, load.sessions_max, load.draining
        )
        at = worker * _SLOT_BYTES
        self._memory[at : at + _SLOT_BYTES] = checked + _CHECKSUM.pack(zlib.crc32(checked))

    def clear(self, worker: int) -> None:
        """Empty a slot whose worker has ended for good."""
        at = worker * _SLOT_BYTES
        self._memory[at : at + _SLOT_BYTES] = bytes(_SLOT_BYTES)

    def is_empty(self, worker: int) -> bool:
        """Whether nobody works in a slot. One whose worker has crashed is not empty."""
        at = worker * _SLOT_BYTES
        return not any(self._memory[at : at + _SLOT_BYTES])

    def read(self, worker: int, now: float) -> Load | None:
        """Return a worker's load; None if it has none that is fresh and whole."""
        at = worker * _SLOT_BYTES
        for _ in range(_READS_MAX):
            slot = bytes(self._memory[at : at + _SLOT_BYTES])
            if _CHECKSUM.unpack_from(slot, _CHECKED.size)[0] == zlib.crc32(slot[: _CHECKED.size]):
                written_at, on_time_ratio, sessions, sessions_max, draining = _CHECKED.unpack_from(
                    slot
                )
                if now - written_at > STALE_AFTER:
                    return None
                return Load(sessions, sessions_max, on_time_ratio, bool(draining))
        return None


def host_state(table: LoadTable, now: float, on_time_min: float, *, relays: int = 0) -> HostState:
    """Return what the workers of the host have together. Those that drain count for nothing."""
    loads = [each for slot in range(table.workers) if (each := table.read(slot, now)) is not None]
    taking = [each for each in loads if not each.draining]
    return HostState(
        sessions=sum(each.sessions for each in taking),
        sessions_max=sum(each.sessions_max for each in taking),
        room=sum(each.room(on_time_min) for each in taking),
        on_time_ratio=min((each.on_time_ratio for each in taking), default=1.0),
        draining=bool(loads) and not taking,
        relays=relays,
    )


class OnTimeWindow:
    """The on-time ratio of the last seconds, from counters that only grow."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque([(-ON_TIME_SPAN, 0, 0)])
        self.ratio = 1.0

    def note(self, counted: PunctualityStatistics, now: float) -> None:
        """Take the counters as they are ``now``."""
        due = counted.frames + counted.skipped
        punctual = zip(BUCKETS, counted.histogram, strict=False)  # one bucket is for all above
        late = due - sum(frames for bound, frames in punctual if bound <= ON_TIME)
        samples = self._samples
        samples.append((now, due, late))
        while len(samples) > 1 and samples[1][0] <= now - ON_TIME_SPAN:
            samples.popleft()
        _, due_before, late_before = samples[0]
        self.ratio = 1 - (late - late_before) / max(due - due_before, FRAMES_MIN)
