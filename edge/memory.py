"""Memory that the supervisor holds and workers share: an anonymous file, handed down as an fd."""

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from typing import Any, Self

LOCK_TIME = 0.02
"""How long to try for the lock: longer than a holder may be off its processor, as a rule."""
LOCK_PAUSE = 0.0002


class HeldMemory:
    """A memfd. Pickled for a child process, it arrives there as a duplicate of the same file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def create(cls, name: str, size: int) -> Self:
        """Make ``size`` bytes of zeros. They cost nothing until they are written."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return cls(fd)

    def fileno(self) -> int:
        return self._fd

    def map(self) -> memoryview:
        """Map it, shared and writable, for as long as the view is kept."""
        return memoryview(mmap.mmap(self._fd, 0))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out; the lock of one that dies is free.

        Raises:
            TimeoutError: another process stays.

        """
        until = time.monotonic() + LOCK_TIME
        while not self._try_lock():
            if time.monotonic() >= until:
                raise TimeoutError("the lock of the shared memory is taken")
            time.sleep(LOCK_PAUSE)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close our descriptor; mappings and duplicates stay."""
        os.close(self._fd)

    def _try_lock(self) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherit, (type(self), reduction.DupFd(self._fd))


def _inherit(kind: type[HeldMemory], duplicate: Any) -> HeldMemory:
    return kind(duplicate.detach())
