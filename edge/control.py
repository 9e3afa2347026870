"""What supervisor and workers tell each other, and what an operator is shown of it.

Messages are MessagePack, one per SOCK_SEQPACKET datagram, so no framing is needed. The operator's
status is JSON of the same types.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from edge.inspection import SessionDetails, SessionLine

MESSAGE_BYTES_MAX = 65_536

WorkerKind = Literal["relay", "transceiver"]


class FlowCounts(Struct, frozen=True, kw_only=True):
    """One public socket's flow table on one relay worker."""

    confirmed: int
    tentative: int
    conflicts: int
    evicted: int
    full: int
    taken_over: int


class StreamCounts(Struct, frozen=True, kw_only=True):
    """The TCP connections of one relay worker's clients."""

    connections: int
    half_open: int
    """Those whose client a transceiver has not confirmed yet."""
    accepted: int
    refused: dict[str, int]
    """Connections that were closed at once, by reason."""
    closed: dict[str, int]
    """Connections that have ended, by reason."""


class HistogramCounts(Struct, frozen=True, kw_only=True):
    """How many values there were of each size."""

    bounds: list[float]
    """Upper bounds, ascending."""
    counts: list[int]
    """One for each bound, of values above the bound before it, and one for all above the last."""
    total: float
    """The sum of all values."""


class ProcessCounts(Struct, frozen=True, kw_only=True):
    """What a worker's process has used so far."""

    cpu: float
    """Seconds."""
    resident_max_bytes: int
    """The most memory that it ever had."""


class TrunkCounts(Struct, frozen=True, kw_only=True):
    """What one relay worker has with transceivers of other hosts."""

    transceivers: int
    """Of other hosts, that it has met."""
    packets: int
    """Sent to them."""
    frames: int
    """That those packets took."""
    frames_back: int
    """Authentic ones that came from them."""
    delivered: int
    """Packets in those that went out to clients."""
    first_checks: int
    """Those of ``first_checks`` that were for them."""


class RedisCounts(Struct, frozen=True, kw_only=True):
    """What one relay worker has with Redis."""

    state: str
    """connecting, up or down."""
    server: str
    """The master; empty while there is no connection."""
    connected: int
    """How often a connection was made."""
    lost: dict[str, int]
    """Connections that were lost, and tries that failed, by reason."""
    pending: int
    """Commands without a reply."""
    events: dict[str, int]
    """Flows asked for, written and removed, and what was not done, by reason."""
    refused: str
    """Why the latest write was refused; empty if it was not."""
    hosts: int
    """Hosts that are registered."""
    distrusted: dict[str, int]
    """Registrations that were not believed, by reason."""


class RelayStatistics(Struct, frozen=True, kw_only=True, tag="relay"):
    packets: int
    """Packets that came in on the public sockets."""
    bytes: int
    forwarded: int
    """Packets handed to transceivers."""
    frames: int
    """Datagrams those packets took on the internal hop."""
    first_checks: list[int]
    """STUN requests that were routed by their ufrag alone, before this worker knew a confirmed
    flow for their sender; by transceiver."""
    drops: dict[str, int]
    flows: list[FlowCounts]
    tcp: StreamCounts
    process: ProcessCounts | None = None
    trunk: TrunkCounts | None = None
    """None: the host is alone."""
    redis: RedisCounts | None = None
    """None: it is not configured."""


class MediaCounts(Struct, frozen=True, kw_only=True):
    """Sound that is decoded or played, not echoed."""

    heard: dict[str, int]
    """Frames of the clients' sound, by where it came from: ``received``, ``concealed``, ..."""
    buffer_delay: HistogramCounts
    """Mean seconds of a packet in the jitter buffer, of sessions that have ended."""
    underruns: int
    """Gaps in what was played because a backend was late, of sessions that have ended."""
    overflow: float
    """Seconds of sound thrown away because too much waited to be played, likewise."""


