"""One connection's commands, in the order in which their replies come. A core: it does no I/O.

Nothing waits for a reply before the next command is sent. Commands that have no reply yet are
bounded; beyond that a command is refused at once, which is what a caller on a hot path can bear. A
server that does not answer the oldest one in time is as good as gone: the rest stand behind it.
"""

from collections import deque
from collections.abc import Callable

from edge.errors import StoreError
from edge.redis.resp import Argument, Replies, Reply, encode_command

PENDING_MAX = 8_192
"""Commands without a reply."""

Done = Callable[[Reply], None]
"""Takes a command's reply, or the StoreError that took its place. It must not raise."""


class Pipeline:
    """Times: seconds on the caller's monotonic clock."""

    def __init__(self, command_timeout: float, pending_max: int = PENDING_MAX) -> None:
        self._command_timeout = command_timeout
        self._pending_max = pending_max
        self._replies = Replies()
        self._pending: deque[tuple[float, Done | None]] = deque()
        self._outgoing: list[bytes] = []

    def submit(self, done: Done | None, *arguments: Argument, now: float) -> None:
        """Queue a command; ``done`` gets its reply.

        Raises:
            StoreError: ``redis-busy``, too many have no reply yet.

        """
        if len(self._pending) >= self._pending_max:
            raise StoreError("redis-busy")
        self._outgoing.append(encode_command(*arguments))
        self._pending.append((now + self._command_timeout, done))

    def take_outgoing(self) -> bytes:
        """Return what is to be sent, and count it as sent."""
        outgoing = b"".join(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def receive(self, data: bytes) -> StoreError | None:
        """Give the replies that came to those who wait for them.

        Return one that says that this server is the wrong one to ask, if there is any.

        Raises:
            StoreError: the connection is of no use any more.

        """
        wrong_server = None
        for reply in self._replies.receive(data):
            if not self._pending:
                raise StoreError("redis-protocol", "a reply that nobody asked for")
            _, done = self._pending.popleft()
            if done is not None:
                done(reply)
            if isinstance(reply, StoreError) and reply.reason == "redis-read-only":
                wrong_server = reply
        return wrong_server

    @property
    def deadline(self) -> float | None:
        """When the connection is lost if no reply comes; None if none is due."""
        return self._pending[0][0] if self._pending else None

    @property
    def pending(self) -> int:
        return len(self._pending)

    def fail(self, error: StoreError) -> None:
        """Tell everybody who waits that there will be no reply."""
        self._outgoing.clear()
        pending, self._pending = self._pending, deque()
        for _, done in pending:
            if done is not None:
                done(error)
