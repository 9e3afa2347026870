"""The messages of ``edge.v1`` as a client sends and takes them."""

from typing import Any

import msgspec

from edge.errors import SignalError
from edge.signal.messages import ClientMessage, ErrorCode, ServerMessage

_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_type_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()

_KNOWN_TYPES = frozenset(
    {
        "answer",
        "resumed",
        "redirect",
        "state",
        "heartbeat",
        "going_away",
        "staying",
        "bye",
        "error",
    }
)


def encode_client_message(message: ClientMessage) -> str:
    """Encode one message to a server."""
    return _encoder.encode(message).decode()


def decode_server_message(text: str | bytes) -> ServerMessage | None:
    """Decode one message of a server; None for a type that is not known here: it may be newer.

    Raises:
        SignalError: its reason is ``malformed-message``.

    """
    try:
        return _server_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as exc:
        if _is_unknown(text):
            return None
        raise SignalError(ErrorCode.MALFORMED_MESSAGE, f"not a server's message: {exc}") from exc


def _is_unknown(text: str | bytes) -> bool:
    try:
        kind = _type_decoder.decode(text).get("type")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return isinstance(kind, str) and kind not in _KNOWN_TYPES
