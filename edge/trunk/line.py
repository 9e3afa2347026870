"""From one worker to one worker of another host: rows in, sealed frames of bounded size out."""

import os
from collections.abc import Sequence

from edge.fleet.seal import OVERHEAD_BYTES, SEALED_BYTES_MAX, FrameSealer, KeyRing, Place
from edge.routing import frames
from edge.routing.sockaddr import encode_sockaddr
from edge.udp import SendBatch

_ROOM = SEALED_BYTES_MAX - OVERHEAD_BYTES - frames.HEADER.size
NOTICE_ROWS_MAX = _ROOM // frames.ROW_HEAD.size


class Line:
    """Frames for one place. They leave when ``out``, which lines share, is flushed."""

    def __init__(self, out: SendBatch, ring: KeyRing, here: Place, there: Place) -> None:
        self.there = there
        self._out = out
        self._name = encode_sockaddr(*there)
        self._sealer = FrameSealer(ring, here, there, era=os.urandom(1)[0])
        self.frames = 0
        """Queued so far."""

    def send(
        self,
        kind: int,
        public_socket: int,
        entrance: bytes,
        rows: Sequence[bytes | memoryview],
        unix_now: float,
    ) -> None:
        """Queue rows, head and payload in one, in as few frames as they fit in."""
        first = size = 0
        for index, row in enumerate(rows):
            if size + len(row) > _ROOM and size:
                self._send(kind, public_socket, entrance, rows[first:index], unix_now)
                first, size = index, 0
            size += len(row)
        self._send(kind, public_socket, entrance, rows[first:], unix_now)

    def _send(
        self,
        kind: int,
        public_socket: int,
        entrance: bytes,
        rows: Sequence[bytes | memoryview],
        unix_now: float,
    ) -> None:
        head = frames.HEADER.pack(frames.MAGIC, kind, public_socket, 0, len(rows))
        self._out.add(self._sealer.seal(entrance, (head, *rows), unix_now), self._name)
        self.frames += 1
