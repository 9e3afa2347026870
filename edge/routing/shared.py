"""Confirmed flows in memory that outlives the relay worker that confirmed them.

The supervisor holds the memory (a memfd), every relay worker maps it. It is a mirror: a worker
looks here only for addresses that its own table does not know, that is after its predecessor's
death or when the kernel has re-hashed the SO_REUSEPORT group, and takes over what it finds.

A hash table with open addressing: a flow may stand in any of the ``PROBES`` slots that begin at its
home, so that a look-up searches one window of memory. There is no lock. Writers may tear each
other's entries; a checksum tells, and a torn entry counts as empty, which costs that flow its
mirror and nothing else.

Workers number owners each in their own way. Here an owner is a cluster and a transceiver in it, so
that it means the same to all workers, and to those of later configurations.

Entry, 44 bytes, little-endian:

| bytes | content |
| --- | --- |
| 0..27 | client address (see sockaddr.py) |
| 28..29 | index of the public socket |
| 30..31 | zero |
| 32..33 | owner: number of the transceiver |
| 34..35 | owner: cluster id |
| 36..39 | when last in use: seconds on the system-wide monotonic clock |
| 40..43 | CRC-32 of bytes 0..35; 0 in an empty entry |
"""

import struct
import zlib
from collections.abc import Callable

_KEY = struct.Struct("<28sHxx")
_OWNER = struct.Struct("<I")
_SEEN = struct.Struct("<I")
_ENTRY = struct.Struct("<28sHxxIII")
_TAIL = struct.Struct("<II")

FORMAT = 2
"""Changes with the table above: a relay worker reads only what has been written like this."""
ENTRY_BYTES = _ENTRY.size
PROBES = 16
_WINDOW_BYTES = PROBES * ENTRY_BYTES
_OWNER_AT, _SEEN_AT = 32, 36
_CHECKED_BYTES = 36


def shared_owner(cluster: int, transceiver: int) -> int:
    """Return the 32 bits that stand for a transceiver in the table."""
    return cluster << 16 | transceiver


def split_owner(shared: int) -> tuple[int, int]:
    """Return (cluster, transceiver number) of what ``shared_owner`` made."""
    return shared >> 16, shared & 0xFFFF


def table_bytes(flows_max: int) -> int:
    """Return the size of a table that holds ``flows_max`` flows at a load of about one half."""
    return (2 * flows_max + PROBES) * ENTRY_BYTES


class FlowMirror:
    """One public socket's flows in the table: mapped memory of ``table_bytes``, zero at first.

    Times are whole seconds. A flow lives ``lifetime`` from when it was last stored or touched.
    ``share`` turns the worker's number of an owner into the 32 bits of the table, and ``take`` does
    the opposite; None: this worker cannot reach that owner.
    """

    def __init__(
        self,
        memory: memoryview,
        public_socket: int,
        lifetime: int,
        share: Callable[[int], int] = int,
        take: Callable[[int], int | None] = int,
    ) -> None:
        self._memory = memory
        self._share = share
        self._take = take
        self._socket = public_socket
        self._homes = len(memory) // ENTRY_BYTES - PROBES + 1
        self._lifetime = lifetime
        self.now = 0
        """The owner sets it, every few seconds."""
        self.full = 0
        """Flows that found no free slot and have no mirror."""

    def find(self, client: bytes) -> int | None:
        """Return the owner of a live flow."""
        offset = self._locate(client)
        if offset is None:
            return None
        return self._take(_OWNER.unpack_from(self._memory, offset + _OWNER_AT)[0])

    def store(self, client: bytes, owner: int) -> None:
        """Write a flow, over its own former entry or into a free or expired slot."""
        offset = self._locate(client)
        if offset is None:
            offset = self._free_slot(client)
        if offset is None:
            self.full += 1
            return
        checked = _KEY.pack(client, self._socket) + _OWNER.pack(self._share(owner))
        entry = checked + _TAIL.pack(self.now, _check(checked))
        self._memory[offset : offset + ENTRY_BYTES] = entry

    def touch(self, client: bytes) -> None:
        """Keep a flow alive."""
        offset = self._locate(client)
        if offset is not None:
            _SEEN.pack_into(self._memory, offset + _SEEN_AT, self.now)

    def remove(self, client: bytes) -> None:
        """Forget a flow."""
        offset = self._locate(client)
        if offset is not None:
            self._memory[offset : offset + ENTRY_BYTES] = bytes(ENTRY_BYTES)

    def _locate(self, client: bytes) -> int | None:
        """Return the offset of a flow's live entry."""
        key = _KEY.pack(client, self._socket)
        home = self._home(key)
        window = bytes(self._memory[home : home + _WINDOW_BYTES])
        at = window.find(key)
        while at >= 0:
            if at % ENTRY_BYTES == 0 and self._is_live(window, at):
                return home + at
            at = window.find(key, at + 1)
        return None

    def _free_slot(self, client: bytes) -> int | None:
        home = self._home(_KEY.pack(client, self._socket))
        window = bytes(self._memory[home : home + _WINDOW_BYTES])
        slots = range(0, _WINDOW_BYTES, ENTRY_BYTES)
        return next((home + at for at in slots if not self._is_live(window, at)), None)

    def _is_live(self, window: bytes, at: int) -> bool:
        seen: int
        check: int
        seen, check = _TAIL.unpack_from(window, at + _SEEN_AT)
        return (
            check != 0
            and self.now - seen <= self._lifetime
            and check == _check(window[at : at + _CHECKED_BYTES])
        )

    def _home(self, key: bytes) -> int:
        return zlib.crc32(key) % self._homes * ENTRY_BYTES


def _check(data: bytes) -> int:
    """Return the checksum of an entry: never 0, which means empty."""
    return zlib.crc32(data) or 1
