"""What a relay worker is given: no more than it needs."""

import os

from edge import relay
from edge.assignment.directory import directory_settings
from edge.assignment.fleet import cluster_id, host_number
from edge.assignment.hosts import trunk_settings
from edge.config import Config
from edge.keys import KeySet
from edge.memory import HeldMemory
from edge.sockets import Sockets, addresses_of, port_of
from edge.streams.settings import StreamLimits


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
        cluster=cluster_id(config) if config.transceiver.workers else None,
        core=cores[place % len(cores)] if config.relay.pin_cores else None,
        public=tuple(sockets.public[place]),
        tcp=tuple(sockets.relay_listeners[place]),
        tcp_limits=StreamLimits(
            connections=config.relay.tcp_connections_max,
            per_source=config.relay.tcp_connections_per_address_max,
        ),
        internal=sockets.relay_internal[number],
        transceivers=addresses_of(sockets.transceiver_internal),
        keys=keys.routing,
        flows_max=config.relay.flows_max,
        flow_generation=config.relay.flow_generation,
        flow_memory=flow_memory,
        coalesce=config.relay.coalesce_us / 1e6,
        host=host_number(config),
        trunk=trunk_settings(config, keys, sockets, sockets.relay_trunk, number),
        directory=directory_settings(config, keys),
        advertised=tuple(
            (str(each.host), each.port)
            for each in config.relay.advertised([port_of(one) for one in sockets.public[0]])
        ),
    )
