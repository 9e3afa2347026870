"""The relay workers: by place, added, removed and replaced without a lost packet.

A worker that replaces another one has the same public sockets. It starts and waits; the former one
is told to read no more, and when it has obeyed the new one begins with what has queued up in the
kernel meanwhile. So nothing is lost and nothing overtakes. Flows are in shared memory. The TCP
connections of clients cannot change hands: the former worker stays as long as it has some, for
``supervisor.handover_limit`` at most, and has a number and an internal address of its own.
"""

import trio
from attrs import evolve

from edge import relay
from edge.assignment.keys import fleet_keys, shared_keys
from edge.control import messages
from edge.errors import BootError
from edge.sockets import empty
from edge.supervision.crew import Crew
from edge.supervision.estate import Estate
from edge.supervision.transceivers import Transceivers
from edge.supervision.worker import SupervisedWorker

NUMBERS_MAX = 256
"""A byte in frames names a public socket, or the TCP connections of a relay worker."""


class Relays(Crew):
    """All relay workers. Their index is their number."""

    def __init__(self, estate: Estate, transceivers: Transceivers) -> None:
        super().__init__(estate)
        self._transceivers = transceivers

    def add_first(self) -> None:
        """Add those that the service starts with."""
        for place in range(self._estate.config.relay.workers):
            self.active.append(self._make(place, self._estate.relay_settings(place, place)))

    def inherit(self, number: int, place: int | None) -> SupervisedWorker:
        """Return one that runs already: the one of a place, or (None) one that leaves."""
        return self._make(number, self._estate.relay_settings(number, place or 0))

    async def set_count(self, wanted: int) -> None:
        """Have so many places.

        Raises:
            BootError: a worker or a socket cannot be had; the others are there.

        """
        while len(self.active) < wanted:
            await self._add()
        while len(self.active) > wanted:
            await self._remove()

    async def replace(self) -> None:
        """Replace the worker of every place, one after the other.

        Raises:
            BootError: a new one cannot start; the former one goes on, as those behind it.

        """
        for place in range(len(self.active)):
            await self._replace(place)

    async def accept_keys(self) -> None:
        """Have all accept the present keys."""
        keys = shared_keys(self._estate.keys)
        for place, one in enumerate(self.active):
            settings = self._estate.relay_settings(one.index, place)
            await one.change(settings, messages.AcceptKeys(self._estate.new_order(), keys))
        for one in list(self.leaving):
            await one.tell(messages.AcceptKeys(self._estate.new_order(), keys))

    async def use_fleet_keys(self) -> None:
        """Have all seal and open by the fleet's present keys."""
        keys = fleet_keys(self._estate.keys)
        for place, one in enumerate(self.active):
            settings = self._estate.relay_settings(one.index, place)
            await one.change(settings, messages.UseFleetKeys(self._estate.new_order(), keys))
        for one in list(self.leaving):
            await one.tell(messages.UseFleetKeys(self._estate.new_order(), keys))

    def release(self, worker: SupervisedWorker) -> None:
        """Its number is free: the internal socket stays for the next that has it."""

    async def _replace(self, place: int) -> None:
        number = await self._take_number()
        settings = self._estate.relay_settings(number, place)
        new, old = self._make(number, evolve(settings, waits=True)), self.active[place]
        await self.launch([new])
        self.active[place] = new
        with trio.CancelScope(shield=True):  # in between nobody reads the clients' packets
            await old.tell(messages.HandOver(self._estate.new_order()))
            await new.change(settings, messages.TakeOver(self._estate.new_order()))
        await self.see_off([old], self._estate.config.supervisor.handover_limit)

    async def _add(self) -> None:
        """Start one more; packets come to it once it is ready."""
        number, place = await self._take_number(), len(self.active)
        sockets = self._estate.sockets
        sockets.add_relay()
        added = self._make(number, self._estate.relay_settings(number, place))
        try:
            await self.launch([added])
        except BootError:
            sockets.remove_relay()
            raise
        self.active.append(added)
        sockets.bind_relay()

    async def _remove(self) -> None:
        """End the one of the last place without losing what is queued for it."""
        sockets = self._estate.sockets
        sockets.quiet_relay()
        removed = self.active.pop()
        await self.see_off([removed], self._estate.config.supervisor.handover_limit)
        sockets.remove_relay()

    async def _take_number(self) -> int:
        """Return a free number that the transceivers know the internal address of.

        Raises:
            BootError: there is none.

        """
        taken = {one.index for one in self.everybody}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        if number >= NUMBERS_MAX - len(self._estate.config.relay.listen):
            raise BootError(f"{len(self.leaving)} relay workers still have clients by TCP to end")
        sockets = self._estate.sockets
        if sockets.open_relay_internal(number + 1):
            await self._transceivers.trust_relays()
        empty(sockets.relay_internal[number])
        if sockets.relay_trunk:
            empty(sockets.relay_trunk[number])
        return number

    def _make(self, number: int, settings: relay.RelaySettings) -> SupervisedWorker:
        return self._estate.supervise("relay", number, relay.run, settings)
