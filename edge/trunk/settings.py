"""What a worker is given for its traffic with other hosts."""

import socket

from attrs import frozen

from edge.fleet.map import FleetKey, FleetMap
from edge.fleet.seal import OVERHEAD_BYTES, Place
from edge.routing import frames
from edge.udp import PAYLOAD_BYTES_MAX

RELAYS_MAX = frames.SOCKETS_MAX
"""Relay workers of a host: so many ports from ``relay_port`` on may send frames."""

PACKET_BYTES_MAX = PAYLOAD_BYTES_MAX - OVERHEAD_BYTES - frames.HEADER.size - frames.ROW_HEAD.size
"""Of a client: a frame that has just it still fits a row of a receive batch at the other end."""


@frozen
class TrunkSettings:
    """One worker's end of the trunk."""

    socket: socket.socket
    """Bound to the host's internal address: a relay's to ``relay_port`` + its index, a
    transceiver's to ``frame_port`` + its slot."""
    fleet: FleetMap
    keys: tuple[FleetKey, ...]
    entrances: tuple[bytes, ...]
    """``entrance_id`` of where clients reach each public socket of this host, by its index."""


def place_of(bound: socket.socket) -> Place:
    """Return host and port of a bound socket."""
    host, port = bound.getsockname()[:2]
    return host, port
