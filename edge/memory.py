"""Memory that the supervisor holds and workers share: an anonymous file, handed down as an fd."""

import mmap
import os
from multiprocessing import reduction
from typing import Any, Self


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

    def map(self) -> memoryview:
        """Map it, shared and writable, for as long as the view is kept."""
        return memoryview(mmap.mmap(self._fd, 0))

    def close(self) -> None:
        """Close our descriptor; mappings and duplicates stay."""
        os.close(self._fd)

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherit, (type(self), reduction.DupFd(self._fd))


def _inherit(kind: type[HeldMemory], duplicate: Any) -> HeldMemory:
    return kind(duplicate.detach())
