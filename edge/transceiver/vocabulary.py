"""What a session says of itself, and what it is made of: values without behaviour."""

from enum import Enum

from attrs import field, frozen

from edge.dtls.certificate import Fingerprint
from edge.dtls.keying import Role
from edge.ice.agent import IceStatistics
from edge.machine import Address
from edge.rtp.clock import CLOCK_RATE_HZ
from edge.rtp.reporter import RtpStatistics


class Layer(Enum):
    ICE = "ice"
    DTLS = "dtls"
    MEDIA = "media"
    BACKEND = "backend"
    """The owner's: a session does not know where its media goes."""


class EndReason(Enum):
    """Why a session ended. DTLS failures that are not listed end it with ``dtls-failed``."""

    ICE_TIMEOUT = "ice-timeout"
    DTLS_TIMEOUT = "dtls-timeout"
    DTLS_FAILED = "dtls-failed"
    FINGERPRINT_MISMATCH = "fingerprint-mismatch"
    NO_SRTP_PROFILE = "no-srtp-profile"
    CONSENT_LOST = "consent-lost"
    PEER_CLOSED = "peer-closed"
    BACKEND_REFUSED = "backend-refused"
    """It could not be reached, or did not want the call."""
    BACKEND_LOST = "backend-lost"
    """Its connection broke, or it broke its protocol."""
    BACKEND_ENDED = "backend-ended"
    """It hung up."""
    CLIENT_BYE = "client-bye"
    CLIENT_GONE = "client-gone"
    TIME_LIMIT = "time-limit"
    """It has lasted as long as it may."""
    GOING_AWAY = "going-away"
    CRASHED = "crashed"


@frozen
class LayerUp:
    """A layer works; ``elapsed`` seconds after the session was made."""

    layer: Layer
    elapsed: float


@frozen
class AddressValidated:
    """The peer has authenticated itself from this address: its packets are this session's."""

    address: Address


@frozen
class UfragRetired:
    """A ufrag of this session's is not answered any more: a restart has replaced it, or failed."""

    ufrag: str


@frozen
class Peer:
    """What offer and answer agreed on."""

    role: Role
    """Our side of the DTLS handshake."""
    fingerprints: tuple[Fingerprint, ...]
    """One of them is the peer's certificate's."""
    payload_types: frozenset[int]
    mid: bytes | None
    """The audio section's media identification."""
    mid_extension: int | None
    """Id of the header extension that carries it, if negotiated (RFC 8843 §15)."""
    may_send: bool
    """Whether the peer wants media from us, until ``Session.redirect`` says otherwise."""
    clock_rate_hz: int = CLOCK_RATE_HZ
    """Of the negotiated codec's RTP clock."""
    may_receive: bool = True
    """Whether the peer has announced media to us."""


@frozen
class SessionLimits:
    """Seconds each."""

    setup_timeout: float
    consent_timeout: float


@frozen
class SessionStatistics:
    """A snapshot. Times: seconds."""

    layers: dict[Layer, float]
    """When each layer came up, after the session was made."""
    ice: IceStatistics
    dtls_datagrams: int
    """DTLS that came from valid addresses."""
    rtp: RtpStatistics
    media_expected: bool
    """The peer has announced media to us."""
    drops: dict[str, int]
    duration: float | None = None
    """From when the session was made to its end; None while it runs."""


@frozen
class Ended:
    """The session is over. What is queued still goes out; all input is ignored."""

    reason: EndReason
    statistics: SessionStatistics | None = field(default=None, eq=False, repr=False)
    """None if the session could not say any more."""


SessionEvent = LayerUp | AddressValidated | UfragRetired | Ended
