"""A process that has used up its descriptors, as far as the kernel is concerned."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_descriptors(keep: int = 0) -> Iterator[None]:
    """Let nothing be opened in this process but ``keep`` descriptors; what is open goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(2) for _ in range(keep)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free, default=-1) + 1, hard))
    for each in free:
        os.close(each)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
