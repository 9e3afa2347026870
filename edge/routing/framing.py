"""Packets in a byte stream: what ICE over TCP says on a connection (RFC 4571 §2, RFC 6544 §3).

Each packet stands behind its length, two bytes in network order. Where one packet ends only the
lengths before it tell, so a length that cannot be ours ends the stream: there is no way back into
step.
"""

import struct
from collections import Counter, deque

from edge.demux import is_media
from edge.errors import FrameError

_LENGTH = struct.Struct("!H")


class PacketReader:
    """Cuts what arrives on one connection into packets. Holds two packets of the largest size."""

    def __init__(self, packet_bytes_max: int) -> None:
        self._packet_bytes_max = packet_bytes_max
        self._buffer = bytearray()

    @property
    def room(self) -> int:
        """How many bytes ``receive`` takes; above 0 when all packets have been taken out."""
        return 2 * (_LENGTH.size + self._packet_bytes_max) - len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take the next bytes of the stream, at most ``room``."""
        assert len(data) <= self.room
        self._buffer += data

    def next_packet(self) -> bytes | None:
        """Return the next complete packet; empty ones are skipped (RFC 4571 §2).

        Raises:
            FrameError: the next packet is too long. Nothing can be read behind it.

        """
        buffer = self._buffer
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > self._packet_bytes_max:
                raise FrameError("tcp-packet-too-long")
            end = _LENGTH.size + length
            if len(buffer) < end:
                break
            packet = bytes(buffer[_LENGTH.size : end])
            del buffer[:end]
            if packet:
                return packet
        return None


class PacketWriter:
    """What waits to be written to one connection.

    A connection that stalls makes old what waits for it, and old sound is of no use: media that is
    older than ``age_max`` seconds is dropped, and when more than ``bytes_max`` would wait, the
    oldest media makes room, then the oldest of all. Packets are dropped whole, and never one that
    has been written in part.
    """

    def __init__(self, bytes_max: int, age_max: float, drops: Counter[str]) -> None:
        self._bytes_max = bytes_max
        self._age_max = age_max
        self._packets: deque[tuple[float, bytes]] = deque()
        """Each with its length in front, and when it came."""
        self._begun = 0
        """Bytes of the first packet that have been written."""
        self._bytes = 0
        self._drops = drops

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._bytes

    def push(self, packet: bytes, now: float) -> None:
        """Queue a packet."""
        framed = _LENGTH.pack(len(packet)) + packet
        while self._bytes + len(framed) > self._bytes_max:
            if not self._make_room():
                self._drops["tcp-backlog-full"] += 1
                return
        self._packets.append((now, framed))
        self._bytes += len(framed)

    def head(self, size: int, now: float) -> bytes:
        """Return what to write next: whole packets, up to about ``size`` bytes; b"" if nothing."""
        self._drop_old(now)
        parts: list[bytes] = []
        gathered = 0
        for _, framed in self._packets:
            parts.append(framed)
            gathered += len(framed)
            if gathered >= size:
                break
        return b"".join(parts)[self._begun :]

    def advance(self, count: int) -> None:
        """So many bytes of ``head`` have been written."""
        self._bytes -= count
        count += self._begun
        while self._packets and count >= len(self._packets[0][1]):
            count -= len(self._packets.popleft()[1])
        self._begun = count

    def _drop_old(self, now: float) -> None:
        while (index := self._oldest_media(depth=1)) is not None:
            if now - self._packets[index][0] <= self._age_max:
                return
            self._drop(index, "tcp-stale")

    def _make_room(self) -> bool:
        index = self._oldest_media(depth=len(self._packets))
        if index is None:
            index = 1 if self._begun else 0
        if index >= len(self._packets):
            return False
        self._drop(index, "tcp-backlog-full")
        return True

    def _oldest_media(self, depth: int) -> int | None:
        """Return the index of the oldest media among the first ``depth`` droppable packets."""
        first = 1 if self._begun else 0
        for index in range(first, min(first + depth, len(self._packets))):
            if is_media(self._packets[index][1][_LENGTH.size :]):
                return index
        return None

    def _drop(self, index: int, reason: str) -> None:
        self._bytes -= len(self._packets[index][1])
        del self._packets[index]
        self._drops[reason] += 1
