"""What goes back through a relay worker, as only it can write to its clients' TCP connections."""

import socket
from collections import Counter

from edge.routing import frames

ROWS_MAX = 64


class StreamBatch:
    """Packets for the TCP clients of one relay worker, in as few ``deliver`` frames as possible.

    ``public_socket`` is what stands for those clients (edge/routing/frames.py).
    """

    def __init__(self, internal: socket.socket, relay: tuple[str, int], public_socket: int) -> None:
        self.relay = relay
        """Its internal address."""
        self._internal = internal
        self._public_socket = public_socket
        self._rows: list[frames.Row] = []
        self._bytes = 0
        self.drops: Counter[str] = Counter()
        """Packets not sent, by reason."""

    def add(self, payload: bytes, client: bytes) -> None:
        """Queue one packet to a 28-byte address; sends what is queued when a frame is full."""
        size = frames.ROW_HEAD.size + len(payload)
        room = frames.FRAME_BYTES_MAX - frames.HEADER.size - self._bytes
        if len(self._rows) == ROWS_MAX or size > room:
            self.flush()
        self._rows.append(frames.Row(client, 0, payload))
        self._bytes += size

    def flush(self) -> None:
        """Send all that is queued. What the internal hop does not take is dropped and counted."""
        if not self._rows:
            return
        frame = frames.encode_frame(frames.DELIVER, self._public_socket, 0, self._rows)
        try:
            self._internal.sendto(frame, socket.MSG_DONTWAIT, self.relay)
        except OSError:
            self.drops["relay-not-taking"] += len(self._rows)
        self._rows.clear()
        self._bytes = 0
