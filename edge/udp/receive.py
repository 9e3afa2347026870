"""Receiving in batches: rows that are ready to be framed."""

import ctypes
import errno
import os
import socket
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge.routing.sockaddr import SOCKADDR_BYTES
from edge.udp.system import (
    FLAGS,
    IOV,
    IOVEC_BYTES,
    IOVLEN,
    LENGTH,
    MSGHDR_BYTES,
    NAME,
    NAMELEN,
    PAYLOAD_BYTES_MAX,
    PAYLOAD_OFFSET,
    ROW_STRIDE,
    Memory,
    recvmmsg,
)

RECEIVE_ROWS = 128
"""Rows of a receive batch: twice as many would not fit the first-level cache."""

_MSG_WAITFORONE = 0x10000
_NO_PACKET = 0xFF
"""A first byte that no protocol of ours has."""
_FEW_ROWS = 8
"""Up to here a loop beats numpy, whose calls cost the same for one row as for sixty."""


class _Columns(NamedTuple):
    """The first rows of a receive batch, column by column, as numpy views."""

    lengths: npt.NDArray[np.uint64]
    short_lengths: npt.NDArray[np.uint32]
    """The same, without a conversion."""
    flags: npt.NDArray[np.uint8]
    """The lowest byte of the kernel's flags: MSG_TRUNC is in it."""
    first_bytes: npt.NDArray[np.uint8]
    clients: npt.NDArray[np.void]
    row_words: npt.NDArray[np.uint32]
    """Each row's length and flags as the one word that they are on a little-endian frame."""
    frame_lengths: npt.NDArray[np.uint64]
    heads: npt.NDArray[np.uint64]
    """The size of a row's head, again and again: numpy is slower with a scalar."""

    def first(self, count: int) -> "_Columns":
        return _Columns(
            lengths=self.lengths[:count],
            short_lengths=self.short_lengths[:count],
            flags=self.flags[:count],
            first_bytes=self.first_bytes[:count],
            clients=self.clients[:count],
            row_words=self.row_words[:count],
            frame_lengths=self.frame_lengths[:count],
            heads=self.heads[:count],
        )


