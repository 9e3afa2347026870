"""Reads a transceiver's frames from its internal sockets, at the right moments.

One socket is for the relays of this host, another one for those of other hosts, if there are any.

To wait for readiness through Trio costs as much processor time as to echo three packets, so a busy
worker cannot afford it for every frame. When frames come faster than one per ``TICK``, the loop
stops waiting: it sleeps for a tick, takes all that has come, and lets the worker's other tasks run
every ``TICKS_PER_TURN``. That delays a packet by half a tick on average, which is nothing beside a
frame of 20 ms, and it makes batches, which are cheaper on the way out, too. A worker that is not
busy waits for each frame and adds no delay. bench/echo is what the figures come from.

The sleep is the thread's, as Trio's has a granularity of 1 ms and the price of a wake-up.
"""

import errno
import select
import socket
import time
from collections.abc import Callable, Sequence

import trio

from edge.routing.frames import FRAME_BYTES_MAX

TICK = 0.001
TICKS_PER_TURN = 2
FRAMES_AT_ONCE = 64
"""How many frames are read before the next tick, or before other tasks get a turn."""
BUSY_FRAMES = 64
"""The loop is busy when so many frames come within as many ticks."""
QUIET_TURNS = 32
"""It is not any more when, over so many turns, there was less than a frame in two ticks."""

Feed = Callable[[memoryview, tuple[str, int], float], None]
"""Takes one frame, its source and the time. The memory is reused afterwards."""


Tick = Callable[[float], None]


class FrameReceiver:
    """Feeds the frames of one socket to a function, and those of ``further`` sockets to theirs.

    ``tick`` is called with the time at every look of a busy worker, when other tasks may not get
    their turn in time. ``sleep`` blocks the thread for so many seconds; tests pass their own.
    """

    def __init__(
        self,
        internal: socket.socket,
        feed: Feed,
        tick: Callable[[float], None],
        sleep: Callable[[float], None] = time.sleep,
        further: Sequence[tuple[socket.socket, Feed]] = (),
    ) -> None:
        self._sources = ((internal, feed), *further)
        self._ready: socket.socket | select.epoll = internal
        if further:
            self._ready = select.epoll()
            for one, _ in self._sources:
                self._ready.register(one.fileno(), select.EPOLLIN)
        self._tick = tick
        self._sleep = sleep
        self._buffer = bytearray(FRAME_BYTES_MAX)
        self._view = memoryview(self._buffer)

    async def run(self) -> None:
        """Receive until cancelled."""
        while True:
            await self._wait_for_frames()
            await self._look_for_frames()

    async def _wait_for_frames(self) -> None:
        """Take frames as they come; return when they come fast."""
        while True:
            began_at, count = trio.current_time(), 0
            while count < BUSY_FRAMES:
                await trio.lowlevel.wait_readable(self._ready)
                count += self._take()
            if trio.current_time() - began_at < BUSY_FRAMES * TICK:
                return

    async def _look_for_frames(self) -> None:
        """Take what has come at every tick; return when it is little."""
        count = QUIET_TURNS * TICKS_PER_TURN
        while count >= QUIET_TURNS * TICKS_PER_TURN / 2:
            count = 0
            for _ in range(QUIET_TURNS):
                await trio.lowlevel.checkpoint()
                for _ in range(TICKS_PER_TURN):
                    self._sleep(TICK)
                    self._tick(trio.current_time())
                    count += self._take(self._tick)
                    self._tick(trio.current_time())

    def _take(self, tick: Tick | None = None) -> int:
        """Take the frames that are there; return how many. ``tick`` is called in between."""
        return sum(self._take_from(one, feed, tick) for one, feed in self._sources)

    def _take_from(self, internal: socket.socket, feed: Feed, tick: Tick | None) -> int:
        ticked_at = trio.current_time()
        for count in range(FRAMES_AT_ONCE):
            try:
                size, source = internal.recvfrom_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                    raise
                return count
            now = trio.current_time()
            if tick is not None and now - ticked_at >= TICK:
                tick(now)
                ticked_at = trio.current_time()
            feed(self._view[:size], source[:2], now)
        return FRAMES_AT_ONCE
