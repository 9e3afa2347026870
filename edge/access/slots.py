"""Hash tables in memory that the workers of a host share.

The supervisor holds the memory (a memfd, zeros at first), every transceiver worker maps it. An
entry has a fixed size and may stand in any of ``PROBES`` slots, which its name decides. Nothing
ever moves. A slot whose entry no longer counts is taken by the next that needs one. In a table that
is half full, one newcomer in 2^16 finds all its slots taken.

Entries are found by a keyed digest of their name, so that nobody outside can choose names that meet
in the same slots, and so that no address or tenant stands in the memory.

Whoever looks up in order to write holds the lock, which other processes respect. It is held for
microseconds. The lock that is passed in gives up when it is not to be had at once: a worker that
was stopped in the middle must not stop the others.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from hashlib import blake2b

from edge.access.reasons import AccessReason, refuse

PROBES = 16
DIGEST_BYTES = 16
HASH_KEY_BYTES_MIN = 16

BUSY_RETRY = 1.0
"""When to try again if the lock was not to be had or all slots are taken."""

Lock = Callable[[], AbstractContextManager[object]]
"""Keeps other processes out; entering raises TimeoutError if another one stays for too long."""


def slots_bytes(entries_max: int, entry_bytes: int) -> int:
    """Return the size of a table that is at most half full with ``entries_max`` entries."""
    slots = max(PROBES, 2 * entries_max)
    return (1 << (slots - 1).bit_length()) * entry_bytes


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Hold the lock.

    Raises:
        AccessError: access-busy: it was not to be had.

    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock())
        except TimeoutError as exc:
            raise refuse(AccessReason.ACCESS_BUSY, retry_after=BUSY_RETRY) from exc
        yield


class SlotTable:
    """Says where entries may stand. The first ``DIGEST_BYTES`` of an entry are its digest."""

    def __init__(self, memory: memoryview, entry_bytes: int, hash_key: bytes) -> None:
        assert len(hash_key) >= HASH_KEY_BYTES_MIN
        self.memory = memory
        self.entry_bytes = entry_bytes
        self._hash_key = hash_key
        self._slots = len(memory) // entry_bytes  # a power of two

    def digest(self, name: str) -> bytes:
        return blake2b(name.encode(), digest_size=DIGEST_BYTES, key=self._hash_key).digest()

    def places(self, digest: bytes) -> list[int]:
        """Return the offsets of the slots where an entry may stand, all different."""
        first = int.from_bytes(digest[:8], "big")
        step = int.from_bytes(digest[8:], "big") | 1
        return [
            (first + number * step) % self._slots * self.entry_bytes for number in range(PROBES)
        ]

    def find(self, digest: bytes) -> int | None:
        """Return the offset of an entry, whether it still counts or not."""
        for at in self.places(digest):
            if self.memory[at : at + DIGEST_BYTES] == digest:
                return at
        return None
