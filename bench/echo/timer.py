"""A timer that the kernel keeps and epoll waits for, finer than epoll's own milliseconds.

``timerfd_create(2)`` by ctypes; the standard library has it from Python 3.13 on.
"""

import ctypes
import os
import struct
import time

_libc = ctypes.CDLL(None, use_errno=True)
_TIMESPECS = struct.Struct("@qqqq")
_EXPIRATIONS = struct.Struct("@Q")


class IntervalTimer:
    """Expires every ``interval`` seconds from the moment it is made."""

    def __init__(self, interval: float) -> None:
        self.fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        seconds, nanoseconds = divmod(round(interval * 1e9), 1_000_000_000)
        value = _TIMESPECS.pack(seconds, nanoseconds, seconds, nanoseconds)
        if _libc.timerfd_settime(self.fd, 0, value, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def expirations(self) -> int:
        """Return how often it has expired since the last call."""
        count: int = _EXPIRATIONS.unpack(os.read(self.fd, 8))[0]
        return count

    def close(self) -> None:
        os.close(self.fd)
