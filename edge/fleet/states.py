"""How much room the other hosts of the fleet have: what they tell, and a table of it in memory.

Every host tells its peers every second. Whichever worker hears it writes it into a table in shared
memory, from which all workers of the host read. As in the load table there is no lock: an entry
that is read while it is written fails its checksum, and counts as absent.

The place of a host's entry follows from its name, with a few places to go on to if others are
there, so that workers that were started with different configurations use one table.

Entry, 48 bytes, in the host's byte order:

| bytes | content |
| --- | --- |
| 0..7 | digest of the host's name |
| 8..15 | float: when it was heard, seconds on the system-wide monotonic clock |
| 16..23 | float: on-time ratio |
| 24..27 | sessions |
| 28..31 | sessions at most |
| 32..35 | room |
| 36..39 | relay workers |
| 40..43 | 1: takes no new sessions any more |
| 44..47 | CRC-32 of bytes 0..43 |
"""

import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2s

import msgspec
from msgspec import Struct

TELL_INTERVAL = 1.0
"""How often a host tells its peers."""
STALE_AFTER = 3.0
"""A host that has told nothing for so long is gone, or nobody can reach it."""
ENTRIES = 8192
"""Twice as many as a fleet may have members."""
PROBES = 16
"""Places that an entry may be in."""

_CHECKED = struct.Struct("@8sddIIIII")
_CHECKSUM = struct.Struct("@I")
_ENTRY_BYTES = _CHECKED.size + _CHECKSUM.size
_DIGEST_BYTES = 8
_COUNT_MAX = (1 << 32) - 1

STATE_TABLE_BYTES = ENTRIES * _ENTRY_BYTES


class HostState(Struct, frozen=True, tag="state"):
    """What a host tells its peers of itself."""

    sessions: int
    sessions_max: int
    """Of its transceiver workers together, as far as they take new sessions; 0 for a host that
    only relays."""
    room: int
    """New sessions that its workers would take now."""
    on_time_ratio: float = 1.0
    """The lowest of its workers'."""
    draining: bool = False
    """It takes no new sessions any more."""
    relays: int = 0
    """Relay workers that run."""


class StateTable:
    """The table: mapped memory of ``STATE_TABLE_BYTES``, zeros at first.

    Times are seconds on a clock that all workers of the host share.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def publish(self, name: str, state: HostState, now: float) -> None:
        """Write what a host has told. Without a free place it stays unknown."""
        digest = _digest(name)
        free: int | None = None
        for at in _places(digest):
            entry = self._read(at)
            if entry is not None and entry[0] == digest:
                free = at
                break
            if free is None and (entry is None or now - entry[1] > STALE_AFTER):
                free = at
        if free is None:
            return
        counts = (state.sessions, state.sessions_max, state.room, state.relays)
        checked = _CHECKED.pack(
            digest,
            now,
            state.on_time_ratio,
            *(min(max(each, 0), _COUNT_MAX) for each in counts),
            state.draining,
        )
        self._memory[free : free + _ENTRY_BYTES] = checked + _CHECKSUM.pack(zlib.crc32(checked))

    def read(self, name: str, now: float) -> HostState | None:
        """Return what a host has told lately; None: nothing."""
        heard = self.heard(name, now)
        return heard[0] if heard is not None else None

    def heard(self, name: str, now: float) -> tuple[HostState, float] | None:
        """Return what a host has told lately, and when."""
        digest = _digest(name)
        for at in _places(digest):
            entry = self._read(at)
            if entry is None or entry[0] != digest:
                continue
            _, heard_at, on_time_ratio, sessions, sessions_max, room, relays, draining = entry
            if now - heard_at > STALE_AFTER:
                return None
            state = HostState(sessions, sessions_max, room, on_time_ratio, bool(draining), relays)
            return state, heard_at
        return None

    def _read(self, at: int) -> tuple[bytes, float, float, int, int, int, int, int] | None:
        entry = bytes(self._memory[at : at + _ENTRY_BYTES])
        if _CHECKSUM.unpack_from(entry, _CHECKED.size)[0] != zlib.crc32(entry[: _CHECKED.size]):
            return None
        digest, *rest = _CHECKED.unpack_from(entry)
        return (digest, *rest) if any(digest) else None


def encode_state(state: HostState) -> bytes:
    """Return the message that tells it."""
    return msgspec.msgpack.encode(state)


def _places(digest: bytes) -> Iterator[int]:
    first = int.from_bytes(digest)
    for step in range(PROBES):
        yield (first + step) % ENTRIES * _ENTRY_BYTES


@lru_cache(maxsize=ENTRIES)
def _digest(name: str) -> bytes:
    return blake2s(name.encode(), digest_size=_DIGEST_BYTES).digest()
