"""How fast connections and what they say are taken: in a flood they wait, so that calls need not.

Signaling shares its loop with media, which counts in milliseconds. To take a connection and to
close it costs a tenth of a millisecond or two, a request several. A hundred connections that have
something to say at the same moment would hold the loop for all that time together.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

logger = logging.getLogger(__name__)

ACCEPT_PAUSE = 0.1
"""How long nobody is accepted after an attempt has failed."""


async def serve_connections(
    serve: Callable[[trio.SocketStream], Awaitable[object]],
    listeners: Sequence[trio.abc.Listener[trio.SocketStream]],
    *,
    connections: trio.Nursery | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``serve`` for each connection, in a task of ``connections``, until cancelled.

    A connection that fails ends alone. Accepting outlives every error of the system: no descriptors
    left, a client that has gone already, a socket that somebody has shut down.
    """
    async with trio.open_nursery() as nursery:
        for each in listeners:
            nursery.start_soon(_accept, each, serve, connections or nursery)
        task_status.started()


async def _accept(
    listener: trio.abc.Listener[trio.SocketStream],
    serve: Callable[[trio.SocketStream], Awaitable[object]],
    connections: trio.Nursery,
) -> None:
    fails = False
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as exc:
                if not fails:
                    logger.warning("connections cannot be accepted: %s", exc)
                fails = True
                await trio.sleep(ACCEPT_PAUSE)
                continue
            fails = False
            connections.start_soon(_serve, stream, serve)


async def _serve(
    stream: trio.SocketStream, serve: Callable[[trio.SocketStream], Awaitable[object]]
) -> None:
    try:
        await serve(stream)
    except* (OSError, trio.BrokenResourceError) as group:
        logger.debug("a connection has ended: %r", group.exceptions)
    except* Exception:
        logger.exception("a connection has failed")
    finally:
        await trio.aclose_forcefully(stream)


class Door(trio.abc.Listener[trio.SocketStream]):
    """A listener that others share: it accepts only while it is ``open``.

    What nobody accepts here waits in the kernel for them.
    """

    def __init__(self, listener: trio.SocketListener, *, is_open: bool) -> None:
        self._listener = listener
        self._opened = trio.Event()
        self._left = False
        self._accepting = trio.CancelScope()
        if is_open:
            self._opened.set()

    def open(self) -> None:
        """Accept from now on."""
        self._opened.set()

    def leave(self) -> None:
        """Accept nobody any more."""
        self._left = True
        self._accepting.cancel()

    async def accept(self) -> trio.SocketStream:
        await self._opened.wait()
        while not self._left:
            with trio.CancelScope() as self._accepting:
                return await self._listener.accept()
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        await self._listener.aclose()


class PacedListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts ``rate`` connections per second at most, some in a row at once."""

    def __init__(
        self, listener: trio.abc.Listener[trio.SocketStream], rate: float, burst: int
    ) -> None:
        self._listener = listener
        self._interval = 1 / rate
        self._slack = burst * self._interval
        self._next = 0.0
        """When the next connection is due, were they to come evenly."""

    async def accept(self) -> trio.SocketStream:
        now = trio.current_time()
        self._next = max(self._next, now - self._slack) + self._interval
        if self._next > now:
            await trio.sleep_until(self._next)
        return await self._listener.accept()

    async def aclose(self) -> None:
        await self._listener.aclose()


class Turnstile:
    """Lets connections go on one at a time, in order, ``interval`` seconds apart if several wait.

    A connection that has got through may do what it has to do until it waits for something else.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._lock = trio.Lock()

    async def wait(self) -> None:
        async with self._lock:
            if self._lock.statistics().tasks_waiting:
                await trio.sleep(self._interval)
            else:
                await trio.lowlevel.checkpoint()
