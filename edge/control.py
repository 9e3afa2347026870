"""What supervisor and workers tell each other, and what an operator is shown of it.

Messages are MessagePack, one per SOCK_SEQPACKET datagram, so no framing is needed. The operator's
status is JSON of the same types.
"""

from typing import Literal

import msgspec
from msgspec import Struct

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
    remote: int
    """Sessions of other workers that its signaling is attached to now."""
    detached: int
    """Sessions of its own that no signaling is attached to now."""


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


WorkerStatistics = RelayStatistics | TransceiverStatistics


class Ping(Struct, frozen=True, tag="ping"):
    sequence: int


class Stop(Struct, frozen=True, tag="stop"):
    """End: take nothing new, give what runs ``grace`` seconds, then close it in order."""

    grace: float


class SharedKey(Struct, frozen=True):
    """A routing key on its way to a worker."""

    id: int
    key: bytes

    def __repr__(self) -> str:
        return f"SharedKey(id={self.id})"


class AcceptKeys(Struct, frozen=True, tag="accept-keys"):
    """To a relay: route ufrags that are sealed with one of these keys, and no others."""

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


Order = AcceptKeys | IssueWith | TrustRelays | ReloadCertificate
ToWorker = Ping | Stop | Order
FromWorker = Ready | BootFailed | Pong | Done


class WorkerStatus(Struct, frozen=True, kw_only=True):
    kind: WorkerKind
    index: int
    pid: int | None
    state: str
    """starting, running, stopping, backing-off or stopped."""
    restarts: int
    statistics: WorkerStatistics | None


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


_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode_message(message: ToWorker | FromWorker) -> bytes:
    return _encoder.encode(message)


def decode_to_worker(data: bytes) -> ToWorker:
    """Raises msgspec.DecodeError: only if our two ends disagree, so it is a bug."""
    return _to_worker.decode(data)


def decode_from_worker(data: bytes) -> FromWorker:
    """Raises msgspec.DecodeError: only if our two ends disagree, so it is a bug."""
    return _from_worker.decode(data)
