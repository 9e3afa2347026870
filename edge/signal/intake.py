"""How fast connections and what they say are taken: in a flood they wait, so that calls need not.

Signaling shares its loop with media, which counts in milliseconds. To take a connection and to
close it costs a tenth of a millisecond or two, a request several. A hundred connections that have
something to say at the same moment would hold the loop for all that time together.
"""

import trio


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
