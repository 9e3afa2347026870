"""What a transceiver worker is given: no more than it needs."""

from pathlib import Path

from edge.assignment.access import access_share
from edge.assignment.fleet import cluster_id, host_number
from edge.assignment.hosts import peers_settings, trunk_settings
from edge.assignment.media import media_settings
from edge.assignment.neighbourhood import Neighbourhood
from edge.assignment.routes import route_settings
from edge.assignment.steering import steering_settings, visitor_settings
from edge.config import Config
from edge.keys import KeySet
from edge.signal.page import load_page
from edge.signal.settings import SignalSettings
from edge.sockets import Sockets, addresses_of, port_of
from edge.transceiver.session import SessionLimits
from edge.transceiver.settings import TransceiverSettings


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
        cluster=cluster_id(config),
        public=tuple(first_relays),
        advertised=tuple((each.host, each.port) for each in advertised),
        internal=sockets.transceiver_internal[slot],
        relays=addresses_of(sockets.relay_internal),
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
        routes={str(name): route_settings(route) for name, route in config.routes.items()},
        default_route=str(offered.default_route),
        media=media_settings(config.media),
        neighbour_listener=neighbourhood.listeners[slot],
        neighbours=neighbourhood.paths,
        load_memory=neighbourhood.load_memory,
        advertised_tcp=tuple((each.host, each.port) for each in by_tcp),
        on_time_min=limits.on_time_min,
        access=access_share(config, keys, neighbourhood),
        visitors=visitor_settings(config),
        steering=steering_settings(config),
        tls_files=tls_files,
        host=host_number(config),
        trunk=trunk_settings(config, keys, sockets, sockets.transceiver_trunk, slot),
        peers=peers_settings(config, keys, sockets, neighbourhood, worker),
    )


def _page_folder() -> Path:
    """Return the page's folder: of the checkout that we run from, else of the installed package."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "web"
    return checkout if checkout.is_dir() else package / "web"
