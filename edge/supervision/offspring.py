"""A worker's process as the supervisor holds it: one that it started, or one that it inherited.

Workers are children of a forkserver, which writes a worker's exit status into a pipe. The reading
end of that pipe is all that is needed to know how a worker ends. So a supervisor that re-executes
itself (handover.py) passes these ends on, and the forkserver, which lives as long as
one of its workers does, goes on to serve them.
"""

import os
import select
import signal
import struct
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Protocol

import trio

_STATUS = struct.Struct("q")
"""As multiprocessing.forkserver writes numbers."""


class Offspring(Protocol):
    """A worker's process."""

    @property
    def pid(self) -> int: ...

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process has ended."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""

    def reap(self) -> int | None:
        """Return the status of a process that has ended, and forget it. None: nobody knows."""


class Started:
    """A process that ``multiprocessing`` has started for us."""

    def __init__(self, child: BaseProcess) -> None:
        assert child.pid is not None  # it was started
        self.pid = child.pid
        self._child = child

    @property
    def sentinel(self) -> int:
        return self._child.sentinel

    def signal(self, number: signal.Signals) -> None:
        if self._child.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reap(self) -> int | None:
        self._child.join()
        status = self._child.exitcode
        self._child.close()
        return status


class Inherited:
    """A process that our predecessor under the same process id has started."""

    def __init__(self, pid: int, sentinel: int) -> None:
        self.pid = pid
        self.sentinel = sentinel

    def signal(self, number: signal.Signals) -> None:
        if not _is_readable(self.sentinel):
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reap(self) -> int | None:
        """The end of the stream without a status: the forkserver has ended before it."""
        data = os.read(self.sentinel, _STATUS.size)
        os.close(self.sentinel)
        return int(_STATUS.unpack(data)[0]) if len(data) == _STATUS.size else None


async def reap_child(pid: int) -> None:
    """Wait until a child that is no worker has ended. Nothing happens if there is no such child."""
    with suppress(ProcessLookupError, ChildProcessError):
        descriptor = os.pidfd_open(pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
