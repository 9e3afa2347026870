"""A forkserver that outlives requests which fail.

``multiprocessing``'s ends when somebody connects and leaves without a word, as a supervisor does
that cannot send its descriptors, and when the kernel refuses it a process. All workers are its
children and end with it. But it goes on after ``ECONNABORTED``, so that is what such a request is
turned into: whoever asked sees his pipes close, and the others notice nothing.
"""

import errno
import os
import socket
from collections.abc import Callable
from multiprocessing import reduction

Receive = Callable[[socket.socket, int], list[int]]
Fork = Callable[[], int]


class Requests:
    """The two steps of a request that may fail. One request at a time."""

    def __init__(self, receive: Receive, fork: Fork) -> None:
        self._receive = receive
        self._fork = fork
        self._descriptors: list[int] = []

    def receive(self, sock: socket.socket, size: int) -> list[int]:
        """Receive a request's descriptors. Raises OSError (ECONNABORTED): they did not come."""
        try:
            self._descriptors = self._receive(sock, size)
        except (OSError, EOFError, RuntimeError, AssertionError) as exc:
            raise _aborted(exc) from exc
        return list(self._descriptors)

    def fork(self) -> int:
        """Fork. Raises OSError (ECONNABORTED): not possible; the descriptors are closed."""
        try:
            return self._fork()
        except OSError as exc:
            for descriptor in self._descriptors:
                os.close(descriptor)
            raise _aborted(exc) from exc


def tolerate_failures() -> None:
    """Have the forkserver, which is this process, outlive requests that fail."""
    requests = Requests(reduction.recvfds, os.fork)
    reduction.recvfds = requests.receive
    os.fork = requests.fork


def _aborted(cause: Exception) -> ConnectionAbortedError:
    return ConnectionAbortedError(errno.ECONNABORTED, f"a worker is not forked: {cause}")
