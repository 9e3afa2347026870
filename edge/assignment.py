"""What each worker is given of configuration, keys and sockets: no more than it needs."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from edge import relay
from edge.access.quota import Limits
from edge.access.settings import AccessSettings, ApiKey, KeyTerms, TrustedKey, derive_own_key
from edge.access.tables import TableSizes
from edge.audio.codecs import EncoderSettings
from edge.backend.native_messages import SUBPROTOCOL
from edge.backend.policy import LinkSettings, OnFailure
from edge.backend.realtime_settings import DigitPolicy, RealtimeSettings, realtime_url
from edge.config import (
    Config,
    EchoRoute,
    LinkedRoute,
    LoopbackRoute,
    MediaConfig,
    RealtimeRoute,
    Route,
    WebSocketRoute,
)
from edge.config.access import KeyTable
from edge.control.messages import SharedKey
from edge.directory.host_entry import HostName
from edge.directory.registering import Registration
from edge.directory.settings import DirectorySettings
from edge.fleet.guidance import fleet_steering
from edge.fleet.map import Cluster, FleetKey, FleetMap, Member, Site
from edge.fleet.seal import entrance_id
from edge.keys import KeySet
from edge.media.frames import AudioFormat, Encoding
from edge.media.outbound import PlayoutSettings
from edge.memory import HeldMemory
from edge.redis.settings import RedisSettings, RedisTls
from edge.routing.numbers import SLOTS_MAX
from edge.routing.ufrag import RoutingKey
from edge.rtp.jitter import JitterLimits
from edge.signal.formats import MediaPolicy
from edge.signal.page import load_page
from edge.signal.settings import SignalSettings
from edge.sockets import Sockets, port_of
from edge.steering.choice import Rule, Steering
from edge.steering.forwarded import AddressHeader, TrustedProxies
from edge.steering.settings import VisitorSettings
from edge.steering.visitor import LocationHeaders
from edge.streams.settings import StreamLimits
from edge.transceiver import backends
from edge.transceiver.session import SessionLimits
from edge.transceiver.settings import AccessShare, PeersSettings, TransceiverSettings
from edge.trunk.settings import TrunkSettings


def relay_settings(
    number: int,
    place: int,
    config: Config,
    keys: KeySet,
    sockets: Sockets,
    flow_memory: HeldMemory,
) -> relay.RelaySettings:
    """Return what the relay worker with this number gets for a place (sockets.py).

    Relays get the routing keys, never the password key.
    """
    cores = sorted(os.sched_getaffinity(0))
    return relay.RelaySettings(
        index=number,
        cluster=_cluster(config) if config.transceiver.workers else None,
        core=cores[place % len(cores)] if config.relay.pin_cores else None,
        public=tuple(sockets.public[place]),
        tcp=tuple(sockets.relay_listeners[place]),
        tcp_limits=StreamLimits(
            connections=config.relay.tcp_connections_max,
            per_source=config.relay.tcp_connections_per_address_max,
        ),
        internal=sockets.relay_internal[number],
        transceivers=addresses(sockets.transceiver_internal),
        keys=keys.routing,
        flows_max=config.relay.flows_max,
        flow_generation=config.relay.flow_generation,
        flow_memory=flow_memory,
        coalesce=config.relay.coalesce_us / 1e6,
        host=_host_number(config),
        trunk=_trunk(config, keys, sockets, sockets.relay_trunk, number),
        directory=directory_settings(config, keys),
        advertised=tuple(
            (str(each.host), each.port)
            for each in config.relay.advertised([port_of(one) for one in sockets.public[0]])
        ),
    )


def directory_settings(config: Config, keys: KeySet) -> DirectorySettings | None:
    """Return how to use Redis; None if there is none.

    What is kept there is signed with the fleet's keys. A host that is alone has its routing keys.
    """
    redis = config.redis
    if not redis.addresses:
        return None
    in_fleet = config.fleet.host is not None
    secrets: Sequence[FleetKey | RoutingKey] = keys.fleet if in_fleet else keys.routing
    return DirectorySettings(
        RedisSettings(
            tuple((each.host, each.port) for each in redis.addresses),
            sentinel=_text(redis.sentinel),
            user=_text(redis.user),
            password=redis.password.reveal() if redis.password is not None else None,
            sentinel_password=(
                redis.sentinel_password.reveal() if redis.sentinel_password is not None else None
            ),
            tls=RedisTls(_text(redis.ca_file), _text(redis.server_name)) if redis.tls else None,
            database=redis.database,
            connect_timeout=redis.connect_timeout,
            command_timeout=redis.command_timeout,
        ),
        prefix=str(redis.prefix),
        secrets=tuple((each.id, each.key) for each in secrets),
        flow_lifetime=redis.flow_lifetime,
    )


def registration(config: Config) -> Registration | None:
    """Return what a host of a fleet registers of itself; None if it has no transceivers."""
    fleet = fleet_map(config)
    if fleet is None or fleet.cluster_id is None:
        return None
    name = HostName(fleet.cluster_id, fleet.here.number)
    return Registration(name, fleet.here.internal, fleet.frame_port)


def _text(value: str | None) -> str | None:
    return None if value is None else str(value)


def fleet_map(config: Config) -> FleetMap | None:
    """Return the fleet that this host is in; None if it is alone."""
    fleet = config.fleet
    if fleet.host is None:
        return None
    sites = {
        name: Site(
            name=str(name),
            region=site.region,
            latitude=site.latitude,
            longitude=site.longitude,
            relays=tuple((str(each.host), each.port) for each in site.relays),
        )
        for name, site in config.sites.items()
    }
    clusters = {
        name: Cluster(
            id=cluster.id,
            name=str(name),
            site=sites[cluster.site],
            signaling=str(cluster.signaling) if cluster.signaling is not None else None,
        )
        for name, cluster in config.clusters.items()
    }
    members = {
        name: Member(
            name=str(name),
            site=sites[host.site],
            cluster=clusters[host.cluster] if host.cluster is not None else None,
            number=host.number,
            internal=str(host.internal),
        )
        for name, host in config.hosts.items()
    }
    return FleetMap(
        here=members[fleet.host],
        members=tuple(members.values()),
        clusters=tuple(clusters.values()),
        sites=tuple(sites.values()),
        frame_port=fleet.frame_port,
        relay_port=fleet.relay_port,
        control_port=fleet.control_port,
    )


@frozen
class Neighbourhood:
    """What the transceiver workers have in common. The supervisor holds it."""

    listeners: tuple[socket.socket, ...]
    """By slot: where a worker takes the requests of the others."""
    paths: tuple[str, ...]
    """By slot: the path of its listener."""
    load_memory: HeldMemory
    """Of the load table."""
    access_memory: HeldMemory
    """Of the tables of who was let in."""
    state_memory: HeldMemory
    """Of the table of the other hosts' room."""
    access_hash_key: bytes = field(repr=False)


