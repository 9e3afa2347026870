"""The fleet as steering sees it: its clusters and sites from the map, their room from the hosts."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from edge.fleet.map import FleetMap, Site
from edge.fleet.states import HostState
from edge.steering.choice import Cluster, Place, Rule, Steering, Vacancy, together
from edge.steering.position import Position

REFRESH_INTERVAL = 1.0
"""Host states are told as often. With a thousand hosts it is some milliseconds' work."""


def fleet_steering(
    fleet: FleetMap,
    *,
    rules: tuple[Rule, ...] = (),
    default: int | None = None,
    second_relay: bool = False,
    redirects: bool = False,
) -> Steering:
    """Return the steering of a host of the fleet."""
    return Steering(
        here=_place(fleet.here.site),
        clusters=tuple(
            Cluster(each.id, _place(each.site), each.signaling) for each in fleet.clusters
        ),
        places=tuple(_place(each) for each in fleet.sites),
        rules=rules,
        default=default,
        own=fleet.cluster_id,
        second_relay=second_relay,
        redirects=redirects,
    )


class FleetView:
    """How much room clusters have, and which sites have lost their relays, a second old at most.

    ``states`` returns what hosts have told lately, by name, the host itself too. ``clock`` tells
    seconds.
    """

    def __init__(
        self,
        fleet: FleetMap,
        states: Callable[[], Mapping[str, HostState]],
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._states = states
        self._clock = clock
        self._looked_at = float("-inf")
        self._vacancies: Mapping[int, Vacancy] = {}
        self._sites_down: Collection[str] = frozenset()

    def vacancies(self) -> Mapping[int, Vacancy]:
        """Return the room by cluster; without those that nobody was heard of."""
        self._refresh()
        return self._vacancies

    def sites_down(self) -> Collection[str]:
        """Return the sites none of whose hosts has told lately that it relays."""
        self._refresh()
        return self._sites_down

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked_at < REFRESH_INTERVAL:
            return
        self._looked_at = now
        rooms: defaultdict[int, list[Vacancy]] = defaultdict(list)
        relaying: set[str] = set()
        manned: set[str] = set()
        states = self._states()
        for member in self._fleet.members:
            manned.add(member.site.name)
            state = states.get(member.name)
            if state is None:
                continue
            if state.relays or member.name == self._fleet.here.name:
                relaying.add(member.site.name)
            if member.cluster is not None:
                room = Vacancy(state.room, state.sessions_max, draining=state.draining)
                rooms[member.cluster.id].append(room)
        self._vacancies = {cluster: together(each) for cluster, each in rooms.items()}
        self._sites_down = manned - relaying


def _place(site: Site) -> Place:
    return Place(site.name, Position(site.latitude, site.longitude), site.relays)
