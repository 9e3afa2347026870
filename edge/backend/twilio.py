"""The message shapes of Twilio Media Streams, so that a backend written for them works unchanged.

All messages are JSON text whose ``event`` names them. Sound is mu-law at 8 kHz in base64 (RFC 4648
§4). docs/backend-protocol.md lists the shapes, and where we differ.

A stream has no items. What is played between two clears is one item, which never ends: its last
frame is padded when nothing follows in time.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, assert_never

import msgspec

from edge.audio.g711 import decode_ulaw, encode_ulaw
from edge.backend.dialect import Message, SessionFacts
from edge.backend.exchange import NAME_CHARS_MAX, Exchange
from edge.media.dialogue import (
    Clear,
    Cleared,
    Digit,
    EndItem,
    ItemEnded,
    ItemStarted,
    Mark,
    MarkReached,
    Notice,
    Play,
    SoundDropped,
)
from edge.media.frames import AudioFormat, AudioFrame, Encoding

FORMAT: Final = AudioFormat(Encoding.PCM16, 8000)
ACCOUNT_SID: Final = "AC" + "0" * 32


class _Connected(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="connected"):
    protocol: str = "Call"
    version: str = "1.0.0"


class _MediaFormat(msgspec.Struct, frozen=True, rename="camel"):
    encoding: str = "audio/x-mulaw"
    sample_rate: int = 8000
    channels: int = 1


class _StartFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    account_sid: str = ACCOUNT_SID
    stream_sid: str
    call_sid: str
    tracks: tuple[str, ...] = ("inbound",)
    media_format: _MediaFormat = _MediaFormat()
    custom_parameters: Mapping[str, str]


class _Start(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="start", rename="camel"
):
    sequence_number: str
    stream_sid: str
    start: _StartFacts


class _Chunk(msgspec.Struct, frozen=True):
    track: str
    chunk: str
    timestamp: str
    payload: bytes  # msgspec's JSON form of bytes is base64


class _MediaOut(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="media", rename="camel"
):
    sequence_number: str
    stream_sid: str
    media: _Chunk


class _Key(msgspec.Struct, frozen=True, kw_only=True):
    track: str = "inbound_track"
    digit: str


class _Dtmf(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="dtmf", rename="camel"
):
    sequence_number: str
    stream_sid: str
    dtmf: _Key


class _Name(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]


class _MarkOut(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="mark", rename="camel"
):
    sequence_number: str
    stream_sid: str
    mark: _Name


class _StopFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    account_sid: str = ACCOUNT_SID
    call_sid: str


class _Stop(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="stop", rename="camel"
):
    sequence_number: str
    stream_sid: str
    stop: _StopFacts


class _Payload(msgspec.Struct, frozen=True):
    payload: bytes


class _MediaIn(msgspec.Struct, frozen=True, tag_field="event", tag="media"):
    media: _Payload


class _MarkIn(msgspec.Struct, frozen=True, tag_field="event", tag="mark"):
    mark: _Name


class _ClearIn(msgspec.Struct, frozen=True, tag_field="event", tag="clear"):
    pass


class _Envelope(msgspec.Struct):
    event: str


_Outgoing = _Connected | _Start | _MediaOut | _Dtmf | _MarkOut | _Stop
_Incoming = _MediaIn | _MarkIn | _ClearIn
_EVENTS: Final = {"media", "mark", "clear"}
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[_Incoming] = msgspec.json.Decoder(_Incoming)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


class TwilioDialect(Exchange):
    """One session as a bidirectional media stream; a new connection is a new stream."""

    def __init__(self) -> None:
        super().__init__()
        self.format = FORMAT
        self._call_sid = self._stream_sid = ""
        self._sequence_number = self._chunk = 0
        self._began_at: float | None = None  # media time of the stream's first frame
        self._items = 0
        self._item: str | None = None

    def open(self, facts: SessionFacts, *, again: bool) -> None:  # noqa: ARG002  # start is start
        """Say ``connected`` and ``start``."""
        self._connected()
        if self._item is not None:
            self._order(EndItem(self._item))
            self._item = None
        self._sequence_number = self._chunk = 0
        self._began_at = None
        self._call_sid = "CA" + _fingerprint(facts.session)
        self._stream_sid = "MZ" + _fingerprint(f"{facts.session} {self._connection}")
        parameters = {name: _text(value) for name, value in facts.metadata.items()}
        parameters |= {"session": facts.session, "route": facts.route}
        start = _StartFacts(
            stream_sid=self._stream_sid, call_sid=self._call_sid, custom_parameters=parameters
        )
        self._send(_Connected())
        self._send(_Start(start=start, **self._next()))

    def hear(self, frame: AudioFrame) -> str:
        """Return the frame as ``media``."""
        if self._began_at is None:
            self._began_at = frame.media_time
        self._chunk += 1
        timestamp_ms = round((frame.media_time - self._began_at) * 1e3)
        payload = encode_ulaw(frame.audio)
        chunk = _Chunk("inbound", str(self._chunk), str(timestamp_ms), payload)
        return _encoder.encode(_MediaOut(media=chunk, **self._next())).decode()

    def notify(self, notice: Notice) -> None:
        """Say what a stream has a message for: digits, and marks of this stream."""
        if self._closed:
            return
        match notice:
            case Digit():
                self._send(_Dtmf(dtmf=_Key(digit=notice.digit), **self._next()))
            case MarkReached():
                if (name := self._untag(notice.name)) is not None:
                    self._send(_MarkOut(mark=_Name(name), **self._next()))
            case ItemStarted() | ItemEnded() | Cleared() | SoundDropped():
                pass
            case _:
                assert_never(notice)

    def receive(self, message: Message) -> None:
        """Take one message. The stream it names is not looked at: a connection has one.

        Raises:
            BackendError: ``too-many-errors``.

        """
        if self._closed:
            return
        if not isinstance(message, str):
            self._fault("binary-message")
            return
        try:
            event = _decoder.decode(message)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            self._refuse(message)
            return
        match event:
            case _MediaIn():
                if event.media.payload:
                    self._play(event.media.payload)
            case _MarkIn():
                self._order(Mark(self._tag(event.mark.name)))
            case _ClearIn():
                self._item = None
                self._order(Clear())
            case _:
                assert_never(event)

    def close(self, reason: str) -> None:  # noqa: ARG002  # a stream's stop has none
        """Say ``stop``."""
        if not self._closed:
            self._send(_Stop(stop=_StopFacts(call_sid=self._call_sid), **self._next()))
            self._closed = True

    def _play(self, payload: bytes) -> None:
        if self._item is None:
            self._items += 1
            self._item = self._tag(str(self._items))
        self._order(Play(self._item, decode_ulaw(payload)))

    def _refuse(self, text: str) -> None:
        """Count a message that is none of ours. An event that is new to us is no fault."""
        try:
            event = _envelope_decoder.decode(text).event
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            event = None
        if event is None or event in _EVENTS:
            self._fault("event-malformed")
        else:
            self.drops["event-unknown"] += 1

    def _next(self) -> dict[str, str]:
        """Return what every message but the first carries."""
        self._sequence_number += 1
        return {"sequence_number": str(self._sequence_number), "stream_sid": self._stream_sid}

    def _send(self, message: _Outgoing) -> None:
        self._say(_encoder.encode(message).decode())


def _fingerprint(text: str) -> str:
    """Return 32 hex digits, the form of Twilio's ids."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _text(value: Any) -> str:
    """Return a custom parameter: these are strings."""
    return value if isinstance(value, str) else _encoder.encode(value).decode()