def access_sizes(config: Config) -> TableSizes:
    """Return how much the tables of who was let in hold."""
    access = config.access
    return TableSizes(access.tokens_max, access.accounts_max, SLOTS_MAX)


def transceiver_settings(
    slot: int,
    worker: int,
    config: Config,
    keys: KeySet,
    sockets: Sockets,
    neighbourhood: Neighbourhood,
) -> TransceiverSettings:
    """Return what one worker (0 and up) of a generation gets, to work in a slot."""
    limits, offered = config.transceiver, config.signal
    first_relays = sockets.public[0]
    advertised = config.relay.advertised([port_of(one) for one in first_relays])
    by_tcp = config.relay.advertised_tcp([port_of(one) for one in sockets.relay_listeners[0]])
    tls_files = None
    if offered.tls_certificate is not None and offered.tls_key is not None:
        tls_files = Path(offered.tls_certificate), Path(offered.tls_key)
    return TransceiverSettings(
        index=slot,
        cluster=_cluster(config),
        public=tuple(first_relays),
        advertised=tuple((each.host, each.port) for each in advertised),
        internal=sockets.transceiver_internal[slot],
        relays=addresses(sockets.relay_internal),
        listeners=sockets.listeners_of(worker, limits.workers),
        signal=SignalSettings(
            path=offered.path,
            routes=frozenset(str(name) for name in config.routes),
            grace=offered.grace,
            connections_max=offered.connections_max,
            connections_per_source_max=offered.connections_per_address_max,
            message_bytes_max=offered.message_bytes_max,
            idle_timeout=offered.idle_timeout,
        ),
        page=load_page(_page_folder()) if offered.serves_page else None,
        routing_key=keys.routing[0],
        password_key=keys.password_key,
        sessions_max=limits.sessions_max,
        limits=SessionLimits(
            setup_timeout=limits.handshake_timeout, consent_timeout=limits.consent_timeout
        ),
        routes={str(name): _route(route) for name, route in config.routes.items()},
        default_route=str(offered.default_route),
        media=_media(config.media),
        neighbour_listener=neighbourhood.listeners[slot],
        neighbours=neighbourhood.paths,
        load_memory=neighbourhood.load_memory,
        advertised_tcp=tuple((each.host, each.port) for each in by_tcp),
        on_time_min=limits.on_time_min,
        access=AccessShare(
            _access(config, keys),
            neighbourhood.access_memory,
            access_sizes(config),
            neighbourhood.access_hash_key,
        ),
        visitors=_visitors(config),
        steering=_steering(config),
        tls_files=tls_files,
        host=_host_number(config),
        trunk=_trunk(config, keys, sockets, sockets.transceiver_trunk, slot),
        peers=_peers(config, keys, sockets, neighbourhood, worker),
    )


