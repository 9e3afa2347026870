"""Who is in the fleet and where: sites, clusters and member hosts, as values.

A *site* is a place with public relay addresses. A *cluster* is a set of hosts with one number in
ufrags and session ids. A *member* is a host: of a cluster, or one that only relays. Members know
each other by their internal addresses.
"""

from collections.abc import Mapping
from functools import cached_property

from attrs import field, frozen

from edge.errors import LocalProtocolError
from edge.routing.numbers import SLOTS_MAX, split_number

KEY_BYTES = 32
KEY_IDS = range(256)


@frozen
class FleetKey:
    """A key that all hosts of a fleet share. It never shows in a repr.

    Raises:
        LocalProtocolError: the id is not 0..255, or the key not 32 bytes.

    """

    id: int
    key: bytes = field(repr=False)

    def __attrs_post_init__(self) -> None:
        if self.id not in KEY_IDS:
            raise LocalProtocolError(f"fleet key ids are 0 to 255, not {self.id}")
        if len(self.key) != KEY_BYTES:
            raise LocalProtocolError(f"a fleet key has {KEY_BYTES} bytes, not {len(self.key)}")


@frozen
class Site:
    """A place. Degrees north and east."""

    name: str
    region: str
    latitude: float
    longitude: float
    relays: tuple[tuple[str, int], ...] = ()
    """What clients may be told to send media to."""


@frozen
class Cluster:
    id: int
    """0..65535, in ufrags and session ids."""
    name: str
    site: Site
    signaling: str | None = None
    """The WebSocket URL that clients are redirected to; None: they are not."""


@frozen
class Member:
    """A host."""

    name: str
    site: Site
    cluster: Cluster | None
    """None: it only relays."""
    number: int
    """Of the host within its cluster, 0..255."""
    internal: str
    """The numeric address that the other members know it by."""


@frozen
class FleetMap:
    """The fleet as its member ``here`` sees it. Names and internal addresses are unique."""

    here: Member
    members: tuple[Member, ...]
    """All of them, ``here`` too."""
    clusters: tuple[Cluster, ...]
    sites: tuple[Site, ...]
    frame_port: int
    """Transceiver slot s of a host takes other hosts' frames on UDP ``frame_port`` + s."""
    relay_port: int
    """Relay worker i of a host sends to other hosts, and hears from them, on UDP
    ``relay_port`` + i."""
    control_port: int
    """TCP: the control channel between hosts."""

    @property
    def peers(self) -> tuple[Member, ...]:
        """All members but ``here``."""
        return tuple(each for each in self.members if each.name != self.here.name)

    @property
    def cluster_id(self) -> int | None:
        """Of the host itself; None if it only relays."""
        return self.here.cluster.id if self.here.cluster is not None else None

    def frame_address(self, cluster_id: int, number: int) -> tuple[str, int] | None:
        """Return where the transceiver of that number takes frames; None if no member has it."""
        host, slot = split_number(number)
        member = self.member(cluster_id, host)
        if member is None or slot >= SLOTS_MAX:
            return None
        return member.internal, self.frame_port + slot

    def control_address(self, member: Member) -> tuple[str, int]:
        """Return where a member takes connections of the control channel."""
        return member.internal, self.control_port

    def member(self, cluster_id: int, host_number: int) -> Member | None:
        """Return the host of that number in a cluster."""
        return self._by_number.get((cluster_id, host_number))

    def member_at(self, ip: str) -> Member | None:
        """Return the member whose internal address that is, in its canonical text form."""
        return self._by_address.get(ip)

    def cluster(self, cluster_id: int) -> Cluster | None:
        """Return the cluster of that number."""
        return next((each for each in self.clusters if each.id == cluster_id), None)

    @cached_property
    def _by_number(self) -> Mapping[tuple[int, int], Member]:
        return {
            (each.cluster.id, each.number): each
            for each in self.members
            if each.cluster is not None
        }

    @cached_property
    def _by_address(self) -> Mapping[str, Member]:
        return {each.internal: each for each in self.members}
