"""The transceivers of other hosts, as one relay worker numbers them.

In flow tables an owner is a small number. Those of the host itself are its slots. The others get
numbers here, from ``FIRST`` on, when a good ufrag or a known flow names them for the first time.
Where they are comes from the fleet's map, or from what authenticated members have registered.
"""

from collections.abc import Mapping

from edge.errors import UfragError
from edge.fleet.map import FleetMap
from edge.fleet.seal import Place
from edge.routing.numbers import SLOTS_MAX, split_number

FIRST = 256
"""Numbers of other hosts' transceivers begin here: they do not fit a byte."""
OWNERS_MAX = 16_384

Transceiver = tuple[int, int]
"""Cluster id and transceiver number."""


class Owners:
    """Numbers for the transceivers of other hosts. A number is never given to another one."""

    def __init__(self, fleet: FleetMap) -> None:
        self._fleet = fleet
        self._numbers: dict[Transceiver, int] = {}
        self._transceivers: list[Transceiver] = []
        self._registered: Mapping[Transceiver, Place | None] = {}
        self._registered_at: Mapping[Place, Transceiver] = {}
        self.changes = 0
        """How often ``register`` has changed places: what was found out by them may be wrong."""

    def __len__(self) -> int:
        return len(self._transceivers)

    def register(self, places: Mapping[Transceiver, Place | None]) -> None:
        """Let these places count instead of those in the map; None: it is not there any more.

        They replace the ones of the call before. The caller vouches for whoever registered them.
        """
        if places == self._registered:
            return
        self._registered = dict(places)
        self._registered_at = {place: who for who, place in places.items() if place is not None}
        self.changes += 1

    def find(self, cluster: int, transceiver: int) -> int:
        """Return the number of a transceiver.

        Raises:
            UfragError: it is not in the fleet, or there are too many already.

        """
        who = cluster, transceiver
        number = self._numbers.get(who)
        if number is not None:
            return number
        if self.place_of(who) is None:
            known = self._fleet.cluster(cluster) is not None
            raise UfragError("ufrag-unknown-transceiver" if known else "ufrag-unknown-cluster")
        if len(self._transceivers) >= OWNERS_MAX:
            raise UfragError("owners-full")
        self._numbers[who] = number = FIRST + len(self._transceivers)
        self._transceivers.append(who)
        return number

    def transceiver(self, number: int) -> Transceiver:
        """Return who has a number that ``find`` has returned."""
        return self._transceivers[number - FIRST]

    def place_of(self, who: Transceiver) -> Place | None:
        """Return where a transceiver takes frames; None: nobody knows."""
        if who in self._registered:
            return self._registered[who]
        _, slot = split_number(who[1])
        return self._fleet.frame_address(*who) if slot < SLOTS_MAX else None

    def at(self, place: Place) -> Transceiver | None:
        """Return which transceiver sends from a place."""
        registered = self._registered_at.get(place)
        if registered is not None:
            return registered
        host, port = place
        member, slot = self._fleet.member_at(host), port - self._fleet.frame_port
        if member is None or member.cluster is None or not 0 <= slot < SLOTS_MAX:
            return None
        who = member.cluster.id, member.number << 8 | slot
        return who if self.place_of(who) == place else None
