"""The host's voice in its fleet: it tells the others how much room its workers have."""

import time
from collections.abc import Sequence

import trio

from edge.assignment.fleet import fleet_map
from edge.control.status import ClusterStatus
from edge.fleet.map import FleetKey, FleetMap
from edge.fleet.seal import KeyRing
from edge.fleet.states import HostState, StateTable
from edge.supervision.estate import Estate
from edge.supervision.relays import Relays
from edge.transceiver.load import LoadTable, host_state
from edge.transceiver.speaking import tell_peers


class Voice:
    """Speaks for as long as ``run`` does, to whoever is in the fleet in force."""

    def __init__(self, estate: Estate, relays: Relays) -> None:
        self._estate = estate
        self._relays = relays
        self._load = LoadTable(estate.neighbourhood.load_memory.map())
        self._states = StateTable(estate.neighbourhood.state_memory.map())
        self._speaking = trio.CancelScope()
        self._terms = self._read_terms()

    async def run(self) -> None:
        """Tell the others, for ever; if the host is alone, nobody."""
        while True:
            fleet, keys = self._terms = self._read_terms()
            with trio.CancelScope() as self._speaking:
                if fleet is None:
                    await trio.sleep_forever()
                else:
                    await tell_peers(fleet, KeyRing(keys), self.state)

    def renew(self) -> None:
        """Begin anew if the fleet or its keys are others now."""
        if self._read_terms() != self._terms:
            self._speaking.cancel()

    def state(self) -> HostState:
        """Return what there is to tell now."""
        running = sum(one.ready.is_set() for one in self._relays.active)
        on_time_min = self._estate.config.transceiver.on_time_min
        return host_state(self._load, time.monotonic(), on_time_min, relays=running)

    def clusters(self) -> list[ClusterStatus]:
        """Return what is known of the fleet's clusters."""
        fleet, _ = self._terms
        if fleet is None or fleet.here.cluster is None:
            return []
        told: dict[int, list[HostState | None]] = {each.id: [] for each in fleet.clusters}
        now = time.monotonic()
        for member in fleet.members:
            if member.cluster is not None:
                is_here = member.name == fleet.here.name
                state = self.state() if is_here else self._states.read(member.name, now)
                told[member.cluster.id].append(state)
        return [_describe(each.name, told[each.id]) for each in fleet.clusters]

    def _read_terms(self) -> tuple[FleetMap | None, tuple[FleetKey, ...]]:
        return fleet_map(self._estate.config), self._estate.keys.fleet


def _describe(name: str, told: Sequence[HostState | None]) -> ClusterStatus:
    heard = [each for each in told if each is not None]
    return ClusterStatus(
        name=name,
        hosts=len(told),
        heard=len(heard),
        draining=sum(each.draining for each in heard),
        sessions=sum(each.sessions for each in heard),
        sessions_max=sum(each.sessions_max for each in heard),
        room=sum(each.room for each in heard),
    )
