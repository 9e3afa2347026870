"""What supervisor and workers tell each other: orders and questions, replies and heartbeats.

Messages are MessagePack, one per SOCK_SEQPACKET datagram, so no framing is needed.
"""

import msgspec
from msgspec import Struct

from edge.control.inspection import SessionDetails, SessionLine
from edge.control.statistics import WorkerStatistics

MESSAGE_BYTES_MAX = 65_536


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
    ends_at: float | None = None
    """When sessions that are left will be ended, for their clients to be told: seconds on the
    system-wide monotonic clock. None: they may go on."""


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
    """The worker cannot start as things are."""

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
