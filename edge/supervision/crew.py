"""The workers of one kind: those that work, and those that have handed over and are leaving."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from edge.control import messages
from edge.errors import BootError, TransientBootError
from edge.supervision.estate import Estate
from edge.supervision.worker import SupervisedWorker

logger = logging.getLogger(__name__)

STOP_TIME = 3.0
"""How long a worker may take to end, beyond what it was given to drain."""
SWIFT_TIME = 0.5
"""A worker that hands over is waited for as long; most have nothing that keeps them."""


class Crew(ABC):
    """All workers of one kind. ``begin`` comes first."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._nursery: trio.Nursery | None = None
        self.active: list[SupervisedWorker] = []
        """Those that work, by place."""
        self.leaving: dict[SupervisedWorker, float] = {}
        """Those that have handed over, and when they will have ended at the latest (seconds on the
        system-wide monotonic clock)."""
        self._kept: set[SupervisedWorker] = set()
        """Those that have not ended, those in the hands of a change included."""

    @property
    def everybody(self) -> list[SupervisedWorker]:
        return [*self.active, *self.leaving]

    @abstractmethod
    def release(self, worker: SupervisedWorker) -> None:
        """A worker has ended for good."""

    def begin(self, nursery: trio.Nursery) -> None:
        """Start the workers that there are, or go on with those that run."""
        self._nursery = nursery
        for one in self.everybody:
            self._start(one, nursery)
        for one in self.leaving:
            nursery.start_soon(self._see_end, one)

    async def launch(self, workers: Sequence[SupervisedWorker]) -> None:
        """Start workers and wait until all of them are ready.

        If this is cancelled they are left to ``stop``, as nothing else is done then.

        Raises:
            BootError: they are not in time, or cannot start. None of them is left.

        """
        assert self._nursery is not None  # ``begin`` comes first
        for one in workers:
            self._start(one, self._nursery)
        try:
            await wait_ready(workers, self._estate.config.supervisor.boot_timeout)
        except BootError:
            for one in workers:
                one.kill()
                await one.ended.wait()
                self.release(one)
            raise

    async def see_off(self, workers: Sequence[SupervisedWorker], grace: float) -> None:
        """Let workers that have handed over end within ``grace`` seconds; do not wait for long."""
        assert self._nursery is not None  # ``begin`` comes first
        for one in workers:
            self.leaving[one] = time.monotonic() + grace
            await one.leave(grace)
            self._nursery.start_soon(self._see_end, one)
        with trio.move_on_after(SWIFT_TIME):
            for one in workers:
                await one.ended.wait()

    def note_stopping(self) -> None:
        """Start none again that ends from now on. ``stop`` is going to follow."""
        for one in self._kept:
            one.note_stopping()

    async def stop(self, grace: float) -> None:
        """End all workers within ``grace`` seconds. Those that never were ready have no calls."""
        everybody = list(self._kept)
        for one in everybody:
            if not one.ready.is_set():
                one.kill()
        await gather([partial(one.stop, grace) for one in everybody if one.ready.is_set()])
        with trio.move_on_after(grace + STOP_TIME):
            for one in everybody:
                await one.ended.wait()
        for one in everybody:
            await _make_end(one)

    async def hurry(self) -> None:
        """Have all that ``stop`` waits for end at once."""
        await gather([partial(one.stop, 0.0) for one in self._kept])

    async def tell_all(self, order: Callable[[], messages.Order]) -> None:
        """Give an order to every worker, to all at the same time."""
        await gather([partial(one.tell, order()) for one in self.everybody])

    def _start(self, worker: SupervisedWorker, nursery: trio.Nursery) -> None:
        self._kept.add(worker)
        nursery.start_soon(self._keep, worker)

    async def _keep(self, worker: SupervisedWorker) -> None:
        try:
            await worker.keep()
        finally:
            self._kept.remove(worker)

    async def _see_end(self, worker: SupervisedWorker) -> None:
        with trio.move_on_after(self.leaving[worker] - time.monotonic() + STOP_TIME):
            await worker.ended.wait()
        await _make_end(worker)
        logger.info("worker %s has left", worker.name, extra={"worker": worker.name})
        self.release(worker)
        del self.leaving[worker]


async def gather(verbs: Sequence[Callable[[], Awaitable[object]]]) -> None:
    """Do several things at the same time."""
    async with trio.open_nursery() as nursery:
        for verb in verbs:
            nursery.start_soon(verb)


async def wait_ready(workers: Sequence[SupervisedWorker], limit: float) -> None:
    """Wait until all are ready.

    Raises:
        BootError: one cannot start, or is not ready within ``limit`` seconds.

    """
    with trio.move_on_after(limit):
        for one in workers:
            await one.settled.wait()
            if one.failure is not None:
                raise one.failure
    late = ", ".join(one.name for one in workers if not one.ready.is_set())
    if late:
        raise TransientBootError(f"not ready in time: {late}")


async def _make_end(worker: SupervisedWorker) -> None:
    if not worker.ended.is_set():
        extra = {"worker": worker.name}
        logger.error("worker %s did not end in time: killing it", worker.name, extra=extra)
        worker.kill()
        await worker.ended.wait()
