"""A host with transceivers as it stands in Redis: where it takes frames, and how busy it is.

Body, big-endian:

| bytes | content |
| --- | --- |
| 0 | version 1 |
| 1..2 | cluster |
| 3 | number of the host in its cluster |
| 4..11 | when it was written, unix milliseconds |
| 12 | IP version, 4 or 6 |
| 13..28 | address; IPv4 in the first 4 bytes |
| 29..30 | UDP port of slot 0 for frames; slot s has this one + s |
| 31 | number of slots that follow, 11 bytes each |

Slot: number (1 byte), 1 if it takes no new sessions (1), sessions (4), sessions at most (4),
on-time ratio in half percents (1).
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, TypeGuard

from attrs import frozen

from edge.directory.signing import SIGNED_BYTES, Signer
from edge.errors import StoreError
from edge.routing.numbers import SLOTS_MAX

_HEAD = struct.Struct(">BHBQB16sHB")
_SLOT = struct.Struct(">BBIIB")
_VERSION = 1
_RATIO_UNITS = 200
_COUNT_MAX = 0xFFFF_FFFF
_PORT_MAX = 65_535
_FIELD = re.compile(rb"\d{1,5}\.\d{1,3}")

ENTRY_BYTES_MAX = SIGNED_BYTES + _HEAD.size + SLOTS_MAX * _SLOT.size
"""Of a host's value."""


class HostName(NamedTuple):
    """Which host of the fleet."""

    cluster: int
    host: int

    @property
    def field(self) -> bytes:
        """What it is called in Redis."""
        return f"{self.cluster}.{self.host}".encode()


@frozen
class SlotLoad:
    """A transceiver worker of a host."""

    slot: int
    sessions: int
    sessions_max: int
    on_time_ratio: float
    draining: bool


@frozen
class HostEntry:
    name: HostName
    internal: str
    """Numeric address."""
    frame_port: int
    slots: tuple[SlotLoad, ...]
    """Those that live."""
    written_at: float
    """Unix seconds."""


def encode_host(signer: Signer, place: bytes, entry: HostEntry) -> bytes:
    """Return the value of a host that will stand at ``place``."""
    address = ip_address(entry.internal)
    head = _HEAD.pack(
        _VERSION,
        entry.name.cluster,
        entry.name.host,
        round(entry.written_at * 1000),
        address.version,
        address.packed.ljust(16, b"\0"),
        entry.frame_port,
        len(entry.slots),
    )
    slots = (
        _SLOT.pack(
            each.slot,
            each.draining,
            min(each.sessions, _COUNT_MAX),
            min(each.sessions_max, _COUNT_MAX),
            round(each.on_time_ratio * _RATIO_UNITS),
        )
        for each in entry.slots
    )
    return signer.sign(place + entry.name.field, head + b"".join(slots))


def names_a_host(field: object) -> TypeGuard[bytes]:
    """Whether a host may be called so in Redis."""
    return isinstance(field, bytes) and _FIELD.fullmatch(field) is not None


def decode_host(signer: Signer, place: bytes, field: object, value: object) -> HostEntry:
    """Return the host that a field and its value describe. How old it is, the caller judges.

    Raises:
        StoreError: not a value of ours, or not for this field.

    """
    if not (names_a_host(field) and isinstance(value, bytes)):
        raise StoreError("entry-malformed")
    if len(value) > ENTRY_BYTES_MAX:
        raise StoreError("entry-too-long")
    body = signer.open(place + field, value)
    if len(body) < _HEAD.size or body[0] != _VERSION:
        raise StoreError("entry-malformed")
    _, cluster, host, milliseconds, version, packed, port, count = _HEAD.unpack_from(body)
    name = HostName(cluster, host)
    fits = len(body) == _HEAD.size + count * _SLOT.size and port + SLOTS_MAX - 1 <= _PORT_MAX
    if not fits or name.field != field or version not in {4, 6}:
        raise StoreError("entry-malformed")
    address = IPv4Address(packed[:4]) if version == 4 else IPv6Address(packed)
    slots = tuple(
        SlotLoad(slot, sessions, sessions_max, min(ratio / _RATIO_UNITS, 1.0), bool(draining))
        for slot, draining, sessions, sessions_max, ratio in _SLOT.iter_unpack(body[_HEAD.size :])
    )
    if any(each.slot >= SLOTS_MAX for each in slots):
        raise StoreError("entry-malformed")
    return HostEntry(name, str(address), port, slots, milliseconds / 1000)
