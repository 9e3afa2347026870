"""The messages of the Realtime protocol that the realtime dialect sends and understands.

Every message is one JSON object in a text message; ``type`` names it. Servers differ and learn to
say more, so decoding is tolerant: a type that is not here is nothing, a field that is not here is
skipped. Names are those of the protocol's released form; the two audio events of its beta are known
as well.
"""

from binascii import b2a_base64
from typing import Annotated, Any, Final

import msgspec

from edge.errors import BackendError
from edge.media.frames import AudioFormat, Encoding

FORMAT: Final = AudioFormat(encoding=Encoding.PCM16, rate_hz=24_000)
"""The protocol has no other linear format."""
BYTES_PER_MS: Final = 48

Id = Annotated[str, msgspec.Meta(max_length=128)]
"""Of an item or a response. The server chooses it, and it is remembered, so it has a limit."""
Index = Annotated[int, msgspec.Meta(ge=0, le=1000)]


class Audio(msgspec.Struct, frozen=True):
    """``response.output_audio.delta``: a piece of an item's sound."""

    item_id: Id
    delta: bytes
    """PCM16; base64 on the wire."""
    content_index: Index = 0
    response_id: Id | None = None


class AudioDone(msgspec.Struct, frozen=True):
    """``response.output_audio.done``: an item's sound is complete, or given up."""

    item_id: Id
    content_index: Index = 0


class SpeechStarted(msgspec.Struct, frozen=True):
    """``input_audio_buffer.speech_started``: the server hears the client speak."""


class Fault(msgspec.Struct, frozen=True):
    """What went wrong, in the server's words."""

    type: str | None = None
    code: str | None = None
    message: str | None = None
    event_id: str | None = None
    """Of the event of ours that caused it."""


class ErrorReport(msgspec.Struct, frozen=True):
    """``error``: something failed; the session goes on as a rule."""

    error: Fault


class StatusDetails(msgspec.Struct, frozen=True):
    error: Fault | None = None


class Response(msgspec.Struct, frozen=True):
    id: Id | None = None
    status: str | None = None
    status_details: StatusDetails | None = None


class ResponseCreated(msgspec.Struct, frozen=True):
    """``response.created``: the model begins to answer."""

    response: Response


class ResponseDone(msgspec.Struct, frozen=True):
    """``response.done``: nothing more comes of this response, whatever its status."""

    response: Response


class Format(msgspec.Struct, frozen=True):
    type: str | None = None
    rate: int | None = None


class TurnDetection(msgspec.Struct, frozen=True):
    interrupt_response: bool | None = None


class InputAudio(msgspec.Struct, frozen=True):
    format: Format | None = None
    turn_detection: TurnDetection | None = None


class OutputAudio(msgspec.Struct, frozen=True):
    format: Format | None = None


class SessionAudio(msgspec.Struct, frozen=True):
    input: InputAudio | None = None
    output: OutputAudio | None = None


class Session(msgspec.Struct, frozen=True):
    audio: SessionAudio | None = None


class SessionUpdated(msgspec.Struct, frozen=True):
    """``session.updated``: the session as it is now."""

    session: Session


ServerEvent = (
    Audio
    | AudioDone
    | SpeechStarted
    | ErrorReport
    | ResponseCreated
    | ResponseDone
    | SessionUpdated
)


class _Head(msgspec.Struct, frozen=True):
    type: str


_HEAD: Final = msgspec.json.Decoder(_Head)
_BODIES: Final[dict[str, msgspec.json.Decoder[ServerEvent]]] = {
    name: msgspec.json.Decoder(body)
    for name, body in (
        ("response.output_audio.delta", Audio),
        ("response.audio.delta", Audio),  # beta
        ("response.output_audio.done", AudioDone),
        ("response.audio.done", AudioDone),  # beta
        ("input_audio_buffer.speech_started", SpeechStarted),
        ("response.created", ResponseCreated),
        ("response.done", ResponseDone),
        ("session.updated", SessionUpdated),
        ("error", ErrorReport),
    )
}


def decode_event(message: str) -> ServerEvent | None:
    """Return the event, or None if it is of a type that the dialect has no use for.

    Raises:
        BackendError: ``malformed-message``, not a JSON object with a type, or an event of a known
            type without what it has to have.

    """
    try:
        head = _HEAD.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise BackendError("malformed-message", f"no event: {exc}") from exc
    body = _BODIES.get(head.type)
    if body is None:
        return None
    try:
        return body.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise BackendError("malformed-message", f"{head.type}: {exc}") from exc


def encode_append(pcm: bytes | bytearray) -> str:
    """Return ``input_audio_buffer.append``. Base64 needs no escaping, so no encoder is asked."""
    audio = b2a_base64(pcm, newline=False).decode("ascii")
    return f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}'


def encode_session_update(session: dict[str, Any], event_id: str) -> str:
    return _encode({"type": "session.update", "event_id": event_id, "session": session})


def encode_truncate(item_id: str, content_index: int, audio_end_ms: int) -> str:
    """Return the event that makes the server forget what the client has not heard."""
    return _encode(
        {
            "type": "conversation.item.truncate",
            "item_id": item_id,
            "content_index": content_index,
            "audio_end_ms": audio_end_ms,
        }
    )


def encode_cancel(response_id: str) -> str:
    return _encode({"type": "response.cancel", "response_id": response_id})


def encode_text_item(text: str) -> str:
    """Return the event that adds a text of the user to the conversation."""
    content = {"type": "input_text", "text": text}
    item = {"type": "message", "role": "user", "content": [content]}
    return _encode({"type": "conversation.item.create", "item": item})


_ENCODER: Final = msgspec.json.Encoder()


def _encode(event: dict[str, Any]) -> str:
    return _ENCODER.encode(event).decode()
