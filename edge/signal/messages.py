"""The JSON messages of the signaling protocol ``edge.v1`` (docs/signaling.md has examples).

Every message is one WebSocket text message: an object whose ``type`` names it. Client messages are
decoded strictly, so that a misspelt field is an error that names it and not a silent default.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from edge.errors import SignalError

SUBPROTOCOL = "edge.v1"

SENTENCE_CHARS_MAX = 200
METADATA_BYTES_MAX = 4096
"""Of an offer's metadata, as JSON without blanks."""
METADATA_DEPTH_MAX = 8
"""Objects and arrays in each other, the metadata itself counted."""

RouteName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="offer"):
    """Open a session with this SDP offer; or, while there is one, restart ICE or renegotiate."""

    sdp: str
    route: RouteName | None = None
    """Which of the server's backends to talk to; None: the default one. Fixed once there is one."""
    metadata: dict[str, Any] | None = None
    """Told to the backend as it is: JSON within the limits above. Only when a session is opened."""


class Resume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="resume"):
    """Go on with a session whose connection was lost, or is to be replaced by this one."""

    session: str
    secret: str
    """As the answer had them."""

    def __repr__(self) -> str:
        return f"Resume(session={self.session!r})"


class Candidate(msgspec.Struct, frozen=True, kw_only=True, tag="candidate"):
    """A trickled candidate. A lite server has no use for it: whatever it holds is ignored."""


class HangUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="bye"):
    """End the session at once."""


ClientMessage = Offer | Resume | Candidate | HangUp


class ErrorCode(StrEnum):
    """Why a message or a connection was refused."""

    MALFORMED_MESSAGE = "malformed-message"
    """Not JSON, not a message of edge.v1, or a field missing, unknown or of the wrong type."""
    BINARY_MESSAGE = "binary-message"
    OFFER_REFUSED = "offer-refused"
    """The SDP is malformed or offers nothing that we accept."""
    SESSION_EXISTS = "session-exists"
    """This connection has a session already, so it cannot resume one; hang up first."""
    TOO_MANY_REFUSALS = "too-many-refusals"
    IDLE = "idle"
    """No session for too long."""
    UNKNOWN_ROUTE = "unknown-route"
    """The offer names a route that the server does not have."""
    BUSY = "busy"
    """No room for another session now."""
    UNAUTHORIZED = "unauthorized"
    """A client secret is missing, or it is not good, or no longer."""
    FORBIDDEN = "forbidden"
    """The page's origin, or the route, is not for this client."""
    TOO_MANY_REQUESTS = "too-many-requests"
    """A quota is used up."""
    UNKNOWN_SESSION = "unknown-session"
    """There is no such session, or no longer, or the secret is not its own."""
    REPLACED = "replaced"
    """Another connection has resumed the session, which goes on there."""
    INTERNAL = "internal"
    """A fault of ours; trying again may help."""


class Layer(StrEnum):
    ICE = "ice"
    DTLS = "dtls"
    MEDIA = "media"
    BACKEND = "backend"
    """The connection to the backend, where the route's kind has one."""


class LayerState(StrEnum):
    CONNECTED = "connected"
    """ICE: a check was authenticated. DTLS: keys agreed. Media: the first packet was decrypted.
    Backend: it has taken the session; again after every lost connection that was replaced."""
    FAILED = "failed"
    """The session ends because of this layer: a bye follows."""


class ByeReason(StrEnum):
    """Why a session is over."""

    HANG_UP = "hang-up"
    """The client said bye."""
    SIGNALING_CLOSED = "signaling-closed"
    """The WebSocket was closed and the grace time is over. Nobody is left to be told."""
    PEER_CLOSED = "peer-closed"
    """The client closed the DTLS association."""
    SETUP_TIMEOUT = "setup-timeout"
    """ICE and DTLS were not connected in time."""
    HANDSHAKE_FAILED = "handshake-failed"
    """DTLS failed, or the certificate is not the one whose fingerprint was offered."""
    CONSENT_LOST = "consent-lost"
    """The client has sent nothing valid for too long (RFC 7675)."""
    BACKEND_REFUSED = "backend-refused"
    """The backend did not take the session, or could not be reached."""
    BACKEND_LOST = "backend-lost"
    """The connection to the backend broke, or what came over it made no sense."""
    BACKEND_ENDED = "backend-ended"
    """The backend hung up."""
    TIME_LIMIT = "time-limit"
    """The session has lasted as long as it may."""
    GOING_AWAY = "going-away"
    """The server is shutting down, or the host that owns the session cannot be reached any more."""
    INTERNAL = "internal"


