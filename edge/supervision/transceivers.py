"""The transceiver workers, generation by generation.

A generation is made with the settings of its time. A new one starts in free slots, waits until all
of it is ready, and then takes over: from that moment on the workers before it accept nobody and get
no new sessions. They keep the calls and conversations that they have, for
``supervisor.handover_limit`` at most, and are reached by the others as before.

The signaling listeners are the same for all generations, so no connection is lost in between.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio
from attrs import evolve

from edge.assignment.keys import fleet_keys, shared_keys
from edge.control import messages
from edge.control.status import Drain
from edge.errors import BootError
from edge.routing.numbers import SLOTS_MAX
from edge.sockets import addresses_of, empty
from edge.supervision.crew import Crew, gather
from edge.supervision.estate import Estate
from edge.supervision.worker import SupervisedWorker
from edge.transceiver import worker as transceiver
from edge.transceiver.load import LoadTable
from edge.transceiver.settings import TransceiverSettings

logger = logging.getLogger(__name__)


class Transceivers(Crew):
    """All transceiver workers. Their index is their slot."""

    def __init__(self, estate: Estate) -> None:
        super().__init__(estate)
        self._load = LoadTable(estate.neighbourhood.load_memory.map())
        self._telling_drain = trio.Lock()

    def add_first(self) -> None:
        """Add the first generation, which has nobody to wait for."""
        for worker in range(self._estate.config.transceiver.workers):
            self.active.append(self._make(worker, self._settings(worker, worker)))

    def inherit(self, slot: int, worker: int | None) -> SupervisedWorker:
        """Return one that runs already: one of those that work, or (None) one that leaves."""
        return self._make(slot, self._settings(slot, worker or 0))

    @property
    def free_slots(self) -> list[int]:
        taken = {one.index for one in self.everybody}
        return [slot for slot in range(SLOTS_MAX) if slot not in taken]

    def check_room(self, workers: int) -> None:
        """Refuse a new generation of so many workers if there are no slots for it.

        Raises:
            BootError: there are not.

        """
        free = len(self.free_slots)
        if free < workers:
            text = f"{len(self.leaving)} transceiver workers still have calls to end"
            raise BootError(f"{text}, and {free} more are possible, not {workers}")

    async def replace(self) -> None:
        """Have a new generation take over.

        Raises:
            BootError: it cannot; everything is as before.

        """
        estate = self._estate
        workers, drain = estate.config.transceiver.workers, estate.drain
        self.check_room(workers)
        estate.sockets.open_listeners(workers)
        settings = [
            self._settings(slot, worker) for worker, slot in enumerate(self.free_slots[:workers])
        ]
        for each in settings:
            empty(each.internal)
            if each.trunk is not None:
                empty(each.trunk.socket)
        new = [self._make(each.index, evolve(each, waits=True)) for each in settings]
        await self.launch(new)
        for one, each in zip(new, settings, strict=True):
            await one.change(each, messages.TakeOver(estate.new_order()))
        old, self.active = self.active, new
        if estate.drain != drain:
            await self._tell_drain()
        await self._hand_over(old)

    async def use_key(self) -> None:
        """Have all seal new ufrags with the first routing key."""
        key = shared_keys(self._estate.keys)[0]
        await self._change(lambda: messages.IssueWith(self._estate.new_order(), key))

    async def use_fleet_keys(self) -> None:
        """Have all seal and open by the fleet's present keys."""
        keys = fleet_keys(self._estate.keys)
        await self._change(lambda: messages.UseFleetKeys(self._estate.new_order(), keys))

    async def trust_relays(self) -> None:
        """Have all take frames from the relay workers' internal addresses as they are now."""
        relays = list(addresses_of(self._estate.sockets.relay_internal))
        await self._change(lambda: messages.TrustRelays(self._estate.new_order(), relays))

    async def set_drain(self, drain: Drain | None) -> None:
        """Have all, and those that come, take new sessions or none."""
        self._estate.drain = drain
        await self._tell_drain()

    async def end_sessions(self) -> None:
        """Have all end all their sessions."""
        await self.tell_all(lambda: messages.EndSessions(self._estate.new_order()))

    async def reload_files(self) -> None:
        """Have those that work read again what they have of files, if they have any."""
        order = self._estate.new_order
        for worker, one in enumerate(self.active):
            settings = self._settings(one.index, worker)
            if settings.tls_files is not None:
                await one.tell(messages.ReloadCertificate(order()))
            if settings.visitors.database is not None:
                await one.tell(messages.ReloadPositions(order()))

    def release(self, worker: SupervisedWorker) -> None:
        """Its slot is free."""
        self._load.clear(worker.index)

    async def _hand_over(self, old: Sequence[SupervisedWorker]) -> None:
        order = self._estate.new_order
        await gather([partial(one.tell, messages.HandOver(order())) for one in old])
        calls = sum(one.sessions for one in old)
        limit = self._estate.config.supervisor.handover_limit
        await self.see_off(old, limit)
        logger.info(
            "%d new transceiver workers have taken over; %d calls of the former ones may last %g s",
            len(self.active),
            calls,
            limit,
        )

    async def _tell_drain(self) -> None:
        """Tell all what is in force by now; the last one to be told is the latest."""
        async with self._telling_drain:
            drain = self._estate.drain
            ends_at = drain.ends_at if drain is not None else None
            await self._change(
                lambda: messages.TakeSessions(self._estate.new_order(), drain is None, ends_at)
            )

    async def _change(self, order: Callable[[], messages.Order]) -> None:
        """Give an order to all. What it says is in the settings of those that work, too."""
        verbs: list[Callable[[], Awaitable[object]]] = [
            partial(one.change, self._settings(one.index, worker), order())
            for worker, one in enumerate(self.active)
        ]
        verbs += [partial(one.tell, order()) for one in self.leaving]
        await gather(verbs)

    def _settings(self, slot: int, worker: int) -> TransceiverSettings:
        settings = self._estate.transceiver_settings(slot, worker)
        drain = self._estate.drain
        if drain is None:
            return settings
        return evolve(settings, paused=True, drained_at=drain.ends_at)

    def _make(self, slot: int, settings: TransceiverSettings) -> SupervisedWorker:
        return self._estate.supervise("transceiver", slot, transceiver.run, settings)
