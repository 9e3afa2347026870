"""The messages of ``edge.media.v1`` (docs/backend-protocol.md has an example of each).

Events are JSON text, sound is binary. All numbers in binary messages are little-endian, like PCM16.

To the backend, 20 bytes and a frame:

| offset | bytes | field |
| --- | --- | --- |
| 0 | 1 | 0x11: version 1 (high four bits), kind 1, what the client says |
| 1 | 1 | label: 0 received, 1 fec, 2 concealed, 3 dtx |
| 2 | 1 | flags: 0x01 level present, 0x02 voice |
| 3 | 1 | level: 0 (loudest) ..127 (silence) in -dBov; 127 when not present |
| 4 | 4 | delay, microseconds |
| 8 | 8 | media time, microseconds, signed |
| 16 | 4 | duration, microseconds |

From the backend, 8 bytes and sound:

| offset | bytes | field |
| --- | --- | --- |
| 0 | 1 | 0x12: version 1, kind 2, what the client is to hear |
| 1 | 1 | flags: 0x01 the item ends with this |
| 2 | 2 | ignored |
| 4 | 4 | number of the item |
"""

import struct
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from edge.backend.exchange import NAME_CHARS_MAX
from edge.errors import BackendError
from edge.media.frames import AudioFrame, Encoding, Label

SUBPROTOCOL: Final = "edge.media.v1"

HEARD_HEADER: Final = struct.Struct("<BBBBIqI")
SOUND_HEADER: Final = struct.Struct("<BBxxI")
VERSION: Final = 1
HEARD: Final = VERSION << 4 | 1
SOUND: Final = VERSION << 4 | 2
LEVEL_PRESENT: Final = 0x01
VOICE: Final = 0x02
ITEM_ENDS: Final = 0x01
LABEL_CODES: Final = {Label.RECEIVED: 0, Label.FEC: 1, Label.CONCEALED: 2, Label.DTX: 3}
NO_LEVEL: Final = 127

SENTENCE_CHARS_MAX: Final = 200
_U32_MAX: Final = 0xFFFF_FFFF


class Format(msgspec.Struct, frozen=True, kw_only=True):
    encoding: Encoding
    rate_hz: int
    channels: int = 1


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    protocol: str = SUBPROTOCOL
    session: str
    route: str
    codec: str
    format: Format
    metadata: Mapping[str, Any]
    resumed: bool


class Dtmf(msgspec.Struct, frozen=True, kw_only=True, tag="dtmf"):
    digit: str
    media_ms: int


class MarkPassed(msgspec.Struct, frozen=True, kw_only=True, tag="mark"):
    name: str
    cleared: bool


class Position(msgspec.Struct, frozen=True, kw_only=True):
    item: int
    sent_ms: int
    received_ms: int | None


class Flushed(msgspec.Struct, frozen=True, kw_only=True, tag="cleared"):
    items: tuple[Position, ...]


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="item_started"):
    item: int


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="item_ended"):
    item: int
    sent_ms: int
    received_ms: int | None


class Overflow(msgspec.Struct, frozen=True, kw_only=True, tag="sound_dropped"):
    ms: int


class Error(msgspec.Struct, frozen=True, kw_only=True, tag="error"):
    code: str
    message: str


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Both ways."""

    reason: str = ""


class Media(msgspec.Struct, frozen=True, kw_only=True, tag="media"):
    audio: bool


class ItemEnd(msgspec.Struct, frozen=True, kw_only=True, tag="end_item"):
    item: Annotated[int, msgspec.Meta(ge=0, le=_U32_MAX)]


class MarkHere(msgspec.Struct, frozen=True, kw_only=True, tag="mark"):
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]


class Flush(msgspec.Struct, frozen=True, kw_only=True, tag="clear"):
    pass


class Hold(msgspec.Struct, frozen=True, kw_only=True, tag="pause"):
    pass


class GoOn(msgspec.Struct, frozen=True, kw_only=True, tag="resume"):
    pass


class _Envelope(msgspec.Struct):
    type: str


EventToBackend = Start | Dtmf | MarkPassed | Flushed | Started | Ended | Overflow | Error | Stop
EventFromBackend = Media | ItemEnd | MarkHere | Flush | Hold | GoOn | Stop

_TYPES: Final = {"media", "end_item", "mark", "clear", "pause", "resume", "stop"}
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[EventFromBackend] = msgspec.json.Decoder(EventFromBackend)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


class Sound(NamedTuple):
    """A binary message of the backend."""

    item: int
    ends: bool
    audio: bytes


def encode_event(event: EventToBackend) -> str:
    return _encoder.encode(event).decode()


def decode_event(text: str) -> EventFromBackend:
    """Decode one text message. Fields that an event does not have are ignored.

    Raises:
        BackendError: ``event-unknown``, of a type that we do not know; ``event-malformed``.

    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as exc:
        reason = "event-malformed" if _type(text) in _TYPES | {None} else "event-unknown"
        raise BackendError(reason, str(exc)[:SENTENCE_CHARS_MAX]) from exc


def encode_heard(frame: AudioFrame) -> bytes:
    """Return the frame behind its header."""
    label, media_time, duration, delay, audio, level = frame
    flags, loudness = 0, NO_LEVEL
    if level is not None:
        flags = LEVEL_PRESENT | VOICE if level.voice else LEVEL_PRESENT
        loudness = level.level
    header = HEARD_HEADER.pack(
        HEARD,
        LABEL_CODES[label],
        flags,
        loudness,
        min(max(round(delay * 1e6), 0), _U32_MAX),
        round(media_time * 1e6),
        round(duration * 1e6),
    )
    return header + audio


def decode_sound(data: bytes) -> Sound:
    """Decode one binary message.

    Raises:
        BackendError: ``binary-version``, another version, or no header at all;
            ``binary-truncated``; ``binary-kind``.

    """
    if data and data[0] >> 4 != VERSION:
        text = f"A binary message begins with 0x{SOUND:02x}, not with 0x{data[0]:02x}."
        raise BackendError("binary-version", text)
    if len(data) < SOUND_HEADER.size:
        raise BackendError("binary-truncated", "A binary message has a header of 8 bytes.")
    kind, flags, item = SOUND_HEADER.unpack_from(data)
    if kind != SOUND:
        raise BackendError("binary-kind", f"A binary message begins with 0x{SOUND:02x}.")
    return Sound(item, bool(flags & ITEM_ENDS), data[SOUND_HEADER.size :])


def _type(text: str) -> str | None:
    try:
        return _envelope_decoder.decode(text).type
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
