"""The kernel's batch calls by ctypes, and memory that is laid out for them once.

Why by hand: one system call per packet is what makes a Python packet loop slow, and no library
offers the batch calls. All arrays live in one anonymous mapping per object; numpy views are how
whole columns (lengths, flags, addresses) are read and written at C speed.

``struct mmsghdr`` on LP64 is eight 64-bit words: name, namelen (32 bits), iov, iovlen, control,
controllen, flags (32 bits), msg_len (32 bits). ``struct iovec`` is two: base, len.
"""

import ctypes
import mmap
import socket

import numpy as np
import numpy.typing as npt

from edge.routing import frames
from edge.routing.sockaddr import SOCKADDR_BYTES

ROW_STRIDE = 1_600
"""Bytes from row to row in a batch: 25 cache lines, an odd number on purpose."""
PAYLOAD_OFFSET = frames.ROW_HEAD.size
PAYLOAD_BYTES_MAX = ROW_STRIDE - PAYLOAD_OFFSET
"""Longer packets are truncated by the kernel, and counted."""

MSGHDR_BYTES = 64
IOVEC_BYTES = 16
NAME, NAMELEN, IOV, IOVLEN, FLAGS, LENGTH = 0, 1, 2, 3, 6, 7
"""Words of an mmsghdr."""
_SOCKADDR_IN_BYTES = 16

Words = npt.NDArray[np.uint64]

_libc = ctypes.CDLL(None, use_errno=True)
recvmmsg = _libc.recvmmsg
recvmmsg.argtypes = [
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
]
recvmmsg.restype = ctypes.c_int
sendmmsg = _libc.sendmmsg
sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
sendmmsg.restype = ctypes.c_int
# Never waits, so it need not give up the interpreter lock.
sendmsg = ctypes.PyDLL(None, use_errno=True).sendmsg
sendmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
sendmsg.restype = ctypes.c_ssize_t


class Memory:
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


def name_bytes(family: socket.AddressFamily) -> int:
    return SOCKADDR_BYTES if family == socket.AF_INET6 else _SOCKADDR_IN_BYTES
