"""UDP in batches: recvmmsg and sendmmsg by ctypes, over memory that is laid out once.

Why by hand: one system call per packet is what makes a Python packet loop slow, and no library
offers the batch calls. All arrays live in one anonymous mapping per object; numpy views are how
whole columns (lengths, flags, addresses) are read and written at C speed.

``struct mmsghdr`` on LP64 is eight 64-bit words: name, namelen (32 bits), iov, iovlen, control,
controllen, flags (32 bits), msg_len (32 bits). ``struct iovec`` is two: base, len. Sockets are
shared with other processes by dup, and so is O_NONBLOCK; every call here passes MSG_DONTWAIT.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge.errors import BootError
from edge.routing import frames
from edge.routing.sockaddr import SOCKADDR_BYTES, encode_sockaddr

ROW_STRIDE = 1_600
"""Bytes from row to row in a receive batch: 25 cache lines, an odd number on purpose."""
PAYLOAD_OFFSET = frames.ROW_HEAD.size
PAYLOAD_BYTES_MAX = ROW_STRIDE - PAYLOAD_OFFSET
"""Longer packets are truncated by the kernel, and counted."""
BATCH_ROWS = 64
RECEIVE_ROWS = 128
"""Rows of a receive batch: twice as many would not fit the first-level cache."""

_MSGHDR_BYTES = 64
_IOVEC_BYTES = 16
_NAME, _NAMELEN, _IOV, _IOVLEN, _FLAGS, _LENGTH = 0, 1, 2, 3, 6, 7
_SOCKADDR_IN_BYTES = 16
_SO_RCVBUFFORCE = 33
_DISCARD_PORT = 9

_MSG_WAITFORONE = 0x10000
_NO_PACKET = 0xFF
"""A first byte that no protocol of ours has."""
_FEW_ROWS = 8
"""Up to here a loop beats numpy, whose calls cost the same for one row as for sixty."""

Words = npt.NDArray[np.uint64]

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = [
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
]
_recvmmsg.restype = ctypes.c_int
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
_sendmmsg.restype = ctypes.c_int
# Never waits, so it need not give up the interpreter lock.
_sendmsg = ctypes.PyDLL(None, use_errno=True).sendmsg
_sendmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_sendmsg.restype = ctypes.c_ssize_t


class _Memory:
    """An anonymous mapping handed out piece by piece as numpy arrays."""

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size)
        self.bytes = np.frombuffer(self._map, dtype=np.uint8)
        self.address = self.bytes.ctypes.data
        self._used = 0

    def take(self, size: int) -> tuple[int, npt.NDArray[np.uint8]]:
        """Return (address, bytes) of the next ``size`` bytes; 64-byte aligned."""
        start = self._used
        self._used = (start + size + 63) & ~63
        return self.address + start, self.bytes[start : start + size]

    def take_words(self, rows: int, width: int) -> tuple[int, Words]:
        """Return (address, words) of a table of ``rows`` rows of ``width`` 64-bit words."""
        address, data = self.take(rows * width * 8)
        return address, data.view(np.uint64).reshape(rows, width)


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
        memory = _Memory(rows * (ROW_STRIDE + _MSGHDR_BYTES + 2 * _IOVEC_BYTES) + 6 * 64)
        base, data = memory.take(rows * ROW_STRIDE)
        headers_address, headers = memory.take_words(rows, _MSGHDR_BYTES // 8)
        iovecs_address, iovecs = memory.take_words(rows, _IOVEC_BYTES // 8)
        self._memory = memory
        order = np.arange(rows, dtype=np.uint64)
        starts = base + order * np.uint64(ROW_STRIDE)
        iovecs[:, 0] = starts + np.uint64(PAYLOAD_OFFSET)
        iovecs[:, 1] = PAYLOAD_BYTES_MAX
        headers[:, _NAME] = starts
        headers[:, _NAMELEN] = SOCKADDR_BYTES
        headers[:, _IOV] = iovecs_address + order * np.uint64(_IOVEC_BYTES)
        headers[:, _IOVLEN] = 1
        self.frame_iovecs_address, self.frame_iovecs = memory.take_words(rows + 1, 2)
        """Gathers whole rows, in order, from index 1 on; index 0 is for a frame's header."""
        self.frame_iovecs[1:, 0] = starts
        table = data.reshape(rows, ROW_STRIDE)
        columns = _Columns(
            lengths=headers[:, _LENGTH],  # 32 bits; the others are padding and stay 0
            short_lengths=headers.view(np.uint32)[:, 2 * _LENGTH],
            flags=headers.view(np.uint8)[:, 8 * _FLAGS],
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
                _recvmmsg,
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
            header = row * (_MSGHDR_BYTES // 8)
            length = headers[header + _LENGTH]
            self._words[row * (ROW_STRIDE // 4) + SOCKADDR_BYTES // 4] = length
            self._frame_words[2 * row + 3] = length + PAYLOAD_OFFSET
            if (
                not self._is_plain[self._view[row * ROW_STRIDE + PAYLOAD_OFFSET]]
                or headers[header + _FLAGS] & 0xFF
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
        length = self._header_words[row * (_MSGHDR_BYTES // 8) + _LENGTH]
        return self._view[start : start + length]

    def is_truncated(self, row: int) -> bool:
        return bool(self._header_words[row * (_MSGHDR_BYTES // 8) + _FLAGS] & socket.MSG_TRUNC)

    def flag(self, row: int, flags: int) -> None:
        """Set flags of a sealed row."""
        self._words[row * (ROW_STRIDE // 4) + SOCKADDR_BYTES // 4] |= flags << 16


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
        memory = _Memory(names_bytes + _MSGHDR_BYTES + rows * _IOVEC_BYTES + 5 * 64)
        names_address, names = memory.take(names_bytes)
        self._head_address, head = memory.take(frames.HEADER.size)
        message_address, message = memory.take_words(1, _MSGHDR_BYTES // 8)
        self._sorted_address, self._sorted = memory.take_words(rows, _IOVEC_BYTES // 8)
        self._memory = memory
        self._batch = batch
        self._names = range(names_address, names_address + names_bytes, SOCKADDR_BYTES)
        names[:] = np.frombuffer(b"".join(encode_sockaddr(*each) for each in transceivers), "u1")
        frames.HEADER.pack_into(head.data, 0, frames.MAGIC, frames.PACKETS, public_socket, relay, 0)
        batch.frame_iovecs[0] = self._head_address, frames.HEADER.size
        self._head = head.view(np.uint16).data
        self._message = message[0].data
        self._message[_NAMELEN] = _name_bytes(
            socket.AF_INET6 if ":" in transceivers[0][0] else socket.AF_INET
        )
        self._sorted_words = self._sorted.reshape(-1).data
        self._sendmsg = partial(
            _sendmsg,
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
        if self._send_frame(owner, self._sorted_address + first * _IOVEC_BYTES, count) > 0:
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
        message[_NAME] = self._names[owner]
        message[_IOV] = iovecs_address
        message[_IOVLEN] = count + 1
        self._head[2] = count
        size: int = self._sendmsg()
        if size > 0:
            self.frames += 1
        return size


class SendBatch:
    """Datagrams for many clients, sent from one socket with as few sendmmsg calls as possible."""

    def __init__(self, fd: int, family: socket.AddressFamily, rows: int = BATCH_ROWS) -> None:
        memory = _Memory(
            rows * (ROW_STRIDE + SOCKADDR_BYTES + _MSGHDR_BYTES + _IOVEC_BYTES) + 5 * 64
        )
        base, data = memory.take(rows * ROW_STRIDE)
        names_address, names = memory.take(rows * SOCKADDR_BYTES)
        self._headers_address, headers = memory.take_words(rows, _MSGHDR_BYTES // 8)
        iovecs_address, iovecs = memory.take_words(rows, _IOVEC_BYTES // 8)
        self._memory = memory
        order = np.arange(rows, dtype=np.uint64)
        iovecs[:, 0] = base + order * np.uint64(ROW_STRIDE)
        headers[:, _NAME] = names_address + order * np.uint64(SOCKADDR_BYTES)
        headers[:, _NAMELEN] = _name_bytes(family)
        headers[:, _IOV] = iovecs_address + order * np.uint64(_IOVEC_BYTES)
        headers[:, _IOVLEN] = 1
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
            sent: int = _sendmmsg(
                self._fd,
                self._headers_address + done * _MSGHDR_BYTES,
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


def open_udp_socket(
    host: str, port: int, *, receive_buffer_bytes: int, reuse_port: bool
) -> socket.socket:
    """Make and bind a UDP socket.

    Raises:
        BootError: the address is taken, not ours or not valid.

    """
    udp = make_udp_socket(host, receive_buffer_bytes=receive_buffer_bytes, reuse_port=reuse_port)
    try:
        bind_udp_socket(udp, host, port)
    except BootError:
        udp.close()
        raise
    return udp


def make_udp_socket(host: str, *, receive_buffer_bytes: int, reuse_port: bool) -> socket.socket:
    """Make a non-blocking UDP socket for an address, not yet bound. IPv6 sockets take IPv6 only.

    ``receive_buffer_bytes`` is asked for by force where we are allowed to, else up to the limit of
    net.core.rmem_max; read SO_RCVBUF to see what was got.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if reuse_port:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    return udp


def bind_udp_socket(udp: socket.socket, host: str, port: int) -> None:
    """Bind a socket of ``make_udp_socket``; from now on it gets packets.

    Raises:
        BootError: the address is taken, not ours or not valid.

    """
    try:
        udp.bind((host, port))
    except OSError as exc:
        raise BootError(f"cannot open UDP {host} port {port}: {exc.strerror}") from exc


def block_for(udp: socket.socket, milliseconds: int) -> None:
    """Let receive calls without MSG_DONTWAIT wait so long, rounded up to the kernel's ticks.

    Holds for every duplicate of the socket, in other processes too.
    """
    udp.setblocking(True)  # noqa: FBT003 - the standard library's signature
    udp.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, milliseconds * 1000)
    )


def leave_group(public: socket.socket) -> None:
    """Keep new packets from a SO_REUSEPORT socket; what is queued in it can still be read.

    A connected socket is passed over when the kernel picks one of a group (Linux 5.4 and later).
    """
    host = public.getsockname()[0]
    if ip_address(host).is_unspecified:
        host = "::1" if public.family == socket.AF_INET6 else "127.0.0.1"
    public.connect((host, _DISCARD_PORT))


def _nothing_received() -> int:
    code = ctypes.get_errno()
    if code in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
        return 0
    raise OSError(code, os.strerror(code))


def _name_bytes(family: socket.AddressFamily) -> int:
    return SOCKADDR_BYTES if family == socket.AF_INET6 else _SOCKADDR_IN_BYTES