class Verdict(StrEnum):
    """What became of a session, in one word."""

    OK = "ok"
    """There was media, and it ended in order."""
    GAVE_UP = "gave-up"
    """The session ended before one could expect media: the client has changed its mind."""
    NO_CHECK = "no-check"
    """Nothing arrived: UDP is blocked, or the public address is wrong."""
    CHECKS_NOT_AUTHENTIC = "checks-not-authentic"
    """Checks arrived, none with the password of the answer."""
    CHECKS_REFUSED = "checks-refused"
    """Authentic checks arrived that could not be granted: no client that we know sends such."""
    NO_DTLS = "no-dtls"
    """ICE is connected, but nothing of DTLS arrived."""
    DTLS_INCOMPLETE = "dtls-incomplete"
    """The DTLS handshake began and did not end in time."""
    DTLS_FAILED = "dtls-failed"
    FINGERPRINT_MISMATCH = "fingerprint-mismatch"
    NO_SRTP_PROFILE = "no-srtp-profile"
    NO_MEDIA = "no-media"
    """Keys were agreed, and no media came."""
    MEDIA_REFUSED = "media-refused"
    """Media came that was not authentic or not what was agreed on, and no other."""
    CONSENT_LOST = "consent-lost"
    """There was media, then nothing valid any more."""
    SIGNALING_LOST = "signaling-lost"
    """There was media, but signaling was lost, and not resumed in time."""
    BACKEND_REFUSED = "backend-refused"
    BACKEND_LOST = "backend-lost"
    INTERNAL = "internal"


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer", omit_defaults=True):
    """The offer is accepted."""

    sdp: str
    session: str
    """The session's id, for logs and support."""
    secret: str | None = None
    """For ``resume``: whoever has it may take the session over. Not in later answers."""
    grace: float | None = None
    """Seconds that the session stays without a WebSocket. With the secret."""
    heartbeat: float | None = None
    """Seconds from one ``heartbeat`` to the next, at most. With the secret."""

    def __repr__(self) -> str:
        return f"Answer(session={self.session!r})"


class Resumed(msgspec.Struct, frozen=True, kw_only=True, tag="resumed"):
    """The session goes on over this connection. Its layers' states follow."""

    session: str


class State(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """A layer of the session changed its state."""

    layer: Layer
    state: LayerState
    ms: float
    """Milliseconds since the server had the offer."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """The connection still works. For browsers, which show no pings to scripts."""


class GoingAway(msgspec.Struct, frozen=True, kw_only=True, tag="going_away"):
    """The server will end the session. A new offer, where it is accepted, has one that stays.

    Told again when the deadline is another, and to who resumes.
    """

    deadline: float
    """Seconds from now."""


class Staying(msgspec.Struct, frozen=True, kw_only=True, tag="staying"):
    """What ``going_away`` has said does not hold any more."""


class Bye(msgspec.Struct, frozen=True, kw_only=True, tag="bye", omit_defaults=True):
    """The session is over. The connection may carry another offer."""

    reason: ByeReason
    message: str
    """A sentence for people."""
    verdict: Verdict | None = None
    """What became of the session. None: whoever says bye does not know."""


class Error(msgspec.Struct, frozen=True, kw_only=True, tag="error", omit_defaults=True):
    """A message, or the connection, is refused."""

    code: ErrorCode
    message: str
    """A sentence for people."""
    retry_after: float | None = None
    """Seconds after which another try may succeed."""


class Redirect(msgspec.Struct, frozen=True, kw_only=True, tag="redirect"):
    """The offer is for another cluster: send it there, over a new connection. This one closes."""

    url: str
    """Its WebSocket address, to be used as it is."""


ServerMessage = Answer | Resumed | Redirect | State | Heartbeat | GoingAway | Staying | Bye | Error

_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_encoder = msgspec.json.Encoder()


def decode_client_message(text: str) -> ClientMessage:
    """Decode one message of a client.

    Raises:
        SignalError: its reason is ``malformed-message``; the text names the field at fault.

    """
    try:
        message = _client_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as exc:
        raise _malformed(str(exc)) from exc
    if isinstance(message, Offer) and message.metadata is not None:
        _check_metadata(message.metadata)
    return message


def encode_server_message(message: ServerMessage) -> str:
    """Encode one message to a client."""
    return _encoder.encode(message).decode()


def _check_metadata(metadata: dict[str, Any]) -> None:
    if _is_deeper(metadata, METADATA_DEPTH_MAX):
        raise _malformed(f"more than {METADATA_DEPTH_MAX} levels - at `$.metadata`")
    if len(_encoder.encode(metadata)) > METADATA_BYTES_MAX:
        raise _malformed(f"more than {METADATA_BYTES_MAX} bytes - at `$.metadata`")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _malformed(sentence: str) -> SignalError:
    return SignalError(
        ErrorCode.MALFORMED_MESSAGE,
        f"This is not an {SUBPROTOCOL} message: {sentence[:SENTENCE_CHARS_MAX]}",
    )