def fleet_keys(keys: KeySet) -> list[SharedKey]:
    """Return the fleet's keys as they travel to workers."""
    return [SharedKey(each.id, each.key) for each in keys.fleet]


def addresses(bound: Sequence[socket.socket]) -> tuple[tuple[str, int], ...]:
    """Return (host, port) of each socket."""
    return tuple((one.getsockname()[0], port_of(one)) for one in bound)


def shared_keys(keys: KeySet) -> list[SharedKey]:
    """Return the routing keys as they travel to workers."""
    return [SharedKey(each.id, each.key) for each in keys.routing]


def _steering(config: Config) -> Steering | None:
    fleet, table = fleet_map(config), config.steering
    if fleet is None:
        return None
    ids = {name: cluster.id for name, cluster in config.clusters.items()}
    rules = tuple(
        Rule(ids[each.cluster], each.country, each.prefix.network if each.prefix else None)
        for each in table.rules
    )
    return fleet_steering(
        fleet,
        rules=rules,
        default=ids[table.default_cluster] if table.default_cluster is not None else None,
        second_relay=table.second_relay,
        redirects=config.fleet.steering == "redirect",
    )


def _visitors(config: Config) -> VisitorSettings:
    networks = tuple(each.network for each in config.signal.trusted_proxies)
    database = config.steering.database
    return VisitorSettings(
        TrustedProxies(networks, AddressHeader(config.signal.address_header)),
        LocationHeaders(config.steering.location_headers),
        Path(database) if database is not None else None,
    )


def _cluster(config: Config) -> int:
    """Return the cluster that ufrags of this host name."""
    fleet = fleet_map(config)
    if fleet is None or fleet.cluster_id is None:
        return config.supervisor.cluster
    return fleet.cluster_id


def _host_number(config: Config) -> int:
    fleet = fleet_map(config)
    return 0 if fleet is None else fleet.here.number


def _peers(
    config: Config, keys: KeySet, sockets: Sockets, neighbourhood: Neighbourhood, worker: int
) -> PeersSettings | None:
    """Return a worker's end of the control channel between hosts, if there are any."""
    fleet = fleet_map(config)
    if fleet is None:
        return None
    listeners = sockets.control_of(worker, config.transceiver.workers)
    return PeersSettings(fleet, keys.fleet, neighbourhood.state_memory, listeners)


