"""Which cluster a new session goes to, and which relays its client is told of.

The nearest cluster by great-circle distance that has room. A cluster that drains, that nobody has
heard of lately or that is all but full is passed over, and the next nearest takes its place. An
operator's rule puts one cluster before all others for a country or a prefix. A client that cannot
be placed goes to the operator's default, else it stays where it came in. Ties are decided by where
it came in, then by the clusters' numbers, so that the same facts always give the same choice.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2s

from attrs import field, frozen

from edge.steering.forwarded import Address, Network, parse_address
from edge.steering.position import Position, distance_km
from edge.steering.visitor import Visitor

FILL_MAX = 0.97
"""A cluster that is fuller gets no clients of others: what is known of it is a second old, and
those who come to it by themselves need the rest."""


@frozen
class Rule:
    """An operator's preference. Of ``country`` and ``network`` what is there has to fit."""

    cluster: int
    country: str | None = None
    network: Network | None = None

    def fits(self, address: Address | None, country: str | None) -> bool:
        """Return whether it is about such a client."""
        if self.country is not None and self.country != country:
            return False
        if self.network is None:
            return True
        return (
            address is not None
            and address.version == self.network.version
            and address in self.network
        )


@frozen
class Place:
    """A site, as far as clients are concerned."""

    name: str
    position: Position
    relays: tuple[tuple[str, int], ...] = ()
    """Public addresses that media may be sent to."""


@frozen
class Cluster:
    """A cluster that sessions may go to."""

    id: int
    place: Place
    signaling: str | None = None
    """Where its clients are redirected to."""


@frozen
class Vacancy:
    """How much room a cluster, or one of its hosts, has."""

    room: int = 0
    """Sessions that it would take now."""
    sessions_max: int = 0
    draining: bool = False
    """It takes no new sessions; what it could hold counts for nothing."""

    @property
    def takes_sessions(self) -> bool:
        """Whether it is healthy and has room."""
        return not self.draining and self.room > (1 - FILL_MAX) * self.sessions_max


UNHEARD = Vacancy()
"""What a cluster has that nobody has heard of."""


def together(vacancies: Iterable[Vacancy]) -> Vacancy:
    """Return the room of a cluster with hosts like these. Those that drain are left out."""
    counted = [each for each in vacancies if not each.draining]
    return Vacancy(
        sum(each.room for each in counted),
        sum(each.sessions_max for each in counted),
        draining=not counted,
    )


@frozen
class Steering:
    """The operator's clusters, sites and rules, as one cluster or relay host sees them."""

    here: Place
    """Where this host is."""
    clusters: tuple[Cluster, ...] = ()
    places: tuple[Place, ...] = ()
    rules: tuple[Rule, ...] = ()
    """The first that fits counts."""
    default: int | None = None
    """The cluster of clients that cannot be placed; None: the one they came to."""
    own: int | None = None
    """The cluster that this host belongs to."""
    second_relay: bool = False
    """Whether clients are told of a relay at another site, too."""
    redirects: bool = False
    """Whether clients are sent to the cluster that is theirs, instead of answered for it."""
    _by_id: Mapping[int, Cluster] = field(init=False, repr=False)

    @_by_id.default
    def _index(self) -> Mapping[int, Cluster]:
        return {each.id: each for each in self.clusters}

    def order(self, visitor: Visitor, vacancies: Mapping[int, Vacancy]) -> tuple[Cluster, ...]:
        """Return the clusters that a session may go to, best first. Empty: none has room.

        ``vacancies`` are by cluster; one that is missing is passed over. For who was sent here by
        another cluster, the own one is the best.
        """
        wanted = self.own if visitor.steered else self._preferred(visitor)
        start = visitor.whereabouts.position
        if start is None:
            first = self._by_id.get(wanted if wanted is not None else self._fallback())
            start = first.place.position if first is not None else self.here.position
            wanted = first.id if first is not None else None

        def rank(cluster: Cluster) -> tuple[bool, float, bool, int]:
            away = distance_km(start, cluster.place.position)
            return cluster.id != wanted, away, cluster.id != self.own, cluster.id

        fit = [each for each in self.clusters if vacancies.get(each.id, UNHEARD).takes_sessions]
        return tuple(sorted(fit, key=rank))

    def redirect(self, visitor: Visitor, vacancies: Mapping[int, Vacancy]) -> str | None:
        """Return where to send a client to; None: it is answered here.

        Who was sent here by another cluster is never sent on.
        """
        if not self.redirects or visitor.steered:
            return None
        order = self.order(visitor, vacancies)
        return order[0].signaling if order and order[0].id != self.own else None

    def relays(self, visitor: Visitor, down: Collection[str] = ()) -> tuple[tuple[str, int], ...]:
        """Return the relay addresses for an answer, the one to prefer first.

        One IPv4 and one IPv6 address of the nearest site that has relays, of several always the
        same for one client; then, if clients are to have a second relay, those of the next site.
        ``down`` names sites whose relays are known to be gone: they are used only if there are no
        others. Empty: no site has relays.
        """
        start = visitor.whereabouts.position or self.here.position

        def rank(place: Place) -> tuple[bool, float, bool, str]:
            away = distance_km(start, place.position)
            return place.name in down, away, place.name != self.here.name, place.name

        nearest = sorted((each for each in self.places if each.relays), key=rank)
        told: list[tuple[str, int]] = []
        for place in nearest[: 2 if self.second_relay else 1]:
            hosts = {host for host, _ in told}
            told += [one for one in _one_each(place.relays, visitor) if one[0] not in hosts]
        return tuple(told)

    def _preferred(self, visitor: Visitor) -> int | None:
        address = parse_address(visitor.address)
        country = visitor.whereabouts.country
        return next((each.cluster for each in self.rules if each.fits(address, country)), None)

    def _fallback(self) -> int:
        chosen = self.default if self.default is not None else self.own
        return -1 if chosen is None else chosen


def _one_each(relays: Sequence[tuple[str, int]], visitor: Visitor) -> Iterator[tuple[str, int]]:
    """Yield one address of each IP version, by rendezvous of the client's with each of them."""
    for is_v6 in (False, True):
        family = [each for each in relays if (":" in each[0]) is is_v6]
        if family:
            yield max(family, key=lambda each: _affinity(visitor.address, each))


def _affinity(client: str, relay: tuple[str, int]) -> bytes:
    return blake2s(f"{client} {relay[0]} {relay[1]}".encode(), digest_size=8).digest()
