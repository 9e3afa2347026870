"""A worker's ends of what joins this host to the others of its fleet."""

import socket
from collections.abc import Sequence

from edge.assignment.fleet import fleet_map
from edge.assignment.neighbourhood import Neighbourhood
from edge.config import Config
from edge.fleet.seal import entrance_id
from edge.keys import KeySet
from edge.sockets import Sockets, port_of
from edge.transceiver.settings import PeersSettings
from edge.trunk.settings import TrunkSettings


def trunk_settings(
    config: Config, keys: KeySet, sockets: Sockets, trunk: Sequence[socket.socket], worker: int
) -> TrunkSettings | None:
    """Return a worker's end of the way to other hosts, if there are any."""
    fleet = fleet_map(config)
    if fleet is None or not trunk:
        return None
    advertised = config.relay.advertised([port_of(one) for one in sockets.public[0]])
    entrances = tuple(entrance_id(each.host, each.port) for each in advertised)
    return TrunkSettings(trunk[worker], fleet, keys.fleet, entrances)


def peers_settings(
    config: Config, keys: KeySet, sockets: Sockets, neighbourhood: Neighbourhood, worker: int
) -> PeersSettings | None:
    """Return a worker's end of the control channel between hosts, if there are any."""
    fleet = fleet_map(config)
    if fleet is None:
        return None
    listeners = sockets.control_of(worker, config.transceiver.workers)
    return PeersSettings(fleet, keys.fleet, neighbourhood.state_memory, listeners)