class ReceiveBatch:
    """Memory that recvmmsg fills with rows ready to be framed (see edge/routing/frames.py).

    One batch goes through ``receive`` or ``wait``, ``seal``, a FrameSender and ``clear``.
    """

    def __init__(self, fd: int, plain: bytes, rows: int = RECEIVE_ROWS) -> None:
        """``plain``: the first bytes of packets that need no look at their content."""
        memory = Memory(rows * (ROW_STRIDE + MSGHDR_BYTES + 2 * IOVEC_BYTES) + 6 * 64)
        base, data = memory.take(rows * ROW_STRIDE)
        headers_address, headers = memory.take_words(rows, MSGHDR_BYTES // 8)
        iovecs_address, iovecs = memory.take_words(rows, IOVEC_BYTES // 8)
        self._memory = memory
        order = np.arange(rows, dtype=np.uint64)
        starts = base + order * np.uint64(ROW_STRIDE)
        iovecs[:, 0] = starts + np.uint64(PAYLOAD_OFFSET)
        iovecs[:, 1] = PAYLOAD_BYTES_MAX
        headers[:, NAME] = starts
        headers[:, NAMELEN] = SOCKADDR_BYTES
        headers[:, IOV] = iovecs_address + order * np.uint64(IOVEC_BYTES)
        headers[:, IOVLEN] = 1
        self.frame_iovecs_address, self.frame_iovecs = memory.take_words(rows + 1, 2)
        """Gathers whole rows, in order, from index 1 on; index 0 is for a frame's header."""
        self.frame_iovecs[1:, 0] = starts
        table = data.reshape(rows, ROW_STRIDE)
        columns = _Columns(
            lengths=headers[:, LENGTH],  # 32 bits; the others are padding and stay 0
            short_lengths=headers.view(np.uint32)[:, 2 * LENGTH],
            flags=headers.view(np.uint8)[:, 8 * FLAGS],
            first_bytes=table[:, PAYLOAD_OFFSET],
            clients=np.ndarray(
                (rows,), dtype=f"V{SOCKADDR_BYTES}", buffer=table, strides=(ROW_STRIDE,)
            ),
            row_words=np.ndarray(
                (rows,), dtype="<u4", buffer=table, offset=SOCKADDR_BYTES, strides=(ROW_STRIDE,)
            ),
            frame_lengths=self.frame_iovecs[1:, 1],
            heads=np.full(rows, PAYLOAD_OFFSET, dtype=np.uint64),
        )
        self._columns = [columns.first(count) for count in range(rows + 1)]
        """By number of rows: slicing costs as much as the work itself."""
        # One item read or written by memoryview costs a tenth of what numpy takes.
        self._view = data.data
        self._words = data.view(np.uint32).data
        self._header_words = headers.reshape(-1).data
        self._frame_words = self.frame_iovecs.reshape(-1).data
        self._plain = plain
        self._is_plain = bytes(byte in plain for byte in range(256))
        # Arguments converted once: that is half of what a call by ctypes costs.
        self._receive, self._wait = (
            partial(
                recvmmsg,
                ctypes.c_int(fd),
                ctypes.c_void_p(headers_address),
                ctypes.c_uint(rows),
                ctypes.c_int(flags),
                ctypes.c_void_p(None),
            )
            for flags in (socket.MSG_DONTWAIT, _MSG_WAITFORONE)
        )

    def receive(self) -> int:
        """Fill rows without waiting; return how many. 0 when nothing is there.

        Raises:
            OSError: the socket is unusable.

        """
        count: int = self._receive()
        return count if count >= 0 else _nothing_received()

    def wait(self) -> int:
        """Like ``receive``, but wait for the first packet as long as ``block_for`` has set."""
        count: int = self._wait()
        return count if count >= 0 else _nothing_received()

    def seal(self, count: int) -> bool:
        """Write the received rows' heads, flags 0, and note the rows' lengths for frames.

        Return whether all rows are plain: not empty, not truncated, with a plain first byte.
        """
        if count > _FEW_ROWS:
            columns = self._columns[count]
            columns.row_words[:] = columns.short_lengths
            np.add(columns.lengths, columns.heads, columns.frame_lengths)
            return not (
                columns.first_bytes.tobytes().translate(None, self._plain)
                or columns.flags.tobytes().strip(b"\0")
            )
        headers, plain = self._header_words, True
        for row in range(count):
            header = row * (MSGHDR_BYTES // 8)
            length = headers[header + LENGTH]
            self._words[row * (ROW_STRIDE // 4) + SOCKADDR_BYTES // 4] = length
            self._frame_words[2 * row + 3] = length + PAYLOAD_OFFSET
            if (
                not self._is_plain[self._view[row * ROW_STRIDE + PAYLOAD_OFFSET]]
                or headers[header + FLAGS] & 0xFF
            ):
                plain = False
        return plain

    def clear(self, count: int) -> None:
        """Make the rows ready for the next packets: an empty one would leave the old first byte."""
        if count > _FEW_ROWS:
            self._columns[count].first_bytes.fill(_NO_PACKET)
            return
        for row in range(count):
            self._view[row * ROW_STRIDE + PAYLOAD_OFFSET] = _NO_PACKET

    def odd_rows(self, count: int) -> list[int]:
        """Return the sealed rows that are not plain."""
        columns, is_plain = self._columns[count], self._is_plain
        first_bytes, flags = columns.first_bytes.tobytes(), columns.flags.tobytes()
        return [row for row in range(count) if flags[row] or not is_plain[first_bytes[row]]]

    def clients(self, count: int) -> list[bytes]:
        """Return the flow keys of the rows."""
        clients: list[bytes] = self._columns[count].clients.tolist()
        return clients

    def client(self, row: int) -> bytes:
        """Return the flow key of one row."""
        start = row * ROW_STRIDE
        return bytes(self._view[start : start + SOCKADDR_BYTES])

    def payload_bytes(self, count: int) -> int:
        """Return the size of all payloads together."""
        return int(self._columns[count].lengths.sum())

    def payload(self, row: int) -> memoryview:
        """Return a view of one row's payload, as far as it was kept, until the next ``receive``."""
        start = row * ROW_STRIDE + PAYLOAD_OFFSET
        length = self._header_words[row * (MSGHDR_BYTES // 8) + LENGTH]
        return self._view[start : start + length]

    def row(self, row: int) -> memoryview:
        """Return a view of one sealed row, head and payload, until the next ``receive``."""
        start = row * ROW_STRIDE
        return self._view[start : start + self._frame_words[2 * row + 3]]

    def is_truncated(self, row: int) -> bool:
        return bool(self._header_words[row * (MSGHDR_BYTES // 8) + FLAGS] & socket.MSG_TRUNC)

    def flag(self, row: int, flags: int) -> None:
        """Set flags of a sealed row."""
        self._words[row * (ROW_STRIDE // 4) + SOCKADDR_BYTES // 4] |= flags << 16


def _nothing_received() -> int:
    code = ctypes.get_errno()
    if code in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
        return 0
    raise OSError(code, os.strerror(code))
