"""Sending received rows on as batch frames (edge/routing/frames.py), without a copy."""

import ctypes
import errno
import socket
from collections.abc import Sequence
from functools import partial

import numpy as np

from edge.routing import frames
from edge.routing.sockaddr import SOCKADDR_BYTES, encode_sockaddr
from edge.udp.receive import ReceiveBatch
from edge.udp.system import (
    IOV,
    IOVEC_BYTES,
    IOVLEN,
    MSGHDR_BYTES,
    NAME,
    NAMELEN,
    PAYLOAD_OFFSET,
    Memory,
    name_bytes,
    sendmsg,
)


class FrameSender:
    """Sends rows of one receive batch as frames to transceivers, gathered, without a copy."""

    def __init__(
        self,
        fd: int,
        batch: ReceiveBatch,
        transceivers: Sequence[tuple[str, int]],
        relay: int,
        public_socket: int,
    ) -> None:
        rows = len(batch.frame_iovecs)
        names_bytes = len(transceivers) * SOCKADDR_BYTES
        memory = Memory(names_bytes + MSGHDR_BYTES + rows * IOVEC_BYTES + 5 * 64)
        names_address, names = memory.take(names_bytes)
        self._head_address, head = memory.take(frames.HEADER.size)
        message_address, message = memory.take_words(1, MSGHDR_BYTES // 8)
        self._sorted_address, self._sorted = memory.take_words(rows, IOVEC_BYTES // 8)
        self._memory = memory
        self._batch = batch
        self._names = range(names_address, names_address + names_bytes, SOCKADDR_BYTES)
        names[:] = np.frombuffer(b"".join(encode_sockaddr(*each) for each in transceivers), "u1")
        frames.HEADER.pack_into(head.data, 0, frames.MAGIC, frames.PACKETS, public_socket, relay, 0)
        batch.frame_iovecs[0] = self._head_address, frames.HEADER.size
        self._head = head.view(np.uint16).data
        self._message = message[0].data
        in_ipv6 = any(":" in host for host, _ in transceivers)
        self._message[NAMELEN] = name_bytes(socket.AF_INET6 if in_ipv6 else socket.AF_INET)
        self._sorted_words = self._sorted.reshape(-1).data
        self._sendmsg = partial(
            sendmsg,
            ctypes.c_int(fd),
            ctypes.c_void_p(message_address),
            ctypes.c_int(socket.MSG_DONTWAIT),
        )
        self.frames = 0
        """How many frames have been sent."""

    def send_all(self, owner: int, count: int) -> int:
        """Send the first ``count`` rows to one transceiver as one frame.

        Return how many bytes of payload went out; 0 if the frame was refused: ``send_each`` copes.
        """
        size = self._send_frame(owner, self._batch.frame_iovecs_address, count)
        return size - frames.HEADER.size - count * PAYLOAD_OFFSET if size > 0 else 0

    def send_each(self, owners: bytes, rows: Sequence[int] | None = None) -> int:
        """Send rows to several transceivers: byte n is the owner of row n, or of ``rows[n]``.

        Return how many rows went out. The order of the rows for one transceiver stays as it is. A
        frame that is too big for one datagram is split. Rows that the internal hop does not take at
        once (full, unreachable) are lost.
        """
        order = np.frombuffer(owners, dtype=np.uint8).argsort(kind="stable")
        if rows is not None:
            order = np.array(rows, dtype=np.intp)[order]
        iovecs = self._batch.frame_iovecs[1:]
        iovecs.take(order, 0, self._sorted[1 : len(owners) + 1], "clip")  # numpy's quickest mode
        first = sent = 0
        for owner in sorted(set(owners)):
            count = owners.count(owner)
            sent += self._send_sorted(owner, first, count)
            first += count
        return sent

    def _send_sorted(self, owner: int, first: int, count: int) -> int:
        """Send sorted rows, in several frames if need be; return how many went out.

        The header takes the place in front of the first row, whose own row has been sent already.
        """
        self._sorted_words[2 * first] = self._head_address
        self._sorted_words[2 * first + 1] = frames.HEADER.size
        if self._send_frame(owner, self._sorted_address + first * IOVEC_BYTES, count) > 0:
            return count
        if ctypes.get_errno() != errno.EMSGSIZE or count == 1:
            return 0
        end = first + count
        size = int(self._sorted[first + 1 : end + 1, 1].sum())
        parts = max(2, -(-size // (frames.FRAME_BYTES_MAX - frames.HEADER.size)))
        step = -(-count // parts)
        starts = range(first, end, step)
        return sum(self._send_sorted(owner, at, min(step, end - at)) for at in starts)

    def _send_frame(self, owner: int, iovecs_address: int, count: int) -> int:
        """Send ``count`` rows, whose iovecs follow the header's; return the frame's size or -1."""
        message = self._message
        message[NAME] = self._names[owner]
        message[IOV] = iovecs_address
        message[IOVLEN] = count + 1
        self._head[2] = count
        size: int = self._sendmsg()
        if size > 0:
            self.frames += 1
        return size