class LinkCounts(Struct, frozen=True, kw_only=True):
    """The connections of a worker's sessions to their backends."""

    states: dict[str, int]
    """Links now, by state."""
    connect: HistogramCounts
    """Seconds until a connection was open."""
    round_trip: HistogramCounts
    """Seconds from a ping to its pong."""
    failures: dict[str, int]
    """Attempts and connections that failed, by reason."""
    ends: dict[str, int]
    """Links that ended before their session, by reason."""
    messages_sent: int
    messages_received: int
    frames_dropped: int
    """Sound dropped because a backend did not keep up or was not there."""
    drops: dict[str, int]
    """What else was lost, by reason, of links that are over."""


class Punctuality(Struct, frozen=True, kw_only=True):
    """How punctually a worker sends the frames that it makes or paces; echoes are not counted."""

    frames: int
    """Sent, late or not."""
    skipped: int
    """Never sent, because the worker missed their time by 20 ms or more."""
    on_time_ratio: float
    """Frames that left at most 5 ms late, by all sent or skipped; 1 before the first."""
    late_up_to: dict[str, int]
    """Sent frames by their lateness: upper bound in ms, or "more"."""
    late: float = 0.0
    """Seconds that all sent frames were late together."""


class Placement(Struct, frozen=True, kw_only=True):
    """How full a transceiver worker is, and which sessions went where."""

    sessions_max: int
    on_time_ratio: float
    """Of the last seconds: below ``transceiver.on_time_min`` it takes no new sessions."""
    opened_here: int
    """Sessions whose signaling it accepted, and that it owns."""
    opened_elsewhere: int
    """Sessions whose signaling it accepted, and that another worker owns."""
    opened_for_others: int
    """Sessions that it owns, and whose signaling another worker accepted."""
    refused: int
    """Offers that it accepted when no worker had room."""
    redirected: int = 0
    """Clients that it sent to another cluster."""
    opened_at_peers: int = 0
    """Sessions whose signaling it accepted, and that another host owns."""
    opened_for_peers: int = 0
    """Sessions that another host has asked it for: it or its neighbours own them."""
    remote: int
    """Sessions of other workers that its signaling is attached to now."""
    detached: int
    """Sessions of its own that no signaling is attached to now."""


class WayCounts(Struct, frozen=True, kw_only=True):
    """What one transceiver worker has with relays of other hosts."""

    frames: int
    """Authentic ones that came from them."""
    ways: int
    """Back to clients by them, that are known now."""
    turned: int
    """How often a client was found behind another relay than before."""


class TransceiverStatistics(Struct, frozen=True, kw_only=True, tag="transceiver"):
    sessions: int
    sessions_by_key: dict[int, int]
    """By the id of the routing key that sealed their ufrags."""
    opened: int
    reached_media: int
    ended: dict[str, int]
    """Ended sessions by reason."""
    verdicts: dict[str, int]
    """Ended sessions by what they came to: ``ok``, or what went wrong."""
    packets_received: int
    packets_sent: int
    punctuality: Punctuality
    placement: Placement
    drops: dict[str, int]
    bytes_received: int = 0
    """Of packets, as in ``bytes_sent``."""
    bytes_sent: int = 0
    setup: dict[str, HistogramCounts] = {}
    """Seconds that each layer took to come up after the one before it; ``ice`` after the offer."""
    quality: dict[str, HistogramCounts] = {}
    """RTCP reports: ``jitter`` and ``round-trip`` in seconds, ``loss`` 0..1; ``remote-``: what the
    clients report of our streams."""
    media: MediaCounts | None = None
    links: LinkCounts | None = None
    process: ProcessCounts | None = None
    trunk: WayCounts | None = None
    """None: the host is alone."""


WorkerStatistics = RelayStatistics | TransceiverStatistics


class Ping(Struct, frozen=True, tag="ping"):
    sequence: int


class Stop(Struct, frozen=True, tag="stop"):
    """End: take nothing new, give what runs ``grace`` seconds, then close it in order."""

    grace: float


class SharedKey(Struct, frozen=True):
    """A routing key, or a key of the fleet, on its way to a worker."""

    id: int
    key: bytes

    def __repr__(self) -> str:
        return f"SharedKey(id={self.id})"


class AcceptKeys(Struct, frozen=True, tag="accept-keys"):
    """To a relay: route ufrags that are sealed with one of these keys, and no others."""

    sequence: int
    keys: list[SharedKey]


