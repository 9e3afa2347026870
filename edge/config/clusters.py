"""The tables of a fleet: ``[sites]``, ``[clusters]``, ``[hosts]`` and ``[fleet]``.

The first three are the same on all hosts; the last one says which of them this is.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Literal, Self

from msgspec import Meta

from edge.config.table import Problem, Table
from edge.config.values import IpAddress, ListenAddress, Name, SecretBytes, split_url

Port = Annotated[int, Meta(ge=1024, le=65_535)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]

FRAME_PORTS = 64
"""One per slot of a transceiver worker."""
RELAY_PORTS = 256
"""One per relay worker."""
PORT_MAX = 65_535
MEMBERS_MAX = 4096
UNSET_CLUSTER = 1
"""What ``supervisor.cluster`` is if nobody says otherwise."""


class FleetName(Name):
    """What operators call a site, a cluster or a host."""

    __slots__ = ()
    bearer = "a site's, cluster's or host"


class RelayAddress(ListenAddress):
    """A public address that clients send media to."""

    @classmethod
    def parse(cls, text: str) -> Self:
        address = super().parse(text)
        if address.port == 0:
            raise ValueError(f"{text!r}: nobody can reach port 0")
        if address.ip.is_unspecified:
            raise ValueError(f"{text!r}: a wildcard address is not a place that clients can reach")
        return address


class SignalingUrl(str):
    """Where clients of a cluster connect to."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        parts, port = split_url(text)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname or port == 0:
            raise ValueError(f'{text!r} is not like "wss://edge.example.com/v1/session"')
        if "@" in parts.netloc or "?" in text or "#" in text:
            raise ValueError("no user, query or fragment in a signaling URL")
        return cls(text)


class FleetSecret(SecretBytes):
    """Key that hosts of a fleet know each other by."""

    length = 32


