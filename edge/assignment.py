"""What each worker is given of configuration, keys and sockets: no more than it needs."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from edge import relay
from edge.config import Config
from edge.control import SharedKey
from edge.keys import KeySet
from edge.memory import HeldMemory
from edge.signal.page import load_page
from edge.signal.settings import SignalSettings
from edge.sockets import Sockets, port_of
from edge.transceiver import worker as transceiver
from edge.transceiver.session import SessionLimits


def relay_settings(
    index: int, config: Config, keys: KeySet, sockets: Sockets, flow_memory: HeldMemory
) -> relay.RelaySettings:
    """Relays get the routing keys, never the password key."""
    cores = sorted(os.sched_getaffinity(0))
    return relay.RelaySettings(
        index=index,
        cluster=config.supervisor.cluster,
        core=cores[index % len(cores)] if config.relay.pin_cores else None,
        public=tuple(sockets.public[index]),
        internal=sockets.relay_internal[index],
        transceivers=addresses(sockets.transceiver_internal),
        keys=keys.routing,
        flows_max=config.relay.flows_max,
        flow_generation=config.relay.flow_generation,
        flow_memory=flow_memory,
        coalesce=config.relay.coalesce_us / 1e6,
    )


def transceiver_settings(
    index: int, config: Config, keys: KeySet, sockets: Sockets
) -> transceiver.TransceiverSettings:
    limits, offered = config.transceiver, config.signal
    first_relays = sockets.public[0]
    advertised = config.relay.advertised([port_of(one) for one in first_relays])
    return transceiver.TransceiverSettings(
        index=index,
        cluster=config.supervisor.cluster,
        public=tuple(first_relays),
        advertised=tuple((each.host, each.port) for each in advertised),
        internal=sockets.transceiver_internal[index],
        relays=addresses(sockets.relay_internal),
        listeners=tuple(sockets.listeners[index]),
        signal=SignalSettings(
            path=offered.path,
            grace=offered.grace,
            connections_max=offered.connections_max,
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
    )


def addresses(bound: Sequence[socket.socket]) -> tuple[tuple[str, int], ...]:
    """Return (host, port) of each socket."""
    return tuple((one.getsockname()[0], port_of(one)) for one in bound)


def shared_keys(keys: KeySet) -> list[SharedKey]:
    """Return the routing keys as they travel to workers."""
    return [SharedKey(each.id, each.key) for each in keys.routing]


def _page_folder() -> Path:
    """Return the page's folder: of the checkout that we run from, else of the installed package."""
    package = Path(__file__).parent
    checkout = package.parent / "web"
    return checkout if checkout.is_dir() else package / "web"
