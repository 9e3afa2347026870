"""Batch frames: what relay and transceiver say to each other over the internal UDP hop.

The kernel's cost is per datagram, so a relay sends all packets of one receive batch that belong to
one transceiver as a single datagram. A frame is a header and rows; a row is laid out the way
``recvmmsg`` filled it in, so that building a frame copies nothing.

Header, 8 bytes:

| bytes | content |
| --- | --- |
| 0 | 0xE1: magic and format version |
| 1 | kind: 1 packets, 2 confirm, 3 release, 4 deliver, 5 closed |
| 2 | index of the public socket that all rows came in by, or go out by |
| 3 | index of the relay worker |
| 4..5 | number of rows, little-endian |
| 6..7 | zero |

Row, 32 bytes and the payload:

| bytes | content |
| --- | --- |
| 0..27 | the client's address (see sockaddr.py) |
| 28..29 | payload length, little-endian |
| 30..31 | flags, little-endian: 1 = the relay holds no confirmed flow for this row |
| 32.. | payload, not padded |

``packets`` frames go from relay to transceiver. ``confirm`` and ``release`` go back; their rows
have no payload: these client addresses are (no longer) the sender's.

Public sockets are numbered in the order of the listen addresses. Behind them come the relay workers
themselves: number of sockets plus index of the relay means the TCP connections of that relay.
Only it can write to them. So what a transceiver has for their clients goes back to the relay, in
``deliver`` frames; and when a client's connection ends the relay says so in a ``closed`` notice,
without payload.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from edge.errors import FrameError
from edge.routing.sockaddr import SOCKADDR_BYTES

MAGIC = 0xE1
PACKETS = 1
CONFIRM = 2
RELEASE = 3
DELIVER = 4
CLOSED = 5

HEADER = struct.Struct("<BBBBHxx")
ROW_HEAD = struct.Struct("<28sHH")
FRAME_BYTES_MAX = 65_507
"""The largest UDP payload over IPv4."""
SOCKETS_MAX = 256
"""How many public sockets and relay workers can be told apart."""

UNCONFIRMED = 1
"""Row flag: tell me when this client has authenticated."""

NOTICE_ROWS_MAX = (1_400 - HEADER.size) // ROW_HEAD.size

assert ROW_HEAD.size == SOCKADDR_BYTES + 4


class Row(NamedTuple):
    """One client packet inside a frame."""

    client: bytes
    """28 bytes, see sockaddr.py."""
    flags: int
    payload: bytes


class Frame(NamedTuple):
    kind: int
    socket: int
    relay: int
    rows: list[Row]


def decode_frame(data: memoryview) -> Frame:
    """Take a frame apart; payloads are copied out.

    Raises:
        FrameError: not a frame of ours, or its lengths do not add up.

    """
    if len(data) < HEADER.size:
        raise FrameError("short-frame")
    magic, kind, socket, relay, count = HEADER.unpack_from(data)
    if magic != MAGIC or not PACKETS <= kind <= CLOSED:
        raise FrameError("not-a-frame")
    rows: list[Row] = []
    offset = HEADER.size
    end = len(data)
    unpack = ROW_HEAD.unpack_from
    for _ in range(count):
        start = offset + ROW_HEAD.size
        if start > end:
            raise FrameError("truncated-frame")
        client, length, flags = unpack(data, offset)
        offset = start + length
        if offset > end:
            raise FrameError("truncated-frame")
        rows.append(Row(client, flags, bytes(data[start:offset])))
    if offset != end:
        raise FrameError("trailing-bytes")
    return Frame(kind, socket, relay, rows)


def encode_frame(kind: int, socket: int, relay: int, rows: Iterable[Row]) -> bytes:
    """Build a frame by copying. What comes in by UDP is gathered instead (edge/udp/frame.py)."""
    parts = [b""]
    for row in rows:
        parts += (ROW_HEAD.pack(row.client, len(row.payload), row.flags), row.payload)
    parts[0] = HEADER.pack(MAGIC, kind, socket, relay, len(parts) // 2)
    return b"".join(parts)