class InlineFleetKey(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Annotated[int, Meta(ge=0, le=255)]
    key: FleetSecret


class SiteConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    region: str = ""
    latitude: Latitude
    longitude: Longitude
    relays: tuple[RelayAddress, ...] = ()

    def problems(self) -> Iterator[Problem]:
        for index, each in enumerate(self.relays):
            if each in self.relays[:index]:
                yield Problem(("relays", index), f"{each} is named twice")


class ClusterConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Annotated[int, Meta(ge=0, le=65_535)]
    site: FleetName
    signaling: SignalingUrl | None = None


class HostConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    site: FleetName
    cluster: FleetName | None = None
    number: Annotated[int, Meta(ge=0, le=255)] = 0
    internal: IpAddress

    def problems(self) -> Iterator[Problem]:
        if ip_address(self.internal).is_unspecified:
            yield Problem(("internal",), "other hosts need one address, not a wildcard")


Sites = Mapping[FleetName, SiteConfig]
Clusters = Mapping[FleetName, ClusterConfig]
Hosts = Mapping[FleetName, HostConfig]


class FleetConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: FleetName | None = None
    frame_port: Port = 3500
    relay_port: Port = 3600
    control_port: Port = 3490
    steering: Literal["answer", "redirect"] = "answer"

    def problems(self) -> Iterator[Problem]:
        for key, first, count in self.udp_ports():
            if first + count - 1 > PORT_MAX:
                yield Problem((key,), f"at most {PORT_MAX - count + 1}: {count} ports begin there")
        if self.frame_port < self.relay_port + RELAY_PORTS and (
            self.relay_port < self.frame_port + FRAME_PORTS
        ):
            text = (
                f"the {RELAY_PORTS} ports from here overlap the {FRAME_PORTS} from "
                f"frame_port ({self.frame_port})"
            )
            yield Problem(("relay_port",), text)

    def udp_ports(self) -> tuple[tuple[str, int, int], ...]:
        """Return key, first port and number of ports."""
        return (
            ("frame_port", self.frame_port, FRAME_PORTS),
            ("relay_port", self.relay_port, RELAY_PORTS),
        )


def fleet_problems(sites: Sites, clusters: Clusters, hosts: Hosts) -> Iterator[Problem]:
    """Check what these tables say of each other."""
    if len(hosts) > MEMBERS_MAX:
        yield Problem(("hosts",), f"at most {MEMBERS_MAX} hosts")
    for name, cluster in clusters.items():
        if cluster.site not in sites:
            text = f'there is no site "{cluster.site}" (sites: {_names(sites)})'
            yield Problem(("clusters", name, "site"), text)
    ids = {name: cluster.id for name, cluster in clusters.items()}
    for name, first in _repeated(ids):
        text = f'id {ids[name]} is already taken by cluster "{first}"'
        yield Problem(("clusters", name, "id"), text)
    for name, host in hosts.items():
        if host.site not in sites:
            text = f'there is no site "{host.site}" (sites: {_names(sites)})'
            yield Problem(("hosts", name, "site"), text)
        if host.cluster is not None and host.cluster not in clusters:
            text = f'there is no cluster "{host.cluster}" (clusters: {_names(clusters)})'
            yield Problem(("hosts", name, "cluster"), text)
    numbers = {
        name: (host.cluster, host.number)
        for name, host in hosts.items()
        if host.cluster is not None
    }
    for name, first in _repeated(numbers):
        cluster_name, number = numbers[name]
        text = f'number {number} of cluster "{cluster_name}" is already taken by host "{first}"'
        yield Problem(("hosts", name, "number"), text)
    addresses = {name: host.internal for name, host in hosts.items()}
    for name, first in _repeated(addresses):
        text = f'{addresses[name]} is already the address of host "{first}"'
        yield Problem(("hosts", name, "internal"), text)
    yield from _mixed_versions(addresses)


def here_problems(
    fleet: FleetConfig,
    clusters: Clusters,
    hosts: Hosts,
    *,
    transceiver_workers: int,
    own_cluster: int,
    has_fleet_keys: bool,
) -> Iterator[Problem]:
    """Check what ``[fleet]`` says of this host against the other tables."""
    if fleet.host is None:
        return
    here = hosts.get(fleet.host)
    if here is None:
        text = f'there is no host "{fleet.host}" (hosts: {_names(hosts)})'
        yield Problem(("fleet", "host"), text)
        return
    if not has_fleet_keys:
        text = "hosts of a fleet need keys that all of them have: write them here, or name a file"
        yield Problem(("keys", "fleet"), text)
    if here.cluster is None and transceiver_workers:
        text = f'host "{fleet.host}" has no cluster: it only relays, so this must be 0'
        yield Problem(("transceiver", "workers"), text)
    if (cluster := clusters.get(here.cluster or FleetName())) is not None:
        if not transceiver_workers:
            text = f'host "{fleet.host}" is in cluster "{here.cluster}": it needs at least one'
            yield Problem(("transceiver", "workers"), text)
        if own_cluster not in {UNSET_CLUSTER, cluster.id}:
            text = (
                f'cluster "{here.cluster}" has the id {cluster.id}: say the same, or leave it out'
            )
            yield Problem(("supervisor", "cluster"), text)
    if fleet.steering == "redirect":
        for name, each in clusters.items():
            if each.signaling is None:
                text = 'missing, and steering = "redirect" sends clients there'
                yield Problem(("clusters", name, "signaling"), text)


def port_problems(
    fleet: FleetConfig,
    hosts: Hosts,
    udp: Sequence[ListenAddress],
    tcp: Sequence[ListenAddress],
) -> Iterator[Problem]:
    """Check the ports between hosts against those that clients come to."""
    here = hosts.get(fleet.host or FleetName())
    if here is None:
        return
    for key, first, count in fleet.udp_ports():
        for listen in udp:
            if first <= listen.port < first + count and _covers(listen, here.internal):
                text = f"the {count} ports from here have that of relay.listen, {listen}"
                yield Problem(("fleet", key), text)
    for listen in tcp:
        if listen.port == fleet.control_port and _covers(listen, here.internal):
            yield Problem(("fleet", "control_port"), f"clients come to {listen}")


def fleet_key_problems(keys: Sequence[InlineFleetKey]) -> Iterator[Problem]:
    """Check a ``fleet`` list of keys. Paths start with ``fleet``."""
    ids = [each.id for each in keys]
    secrets = [bytes(each.key) for each in keys]
    for index, each in enumerate(keys):
        if (first := ids.index(each.id)) != index:
            text = f"key id {each.id} is already taken by fleet[{first}]"
            yield Problem(("fleet", index, "id"), text)
        if (first := secrets.index(each.key)) != index:
            yield Problem(("fleet", index, "key"), f"the same key as fleet[{first}]")


def _covers(listen: ListenAddress, address: IpAddress) -> bool:
    own = ip_address(address)
    return listen.ip == own or (listen.ip.is_unspecified and listen.ip.version == own.version)


def _mixed_versions(addresses: Mapping[FleetName, IpAddress]) -> Iterator[Problem]:
    """Name the first host whose address has another IP version than that of the first host."""
    versions = {name: ip_address(address).version for name, address in addresses.items()}
    for name, version in versions.items():
        first, its_version = next(iter(versions.items()))
        if version != its_version:
            text = (
                f'{addresses[name]} is IPv{version} and the address of host "{first}" is '
                f"IPv{its_version}: they cannot reach each other"
            )
            yield Problem(("hosts", name, "internal"), text)
            return


def _repeated(values: Mapping[FleetName, object]) -> Iterator[tuple[FleetName, FleetName]]:
    """Name those whose value another one has, and the first that has it."""
    firsts: dict[object, FleetName] = {}
    for name, value in values.items():
        if (first := firsts.setdefault(value, name)) != name:
            yield name, first


def _names(table: Mapping[FleetName, object]) -> str:
    return ", ".join(table) or "none"
