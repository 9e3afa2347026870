"""What one transceiver worker is given."""

import socket
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from edge.access.settings import AccessSettings
from edge.access.tables import TableSizes
from edge.fleet.map import FleetKey, FleetMap
from edge.memory import HeldMemory
from edge.routing.numbers import transceiver_number
from edge.routing.ufrag import RoutingKey
from edge.signal.page import PageFile
from edge.signal.settings import SignalSettings
from edge.steering.choice import Steering
from edge.steering.settings import VisitorSettings
from edge.transceiver.backends import MediaSettings, Route
from edge.transceiver.session import SessionLimits
from edge.trunk.settings import TrunkSettings


@frozen
class AccessShare:
    """What the workers of a host need to let the same people in."""

    settings: AccessSettings
    memory: HeldMemory
    sizes: TableSizes
    """Of the tables in the memory."""
    hash_key: bytes = field(repr=False)


@frozen
class PeersSettings:
    """One transceiver worker's end of the control channel between hosts."""

    fleet: FleetMap
    keys: tuple[FleetKey, ...]
    """The first one is used, all are accepted."""
    state_memory: HeldMemory
    """Of the table of the other hosts' room."""
    listeners: tuple[socket.socket, ...]
    """Where other hosts' workers come in."""


@frozen
class TransceiverSettings:
    """What one transceiver worker needs to know."""

    index: int
    """Its slot."""
    cluster: int
    public: tuple[socket.socket, ...]
    """One socket per public address, to send on."""
    advertised: tuple[tuple[str, int], ...]
    """Where clients reach those, for the answer's candidates."""
    internal: socket.socket
    relays: tuple[tuple[str, int], ...]
    """Internal addresses of the relay workers: frames from elsewhere are not taken."""
    listeners: tuple[socket.socket, ...]
    signal: SignalSettings
    page: Mapping[str, PageFile] | None
    routing_key: RoutingKey
    """Seals new ufrags."""
    password_key: bytes = field(repr=False)
    sessions_max: int
    limits: SessionLimits
    routes: Mapping[str, Route]
    default_route: str
    media: MediaSettings
    neighbour_listener: socket.socket
    """Where the other transceiver workers' requests come in."""
    neighbours: tuple[str, ...]
    """By slot: the path of that listener."""
    load_memory: HeldMemory
    """Of the load table."""
    advertised_tcp: tuple[tuple[str, int], ...] = ()
    """Where clients reach the relays by TCP."""
    on_time_min: float = 0.98
    """A worker whose on-time ratio is below this takes no new sessions."""
    access: AccessShare | None = None
    """None: everybody may open sessions."""
    host: int = 0
    """This host's number in its cluster."""
    trunk: TrunkSettings | None = None
    """None: this host is alone."""
    peers: PeersSettings | None = None
    """None: this host is alone."""
    waits: bool = False
    """It takes no clients and no sessions before it is told to (``messages.TakeOver``)."""
    paused: bool = False
    """The operator wants no new sessions (``messages.TakeSessions``)."""
    drained_at: float | None = None
    """When the operator ends the sessions that are left: seconds on the system-wide monotonic
    clock. None: they may go on."""
    visitors: VisitorSettings = field(factory=VisitorSettings)
    """Who is believed about where clients are."""
    steering: Steering | None = None
    """Which cluster and which relays of the fleet clients get. With ``peers``."""
    tls_files: tuple[Path, Path] | None = None
    """Certificate chain and private key of the signaling addresses; None: no TLS."""

    @property
    def number(self) -> int:
        """The transceiver's number in its cluster, as ufrags have it."""
        return transceiver_number(self.host, self.index)
