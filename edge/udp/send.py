"""Sending to many clients in batches."""

import ctypes
import errno
import socket
from collections import Counter

import numpy as np

from edge.routing.sockaddr import SOCKADDR_BYTES
from edge.udp.system import (
    IOV,
    IOVEC_BYTES,
    IOVLEN,
    MSGHDR_BYTES,
    NAME,
    NAMELEN,
    ROW_STRIDE,
    Memory,
    name_bytes,
    sendmmsg,
)

BATCH_ROWS = 64


class SendBatch:
    """Datagrams for many clients, sent from one socket with as few sendmmsg calls as possible."""

    def __init__(self, fd: int, family: socket.AddressFamily, rows: int = BATCH_ROWS) -> None:
        memory = Memory(rows * (ROW_STRIDE + SOCKADDR_BYTES + MSGHDR_BYTES + IOVEC_BYTES) + 5 * 64)
        base, data = memory.take(rows * ROW_STRIDE)
        names_address, names = memory.take(rows * SOCKADDR_BYTES)
        self._headers_address, headers = memory.take_words(rows, MSGHDR_BYTES // 8)
        iovecs_address, iovecs = memory.take_words(rows, IOVEC_BYTES // 8)
        self._memory = memory
        order = np.arange(rows, dtype=np.uint64)
        iovecs[:, 0] = base + order * np.uint64(ROW_STRIDE)
        headers[:, NAME] = names_address + order * np.uint64(SOCKADDR_BYTES)
        headers[:, NAMELEN] = name_bytes(family)
        headers[:, IOV] = iovecs_address + order * np.uint64(IOVEC_BYTES)
        headers[:, IOVLEN] = 1
        self._fd = fd
        self._rows = rows
        self._count = 0
        self._iovecs = iovecs.reshape(-1).data
        """A memoryview: one word written by it costs a tenth of what numpy takes."""
        self._data = data.data
        self._names = names.data
        self.drops: Counter[str] = Counter()
        """Datagrams not sent, by reason."""

    def add(self, payload: bytes, client: bytes) -> None:
        """Queue one datagram to a 28-byte address; sends what is queued when the batch is full."""
        size = len(payload)
        if size > ROW_STRIDE:
            self.drops["send-too-long"] += 1
            return
        row = self._count
        start = row * ROW_STRIDE
        self._data[start : start + size] = payload
        start = row * SOCKADDR_BYTES
        self._names[start : start + SOCKADDR_BYTES] = client
        self._iovecs[2 * row + 1] = size
        self._count = row + 1
        if self._count == self._rows:
            self.flush()

    def flush(self) -> None:
        """Send all that is queued. What the kernel refuses is dropped and counted."""
        count = self._count
        if not count:
            return
        done = 0
        while done < count:
            sent: int = sendmmsg(
                self._fd,
                self._headers_address + done * MSGHDR_BYTES,
                count - done,
                socket.MSG_DONTWAIT,
            )
            if sent > 0:
                done += sent
                continue
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.ENOBUFS):
                self.drops["send-buffer-full"] += count - done
                break
            if code != errno.EINTR:
                self.drops["send-refused"] += 1
                done += 1
        self._count = 0
