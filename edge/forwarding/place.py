"""What the forwarders of one relay worker share."""

import socket
from collections import Counter

import trio
from attrs import frozen

from edge.directory.flow_cache import FlowCache
from edge.forwarding.ownership import Ownership
from edge.routing.limits import CheckLimiter
from edge.streams.streams import Streams
from edge.trunk.relaying import RelayTrunk


@frozen
class ForwardingPlace:
    """Where a relay worker's public sockets are among everything else of the worker."""

    relay: int
    """The worker's index."""
    internal: socket.socket
    transceivers: tuple[tuple[str, int], ...]
    """Internal address of each transceiver slot of this host."""
    owners: Ownership
    limiter: CheckLimiter
    drops: Counter[str]
    streams: Streams
    trunk: RelayTrunk | None
    """The way to transceivers of other hosts."""
    cache: FlowCache | None
    """Flows in Redis."""
    reading: trio.CancelScope
    """Cancelled when another worker reads the public sockets."""
