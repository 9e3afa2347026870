"""The tables of the configuration file: keys, types, defaults, limits, and what must fit together.

config/edge.toml explains every key to operators. The defaults are a working set-up on localhost.
Seconds are floats. A key of type ``X | None`` is None when the file has the empty string, because
TOML has no null.
"""

from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field
from msgspec.structs import replace

from edge.config.access import AccessConfig
from edge.config.clusters import (
    ClusterConfig,
    FleetConfig,
    FleetName,
    HostConfig,
    InlineFleetKey,
    SiteConfig,
    fleet_key_problems,
    fleet_problems,
    here_problems,
    port_problems,
)
from edge.config.redis import RedisConfig
from edge.config.routes import EchoRoute, RealtimeRoute, Route
from edge.config.steering import IpPrefix, SteeringConfig
from edge.config.table import Problem, Seconds, SecondsOrZero, Table
from edge.config.values import (
    AbsolutePath,
    IpAddress,
    ListenAddress,
    PasswordSecret,
    PublicAddress,
    RouteName,
    RoutingSecret,
    Secret,
    UrlPath,
)

Workers = Annotated[int, Meta(ge=1, le=256)]
TransceiverWorkers = Annotated[int, Meta(ge=0, le=32)]
Limit = Annotated[int, Meta(ge=1, le=10_000_000)]
JitterDelay = Annotated[float, Meta(ge=0, le=2)]

UNROUTABLE_KEY_ID = 7
RETURN_WAYS_MAX = 256
"""UDP sockets, and relay workers with TCP clients: a byte in frames between workers names one."""
DEFAULT_ROUTE = RouteName("default")

_ONE_PORT_PER_ADDRESS = "clients are told one port per IP address (RFC 8445 section 5.2)"


class RelayConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    workers: Workers = 2
    listen: tuple[ListenAddress, ...] = (ListenAddress(IpAddress("127.0.0.1"), 3478),)
    public_addresses: tuple[PublicAddress, ...] = ()
    tcp_listen: tuple[ListenAddress, ...] = ()
    tcp_public_addresses: tuple[PublicAddress, ...] = ()
    tcp_connections_max: Limit = 1000
    tcp_connections_per_address_max: Limit = 256
    pin_cores: bool = True
    flows_max: Limit = 100_000
    flow_generation: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    receive_buffer_bytes: Annotated[int, Meta(ge=65_536, le=1 << 30)] = 4_194_304
    coalesce_us: Annotated[int, Meta(ge=0, le=500)] = 0

    def advertised(self, bound_ports: Sequence[int]) -> tuple[ListenAddress, ...]:
        """Return what answers name as candidates, one per entry of ``listen``.

        ``bound_ports``: the UDP ports that were really bound, in the order of ``listen``.
        """
        return _advertised(self.listen, self.public_addresses, bound_ports)

    def advertised_tcp(self, bound_ports: Sequence[int]) -> tuple[ListenAddress, ...]:
        """Return the same for ``tcp_listen``."""
        return _advertised(self.tcp_listen, self.tcp_public_addresses, bound_ports)

    def problems(self) -> Iterator[Problem]:
        if not self.listen:
            yield Problem(("listen",), "needs at least one address")
        if self.tcp_listen and self.workers + len(self.listen) > RETURN_WAYS_MAX:
            text = f"with tcp_listen at most {RETURN_WAYS_MAX - len(self.listen)}"
            yield Problem(("workers",), text)
        for prefix, listen, public in (
            ("", self.listen, self.public_addresses),
            ("tcp_", self.tcp_listen, self.tcp_public_addresses),
        ):
            yield from _listen_problems(f"{prefix}listen", listen)
            yield from _public_problems(prefix, listen, public)


class TransceiverConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    workers: TransceiverWorkers = 2
    internal_address: IpAddress = IpAddress("127.0.0.1")
    sessions_max: Limit = 1000
    on_time_min: Annotated[float, Meta(ge=0, le=1)] = 0.98
    handshake_timeout: Seconds = 15.0
    consent_timeout: Seconds = 30.0

    def problems(self) -> Iterator[Problem]:
        if ip_address(self.internal_address).is_unspecified:
            text = "relays need one address to send frames to, not a wildcard"
            yield Problem(("internal_address",), text)


class SignalConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    listen: tuple[ListenAddress, ...] = (ListenAddress(IpAddress("127.0.0.1"), 8080),)
    tls_certificate: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    path: UrlPath = UrlPath("/v1/session")
    default_route: RouteName = DEFAULT_ROUTE
    page: Literal["auto", "on", "off"] = "auto"
    trusted_proxies: tuple[IpPrefix, ...] = ()
    address_header: Literal["x-forwarded-for", "forwarded", "cf-connecting-ip"] = "x-forwarded-for"
    grace: SecondsOrZero = 20.0
    connections_max: Limit = 2000
    connections_per_address_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    message_bytes_max: Annotated[int, Meta(ge=4096, le=1 << 20)] = 131_072
    idle_timeout: Seconds = 30.0

    @property
    def on_loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        return all(listen.ip.is_loopback for listen in self.listen)

    @property
    def serves_page(self) -> bool:
        """``auto`` means: only when on loopback."""
        return self.on_loopback if self.page == "auto" else self.page == "on"

    def problems(self) -> Iterator[Problem]:
        if not self.listen:
            yield Problem(("listen",), "needs at least one address")
        yield from _listen_problems("listen", self.listen)
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            yield Problem((missing,), "TLS needs both tls_certificate and tls_key")


class MediaConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    jitter_delay_min: JitterDelay = 0.0
    jitter_delay_max: JitterDelay = 0.3
    redundancy: Literal["off", "accept", "prefer"] = "accept"
    dtx: bool = False
    bitrate_bps: Annotated[int, Meta(ge=6_000, le=510_000)] = 32_000
    complexity: Annotated[int, Meta(ge=0, le=10)] = 5
    fec: bool = True
    gaps: Literal["dtx", "silence"] = "dtx"
    prebuffer: Annotated[float, Meta(ge=0, le=2)] = 0.04
    playout_max: Annotated[float, Meta(ge=1, le=3600)] = 120.0

    def problems(self) -> Iterator[Problem]:
        if self.jitter_delay_max < self.jitter_delay_min:
            yield Problem(("jitter_delay_max",), "must not be below jitter_delay_min")
        if self.playout_max < self.prebuffer:
            yield Problem(("playout_max",), "must not be below prebuffer")


class InlineRoutingKey(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Annotated[int, Meta(ge=0, le=UNROUTABLE_KEY_ID)]
    key: RoutingSecret


class KeysConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    routing: tuple[InlineRoutingKey, ...] = ()
    password: PasswordSecret | None = None
    fleet: tuple[InlineFleetKey, ...] = ()
    file: AbsolutePath | None = None

    def problems(self) -> Iterator[Problem]:
        yield from routing_key_problems(self.routing)
        yield from fleet_key_problems(self.fleet)
        if self.file is not None and (self.routing or self.password or self.fleet):
            yield Problem(("file",), "either a key file or keys written here, not both")
        elif self.routing and self.password is None:
            yield Problem(
                ("password",), "routing keys written here need a password key beside them"
            )
        elif self.password and not self.routing:
            yield Problem(("routing",), "a password key written here needs routing keys beside it")
        elif self.fleet and not self.routing:
            yield Problem(("routing",), "fleet keys written here need routing keys beside them")


class SupervisorConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cluster: Annotated[int, Meta(ge=0, le=65_535)] = 1
    drain_limit: SecondsOrZero = 10.0
    handover_limit: Annotated[float, Meta(ge=0, le=86_400)] = 3600.0
    boot_timeout: Seconds = 20.0
    heartbeat_interval: Seconds = 1.0
    heartbeat_limit: Seconds = 10.0
    restart_backoff: Seconds = 0.1
    restart_backoff_max: Seconds = 10.0
    state_directory: AbsolutePath | None = None

    def problems(self) -> Iterator[Problem]:
        if self.heartbeat_limit < 2 * self.heartbeat_interval:
            text = "must be at least twice heartbeat_interval, or one late answer kills a worker"
            yield Problem(("heartbeat_limit",), text)
        if self.restart_backoff_max < self.restart_backoff:
            yield Problem(("restart_backoff_max",), "must not be below restart_backoff")


class MetricsConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    listen: tuple[ListenAddress, ...] = (ListenAddress(IpAddress("127.0.0.1"), 9464),)

    def problems(self) -> Iterator[Problem]:
        yield from _listen_problems("listen", self.listen)


class LogConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    relay: RelayConfig = field(default_factory=RelayConfig)
    transceiver: TransceiverConfig = field(default_factory=TransceiverConfig)
    signal: SignalConfig = field(default_factory=SignalConfig)
    routes: dict[RouteName, Route] = field(default_factory=lambda: {DEFAULT_ROUTE: EchoRoute()})
    media: MediaConfig = field(default_factory=MediaConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    sites: dict[FleetName, SiteConfig] = field(default_factory=dict)
    clusters: dict[FleetName, ClusterConfig] = field(default_factory=dict)
    hosts: dict[FleetName, HostConfig] = field(default_factory=dict)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    redis: RedisConfig = field(default_factory=RedisConfig)
    keys: KeysConfig = field(default_factory=KeysConfig)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def with_key_files(self, read: Callable[[Path], Secret]) -> "Config":
        """Return the same with the keys and passwords that are in files; ``read`` reads one."""
        routes: dict[RouteName, Route] = {
            name: replace(route, key=read(Path(route.key_file)))
            if isinstance(route, RealtimeRoute) and route.key_file is not None
            else route
            for name, route in self.routes.items()
        }
        return replace(self, routes=routes, redis=self.redis.with_password(read))

    def problems(self) -> Iterator[Problem]:
        if self.signal.default_route not in self.routes:
            names = ", ".join(self.routes) or "none"
            text = f'there is no route "{self.signal.default_route}" (routes: {names})'
            yield Problem(("signal", "default_route"), text)
        for index, address in enumerate(self.relay.tcp_listen):
            for other in self.signal.listen:
                if _clash(address, other):
                    text = f"signaling listens on {other}"
                    yield Problem(("relay", "tcp_listen", index), text)
        routes, on_loopback = tuple(self.routes), self.signal.on_loopback
        for path, text in self.access.cross_problems(routes, on_loopback=on_loopback):
            yield Problem(("access", *path), text)
        yield from self._fleet_problems()
        behind_proxies = bool(self.signal.trusted_proxies)
        steering = self.steering.cross_problems(self.clusters, behind_proxies=behind_proxies)
        for path, text in steering:
            yield Problem(("steering", *path), text)

    def _fleet_problems(self) -> Iterator[Problem]:
        yield from fleet_problems(self.sites, self.clusters, self.hosts)
        yield from here_problems(
            self.fleet,
            self.clusters,
            self.hosts,
            transceiver_workers=self.transceiver.workers,
            own_cluster=self.supervisor.cluster,
            has_fleet_keys=bool(self.keys.fleet or self.keys.file),
        )
        tcp = (*self.signal.listen, *self.relay.tcp_listen)
        yield from port_problems(self.fleet, self.hosts, self.relay.listen, tcp)
        if self.fleet.host is None and not self.transceiver.workers:
            text = "at least 1: only a relay-only host of a fleet has none"
            yield Problem(("transceiver", "workers"), text)


def routing_key_problems(routing: Sequence[InlineRoutingKey]) -> Iterator[Problem]:
    """Check a ``routing`` list. Paths start with ``routing``."""
    ids = [each.id for each in routing]
    secrets = [bytes(each.key) for each in routing]
    for index, each in enumerate(routing):
        if each.id == UNROUTABLE_KEY_ID:
            text = f"key id {UNROUTABLE_KEY_ID} is never routable; use 0 to 6"
            yield Problem(("routing", index, "id"), text)
        if (first := ids.index(each.id)) != index:
            text = f"key id {each.id} is already taken by routing[{first}]"
            yield Problem(("routing", index, "id"), text)
        if (first := secrets.index(each.key)) != index:
            text = f"the same key as routing[{first}]"
            yield Problem(("routing", index, "key"), text)


def _advertised(
    listen: Sequence[ListenAddress], public: Sequence[PublicAddress], bound_ports: Sequence[int]
) -> tuple[ListenAddress, ...]:
    public = public or tuple(PublicAddress(each.host) for each in listen)
    return tuple(
        ListenAddress(address.host, port if address.port is None else address.port)
        for address, port in zip(public, bound_ports, strict=True)
    )


def _same_host(first: ListenAddress, second: ListenAddress) -> bool:
    return first.host == second.host and first.port != second.port


def _public_problems(
    prefix: str, listen: Sequence[ListenAddress], public: Sequence[PublicAddress]
) -> Iterator[Problem]:
    """Check what clients will be told. Keys begin with ``prefix``."""
    key = f"{prefix}public_addresses"
    if not public:
        for index, each in enumerate(listen):
            path = (f"{prefix}listen", index)
            if each.ip.is_unspecified:
                text = f"a wildcard address needs {key}: clients must be told where"
                yield Problem(path, text)
            elif any(_same_host(each, other) for other in listen[:index]):
                yield Problem(path, f"{each.host} is named twice; {_ONE_PORT_PER_ADDRESS}")
        return
    if len(public) != len(listen):
        text = f"{len(public)} for {len(listen)} listen addresses"
        yield Problem((key,), f"needs one entry per listen address; has {text}")
        return
    advertised = _advertised(listen, public, [each.port for each in listen])
    for index, (told, each) in enumerate(zip(advertised, listen, strict=True)):
        if told.ip.is_unspecified:
            yield Problem((key, index), "a wildcard address is not a place that clients can reach")
        elif told.ip.version != each.ip.version:
            yield Problem((key, index), f"not the IP version of its listen address {each}")
        elif any(told.host == other.host for other in advertised[:index]):
            yield Problem((key, index), f"{told.host} is named twice; {_ONE_PORT_PER_ADDRESS}")


def _listen_problems(key: str, listen: Sequence[ListenAddress]) -> Iterator[Problem]:
    for index, address in enumerate(listen):
        for other in listen[:index]:
            if not _clash(address, other):
                continue
            text = f"port clash: a wildcard address covers both {other} and {address}"
            if other.host == address.host:
                text = f"{address} is named twice"
            yield Problem((key, index), text)


def _clash(first: ListenAddress, second: ListenAddress) -> bool:
    """Whether one address is the other, or covers it."""
    if first.port != second.port or first.port == 0:
        return False
    return first.host == second.host or (
        first.ip.version == second.ip.version
        and (first.ip.is_unspecified or second.ip.is_unspecified)
    )
