"""The JSON messages of the signaling protocol ``edge.v1`` (docs/signaling.md has examples).

Every message is one WebSocket text message: an object whose ``type`` names it. Client messages are
decoded strictly, so that a misspelt field is an error that names it and not a silent default.
"""

from enum import StrEnum

import msgspec

from edge.errors import SignalError

SUBPROTOCOL = "edge.v1"

SENTENCE_CHARS_MAX = 200


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="offer"):
    """Open a session with this SDP offer."""

    sdp: str


class Candidate(msgspec.Struct, frozen=True, kw_only=True, tag="candidate"):
    """A trickled candidate. A lite server has no use for it: whatever it holds is ignored."""


class HangUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="bye"):
    """End the session at once."""


ClientMessage = Offer | Candidate | HangUp


class ErrorCode(StrEnum):
    """Why a message or a connection was refused."""

    MALFORMED_MESSAGE = "malformed-message"
    """Not JSON, not a message of edge.v1, or a field missing, unknown or of the wrong type."""
    BINARY_MESSAGE = "binary-message"
    OFFER_REFUSED = "offer-refused"
    """The SDP is malformed or offers nothing that we accept."""
    SESSION_EXISTS = "session-exists"
    """This connection has a session already; hang up first."""
    TOO_MANY_REFUSALS = "too-many-refusals"
    IDLE = "idle"
    """No session for too long."""
    BUSY = "busy"
    """No room for another session now."""
    INTERNAL = "internal"
    """A fault of ours; trying again may help."""


class Layer(StrEnum):
    ICE = "ice"
    DTLS = "dtls"
    MEDIA = "media"


class LayerState(StrEnum):
    CONNECTED = "connected"
    """ICE: a check was authenticated. DTLS: keys agreed. Media: the first packet was decrypted."""
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
    GOING_AWAY = "going-away"
    """The server is shutting down."""
    INTERNAL = "internal"


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer"):
    """The offer is accepted."""

    sdp: str
    session: str
    """The session's id, for logs and support."""


class State(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """A layer of the session changed its state."""

    layer: Layer
    state: LayerState
    ms: float
    """Milliseconds since the server had the offer."""


class Bye(msgspec.Struct, frozen=True, kw_only=True, tag="bye"):
    """The session is over. The connection may carry another offer."""

    reason: ByeReason
    message: str
    """A sentence for people."""


class Error(msgspec.Struct, frozen=True, kw_only=True, tag="error"):
    """A message, or the connection, is refused."""

    code: ErrorCode
    message: str
    """A sentence for people."""


ServerMessage = Answer | State | Bye | Error

_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_encoder = msgspec.json.Encoder()


def decode_client_message(text: str) -> ClientMessage:
    """Decode one message of a client.

    Raises:
        SignalError: its reason is ``malformed-message``; the text names the field at fault.

    """
    try:
        return _client_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as exc:
        raise SignalError(
            ErrorCode.MALFORMED_MESSAGE,
            f"This is not an {SUBPROTOCOL} message: {str(exc)[:SENTENCE_CHARS_MAX]}",
        ) from exc


def encode_server_message(message: ServerMessage) -> str:
    """Encode one message to a client."""
    return _encoder.encode(message).decode()