def _trunk(
    config: Config, keys: KeySet, sockets: Sockets, trunk: Sequence[socket.socket], worker: int
) -> TrunkSettings | None:
    """Return a worker's end of the way to other hosts, if there are any."""
    fleet = fleet_map(config)
    if fleet is None or not trunk:
        return None
    advertised = config.relay.advertised([port_of(one) for one in sockets.public[0]])
    entrances = tuple(entrance_id(each.host, each.port) for each in advertised)
    return TrunkSettings(trunk[worker], fleet, keys.fleet, entrances)


def _access(config: Config, keys: KeySet) -> AccessSettings:
    access = config.access
    return AccessSettings(
        own_key=derive_own_key(keys.password_key),
        open=access.is_open(on_loopback=config.signal.on_loopback),
        token_keys=tuple(TrustedKey(each.key(), _terms(each)) for each in access.token_keys),
        api_keys=tuple(
            ApiKey(each.name, bytes(each.key), _terms(each)) for each in access.api_keys
        ),
        origins=access.origins,
        default_route=str(config.signal.default_route),
        lifetime=access.default_lifetime,
        lifetime_max=access.lifetime_max,
        max_duration=access.session_duration_max or None,
        tenant=Limits(access.tenant_sessions_max, access.tenant_offers_per_minute),
        address=Limits(access.address_sessions_max, access.address_offers_per_minute),
    )


def _terms(key: KeyTable) -> KeyTerms:
    return KeyTerms(
        routes=frozenset(str(route) for route in key.routes),
        limits=Limits(key.sessions_max, key.offers_per_minute),
        max_duration=key.session_duration_max or None,
    )


def _media(media: MediaConfig) -> backends.MediaSettings:
    return backends.MediaSettings(
        jitter=JitterLimits(media.jitter_delay_min, media.jitter_delay_max, steady=False),
        playout=PlayoutSettings(
            encoder=EncoderSettings(
                bitrate_bps=media.bitrate_bps,
                complexity=media.complexity,
                fec=media.fec,
                dtx=False,  # it takes a tone, or music, for noise and leaves it out
            ),
            gaps=media.gaps,
            prebuffer=media.prebuffer,
            queue_max=media.playout_max,
        ),
        policy=MediaPolicy(redundancy=media.redundancy, dtx=media.dtx),
    )


def _route(route: Route) -> backends.Route:
    match route:
        case EchoRoute():
            return backends.EchoRoute()
        case LoopbackRoute():
            return backends.LoopbackRoute()
        case WebSocketRoute():
            audio = AudioFormat(Encoding(route.encoding), route.format_rate_hz)
            return backends.NativeRoute(_link(route, subprotocol=SUBPROTOCOL), audio)
        case RealtimeRoute():
            return _realtime(route)
        case _:
            return backends.TwilioRoute(_link(route))


def _realtime(route: RealtimeRoute) -> backends.RealtimeRoute:
    key = route.key  # the key file's, if there is one: see Config.with_key_files
    headers = () if key is None else (("Authorization", f"Bearer {key.reveal()}"),)
    link = _link(route, headers=headers)
    return backends.RealtimeRoute(
        evolve(link, url=realtime_url(link.url, route.model)),
        RealtimeSettings(
            model=route.model,
            voice=route.voice,
            instructions=route.instructions,
            session=route.session,
            gather_ms=route.gather_ms,
            interrupt=route.interrupt,
            digits=DigitPolicy(route.digits),
        ),
    )


def _link(
    route: LinkedRoute,
    *,
    subprotocol: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> LinkSettings:
    ours = tuple((name, value.reveal()) for name, value in route.headers.items())
    return LinkSettings(
        url=str(route.url),
        headers=ours + headers,
        subprotocol=subprotocol,
        ca_file=route.ca_file,
        connect_timeout=route.connect_timeout,
        attempts=route.attempts,
        on_failure=OnFailure(route.on_failure),
        reconnect_limit=route.reconnect_limit,
        queue_max=route.queue_max,
    )


def _page_folder() -> Path:
    """Return the page's folder: of the checkout that we run from, else of the installed package."""
    package = Path(__file__).parent
    checkout = package.parent / "web"
    return checkout if checkout.is_dir() else package / "web"
