"""What an operator is shown of the whole appliance: ``edge status --json`` is JSON of these."""

from typing import Literal

from msgspec import Struct

from edge.control.statistics import WorkerStatistics

WorkerKind = Literal["relay", "transceiver"]


class WorkerStatus(Struct, frozen=True, kw_only=True):
    kind: WorkerKind
    index: int
    """A transceiver's slot, a relay's number."""
    pid: int | None
    state: str
    """starting, waiting, running, leaving, stopping, backing-off or stopped. One that leaves
    has handed over to another and ends with its calls."""
    restarts: int
    statistics: WorkerStatistics | None


class Drain(Struct, frozen=True, kw_only=True):
    """The operator wants no new sessions. Times: seconds on the system-wide monotonic clock."""

    since: float
    ends_at: float | None = None
    """When sessions that are left are ended; None: they may go on."""


class DrainStatus(Struct, frozen=True, kw_only=True):
    """The operator wants no new sessions. Times: seconds."""

    since: float
    deadline: float | None
    """What is left until the sessions are ended; None: they may go on."""


class RegistrationStatus(Struct, frozen=True, kw_only=True):
    """How the host tells others in Redis where it is."""

    state: str
    """Of the connection: connecting, up or down."""
    server: str
    """The master; empty while there is no connection."""
    written: int
    """How often the host has written its entry."""
    refused: str
    """Why it could not the last time; empty if it could."""
    contested: int = 0
    """How often another host was found registered under this one's number."""
    rival: str = ""
    """That host's address; empty if the last look found none."""


class ClusterStatus(Struct, frozen=True, kw_only=True):
    """A cluster of the fleet, as its hosts have told of themselves."""

    name: str
    hosts: int
    heard: int
    """Hosts that have told something lately, the host itself counted."""
    draining: int
    """Of those."""
    sessions: int
    """Of hosts that take sessions, as the rest."""
    sessions_max: int
    room: int
    """New sessions that would be taken now."""


class Status(Struct, frozen=True, kw_only=True):
    """The whole appliance, as ``edge status`` shows it."""

    version: str
    uptime: float
    udp: list[str]
    """Public UDP addresses."""
    tcp: list[str]
    """Public addresses for ICE over TCP."""
    signaling: list[str]
    workers: list[WorkerStatus]
    metrics: list[str] = []
    """Addresses of the metrics endpoint."""
    registration: RegistrationStatus | None = None
    """None: the host is in no directory."""
    drain: DrainStatus | None = None
    """None: new sessions are taken."""
    clusters: list[ClusterStatus] = []
    """Of the fleet. None on a host that is alone, or that only relays: nobody tells it."""
