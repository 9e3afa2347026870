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
from collections import Counter
from ipaddress import ip_address

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

_MSGHDR_BYTES = 64
_IOVEC_BYTES = 16
_NAME, _NAMELEN, _IOV, _IOVLEN, _FLAGS, _LENGTH = 0, 1, 2, 3, 6, 7
_SOCKADDR_IN_BYTES = 16
_SO_RCVBUFFORCE = 33
_DISCARD_PORT = 9

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
_sendmsg = _libc.sendmsg
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


class ReceiveBatch:
    """Memory that one recvmmsg fills with rows ready to be framed (see edge/routing/frames.py)."""

    def __init__(self, rows: int = BATCH_ROWS) -> None:
        memory = _Memory(rows * (ROW_STRIDE + _MSGHDR_BYTES + _IOVEC_BYTES) + 4 * 64)
        base, data = memory.take(rows * ROW_STRIDE)
        self._headers_address, headers = memory.take_words(rows, _MSGHDR_BYTES // 8)
        iovecs_address, iovecs = memory.take_words(rows, _IOVEC_BYTES // 8)
        self._memory = memory
        self._rows = rows
        starts = base + np.arange(rows, dtype=np.uint64) * np.uint64(ROW_STRIDE)
        iovecs[:, 0] = starts + np.uint64(PAYLOAD_OFFSET)
        iovecs[:, 1] = PAYLOAD_BYTES_MAX
        headers[:, _NAME] = starts
        headers[:, _NAMELEN] = SOCKADDR_BYTES
        headers[:, _IOV] = iovecs_address + np.arange(rows, dtype=np.uint64) * np.uint64(
            _IOVEC_BYTES
        )
        headers[:, _IOVLEN] = 1
        halves = headers.view(np.uint32)
        table = data.reshape(rows, ROW_STRIDE)
        self.addresses = starts
        """Where each row starts in memory: what an iovec's base takes."""
        self.lengths = halves[:, 2 * _LENGTH]
        """Payload bytes of each row."""
        self.kernel_flags = halves[:, 2 * _FLAGS]
        self.first_bytes = table[:, PAYLOAD_OFFSET]
        self.clients: npt.NDArray[np.void] = np.ndarray(
            (rows,), dtype=f"V{SOCKADDR_BYTES}", buffer=table, strides=(ROW_STRIDE,)
        )
        """The flow keys; ``tolist`` makes bytes of them."""
        self.row_words = np.ndarray(
            (rows,),
            dtype="<u4",
            buffer=table,
            offset=SOCKADDR_BYTES,
            strides=(ROW_STRIDE,),
        )
        """Each row's length and flags as the one 32-bit word they are on a little-endian frame."""
        self._view = memory.bytes.data

    def receive(self, fd: int) -> int:
        """Fill rows from a socket without waiting; return how many. 0 when nothing is there.

        Raises:
            OSError: the socket is unusable.

        """
        count: int = _recvmmsg(fd, self._headers_address, self._rows, socket.MSG_DONTWAIT, None)
        if count >= 0:
            return count
        code = ctypes.get_errno()
        if code in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
            return 0
        raise OSError(code, os.strerror(code))

    def payload(self, row: int, length: int) -> memoryview:
        """Return a view of one row's payload, valid until the next ``receive``."""
        start = row * ROW_STRIDE + PAYLOAD_OFFSET
        return self._view[start : start + length]


class FrameSender:
    """Sends rows of a receive batch as one frame to one transceiver, gathered, without a copy."""

    def __init__(self, host: str, port: int, relay: int, rows: int = BATCH_ROWS) -> None:
        memory = _Memory(_MSGHDR_BYTES + (rows + 1) * _IOVEC_BYTES + 64 * 4 + SOCKADDR_BYTES)
        name_address, name = memory.take(SOCKADDR_BYTES)
        head_address, self._head = memory.take(frames.HEADER.size)
        iovecs_address, self._iovecs = memory.take_words(rows + 1, _IOVEC_BYTES // 8)
        self._header_address, header = memory.take_words(1, _MSGHDR_BYTES // 8)
        self._memory = memory
        self._relay = relay
        name[:] = np.frombuffer(encode_sockaddr(host, port), dtype=np.uint8)
        self._iovecs[0] = head_address, frames.HEADER.size
        header[0, _NAME] = name_address
        header[0, _NAMELEN] = _name_bytes(socket.AF_INET6 if ":" in host else socket.AF_INET)
        header[0, _IOV] = iovecs_address
        self._header = header[0]

    def send(self, fd: int, public_socket: int, addresses: Words, lengths: Words) -> int:
        """Send one or more frames with the given rows; return how many rows went out.

        ``lengths`` are whole rows, head included. A frame over the UDP limit is split. Rows that
        the internal hop does not take at once (full, unreachable) are lost.
        """
        count = len(addresses)
        if int(lengths.sum()) + frames.HEADER.size <= frames.FRAME_BYTES_MAX:
            return self._send_frame(fd, public_socket, addresses, lengths)
        middle = count // 2
        return self.send(fd, public_socket, addresses[:middle], lengths[:middle]) + self.send(
            fd, public_socket, addresses[middle:], lengths[middle:]
        )

    def _send_frame(self, fd: int, public_socket: int, addresses: Words, lengths: Words) -> int:
        count = len(addresses)
        frames.HEADER.pack_into(
            self._head.data, 0, frames.MAGIC, frames.PACKETS, public_socket, self._relay, count
        )
        self._iovecs[1 : count + 1, 0] = addresses
        self._iovecs[1 : count + 1, 1] = lengths
        self._header[_IOVLEN] = count + 1
        sent: int = _sendmsg(fd, self._header_address, socket.MSG_DONTWAIT)
        return count if sent >= 0 else 0


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


def leave_group(public: socket.socket) -> None:
    """Keep new packets from a SO_REUSEPORT socket; what is queued in it can still be read.

    A connected socket is passed over when the kernel picks one of a group (Linux 5.4 and later).
    """
    host = public.getsockname()[0]
    if ip_address(host).is_unspecified:
        host = "::1" if public.family == socket.AF_INET6 else "127.0.0.1"
    public.connect((host, _DISCARD_PORT))


def _name_bytes(family: socket.AddressFamily) -> int:
    return SOCKADDR_BYTES if family == socket.AF_INET6 else _SOCKADDR_IN_BYTES