class UseFleetKeys(Struct, frozen=True, tag="use-fleet-keys"):
    """To any worker: seal what goes to other hosts with the first key, and open with all."""

    sequence: int
    keys: list[SharedKey]


class IssueWith(Struct, frozen=True, tag="issue-with"):
    """To a transceiver: seal new ufrags with this key."""

    sequence: int
    key: SharedKey


class TrustRelays(Struct, frozen=True, tag="trust-relays"):
    """To a transceiver: take frames from these internal addresses, and no others."""

    sequence: int
    relays: list[tuple[str, int]]


class ReloadCertificate(Struct, frozen=True, tag="reload-certificate"):
    """To a transceiver: read the certificate of its signaling addresses again."""

    sequence: int


class ReloadPositions(Struct, frozen=True, tag="reload-positions"):
    """To a transceiver: read the database of clients' positions again."""

    sequence: int


class TakeOver(Struct, frozen=True, tag="take-over"):
    """To a worker that was started to wait: read and accept from the public sockets now."""

    sequence: int


class HandOver(Struct, frozen=True, tag="hand-over"):
    """Read and accept nothing new from the public sockets: another worker does now.

    A transceiver takes no new sessions any more.
    """

    sequence: int


class LogAs(Struct, frozen=True, tag="log-as"):
    """Write lines of this importance and above: ``log.level``."""

    sequence: int
    level: str


class TakeSessions(Struct, frozen=True, tag="take-sessions"):
    """To a transceiver: take new sessions, or none until told otherwise."""

    sequence: int
    wanted: bool


class EndSessions(Struct, frozen=True, tag="end-sessions"):
    """To a transceiver: end all sessions; their clients are told ``going-away``."""

    sequence: int


class ListSessions(Struct, frozen=True, tag="list-sessions"):
    """To a transceiver: tell of some sessions, of those that are younger than ``after``."""

    sequence: int
    after: int
    """The ``last`` of the page before, or 0."""


class DescribeSession(Struct, frozen=True, tag="describe-session"):
    """To a transceiver: tell everything of a session."""

    sequence: int
    session: str


class EndSession(Struct, frozen=True, tag="end-session"):
    """To a transceiver: end a session; its client is told ``going-away``."""

    sequence: int
    session: str


class SessionPage(Struct, frozen=True, tag="session-page"):
    """An answer to ``ListSessions``, without sessions after the last page."""

    sequence: int
    sessions: list[SessionLine]
    last: int


class SessionFound(Struct, frozen=True, tag="session-found"):
    """An answer to ``DescribeSession``; None: it is not this worker's."""

    sequence: int
    session: SessionDetails | None


class SessionEnded(Struct, frozen=True, tag="session-ended"):
    """An answer to ``EndSession``."""

    sequence: int
    found: bool


class Done(Struct, frozen=True, tag="done"):
    """An order with a sequence number has been carried out."""

    sequence: int


class Ready(Struct, frozen=True, tag="ready"):
    pass


class BootFailed(Struct, frozen=True, tag="boot-failed"):
    """The worker cannot start and a restart would not help."""

    message: str


class Pong(Struct, frozen=True, tag="pong"):
    sequence: int
    statistics: WorkerStatistics


Order = (
    AcceptKeys
    | IssueWith
    | TrustRelays
    | ReloadCertificate
    | ReloadPositions
    | TakeOver
    | HandOver
    | LogAs
    | UseFleetKeys
    | TakeSessions
    | EndSessions
)
Question = ListSessions | DescribeSession | EndSession
Answer = SessionPage | SessionFound | SessionEnded
ToWorker = Ping | Stop | Order | Question
FromWorker = Ready | BootFailed | Pong | Done | Answer


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


_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode_message(message: ToWorker | FromWorker) -> bytes:
    return _encoder.encode(message)


def decode_to_worker(data: bytes) -> ToWorker | None:
    """Decode a message. None: it is one that only the other end's version knows."""
    try:
        return _to_worker.decode(data)
    except msgspec.ValidationError:
        return None


def decode_from_worker(data: bytes) -> FromWorker | None:
    """Decode a message. None: it is one that only the other end's version knows."""
    try:
        return _from_worker.decode(data)
    except msgspec.ValidationError:
        return None
