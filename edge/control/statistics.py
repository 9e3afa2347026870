"""What workers count, as they tell the supervisor and as an operator is shown it.

A field that is added has a default, so that the values of an older worker can be read.
"""

from msgspec import Struct


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
