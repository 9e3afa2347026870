"""The native protocol ``edge.media.v1`` (docs/backend-protocol.md), one session of it.

The backend numbers its items. They come one after another: only the newest can be added to, and
sound with a higher number ends it and begins the next. After a clear all of them are over; sound
for them that was still on its way is dropped, so that a backend need not stop its synthesis in the
same instant.
"""

from typing import assert_never

from edge.backend import native_messages as wire
from edge.backend.dialect import Message, SessionFacts
from edge.backend.exchange import Exchange
from edge.errors import BackendError
from edge.media.dialogue import (
    Clear,
    Cleared,
    Digit,
    EndItem,
    HangUp,
    ItemEnded,
    ItemPosition,
    ItemStarted,
    Mark,
    MarkReached,
    Notice,
    Pause,
    Play,
    Resume,
    SoundDropped,
)
from edge.media.frames import AudioFormat, AudioFrame, Encoding
from edge.media.sound import PACKET_BYTES_MAX


class NativeDialect(Exchange):
    """One session in ``edge.media.v1``."""

    def __init__(self, audio_format: AudioFormat) -> None:
        super().__init__()
        self.format = audio_format
        self._audio_wanted = True
        self._paused = False
        self._number = -1  # the newest item's
        self._item: str | None = None  # its id, while sound can be added
        self._cleared = -1  # the newest item's number at the last clear
        self._unknown_told = False

    def open(self, facts: SessionFacts, *, again: bool) -> None:
        """Say ``start``. What the last connection left open is ended, what it paused goes on."""
        self._connected()
        self._end_item()
        if self._paused:
            self._order(Resume())
        self._audio_wanted, self._paused, self._unknown_told = True, False, False
        self._number = self._cleared = -1
        start = wire.Start(
            session=facts.session,
            route=facts.route,
            codec=facts.codec,
            format=wire.Format(encoding=self.format.encoding, rate_hz=self.format.rate_hz),
            metadata=facts.metadata,
            resumed=again,
        )
        self._tell(start)

    def hear(self, frame: AudioFrame) -> bytes | None:
        """Return the frame behind its header, unless the backend wants none."""
        return wire.encode_heard(frame) if self._audio_wanted else None

    def notify(self, notice: Notice) -> None:
        """Say it, unless it is about an earlier connection's item or mark."""
        if self._closed:
            return
        match notice:
            case ItemStarted():
                if (item := self._untag(notice.item)) is not None:
                    self._tell(wire.Started(item=int(item)))
            case ItemEnded():
                for at in self._positions((notice.position,)):
                    ended = wire.Ended(item=at.item, sent_ms=at.sent_ms, received_ms=at.received_ms)
                    self._tell(ended)
            case MarkReached():
                if (name := self._untag(notice.name)) is not None:
                    self._tell(wire.MarkPassed(name=name, cleared=notice.cleared))
            case Cleared():
                self._tell(wire.Flushed(items=self._positions(notice.positions)))
            case Digit():
                self._tell(wire.Dtmf(digit=notice.digit, media_ms=_ms(notice.media_time)))
            case SoundDropped():
                self._tell(wire.Overflow(ms=_ms(notice.seconds)))
            case _:
                assert_never(notice)

    def receive(self, message: Message) -> None:
        """Take one event or a piece of sound.

        Raises:
            BackendError: ``binary-version``, no header of this version; ``too-many-errors``.

        """
        if self._closed:
            return
        try:
            if isinstance(message, str):
                self._receive_event(wire.decode_event(message))
            else:
                self._receive_sound(wire.decode_sound(message))
        except BackendError as exc:
            self._refuse(exc)

    def close(self, reason: str) -> None:
        """Say ``stop``."""
        if not self._closed:
            self._tell(wire.Stop(reason=reason))
            self._closed = True

    def _receive_sound(self, sound: wire.Sound) -> None:
        number, ends, audio = sound
        if self.format.encoding is Encoding.OPUS and len(audio) > PACKET_BYTES_MAX:
            longest = f"A packet has at most {PACKET_BYTES_MAX} bytes: it goes into one datagram."
            raise BackendError("packet-too-long", longest)
        if audio and number > self._number:
            self._end_item()
            self._number, self._item = number, self._tag(str(number))
        if (item := self._newest_item(number)) is None:
            return
        if audio:
            self._order(Play(item, audio))
        if ends:
            self._end_item()

    def _receive_event(self, event: wire.EventFromBackend) -> None:
        match event:
            case wire.Media():
                self._audio_wanted = event.audio
            case wire.ItemEnd():
                if self._newest_item(event.item) is not None:
                    self._end_item()
            case wire.MarkHere():
                self._order(Mark(self._tag(event.name)))
            case wire.Flush():
                self._cleared, self._item = self._number, None
                self._order(Clear())
            case wire.Hold():
                self._paused = True
                self._order(Pause())
            case wire.GoOn():
                self._paused = False
                self._order(Resume())
            case wire.Stop():
                self._order(HangUp(event.reason[: wire.SENTENCE_CHARS_MAX]))
            case _:
                assert_never(event)

    def _newest_item(self, number: int) -> str | None:
        """Return the id of the item if sound can be added to it; None if it was cleared.

        Raises:
            BackendError: ``item-unknown``; ``item-over``.

        """
        if number == self._number and self._item is not None:
            return self._item
        if number <= self._cleared:
            self.drops["item-cleared"] += 1
            return None
        if number > self._number:
            raise BackendError("item-unknown", f"Item {number} has no sound.")
        over = f"Item {number} has ended; sound goes to a new item with a higher number."
        raise BackendError("item-over", over)

    def _end_item(self) -> None:
        if self._item is not None:
            self._order(EndItem(self._item))
            self._item = None

    def _refuse(self, error: BackendError) -> None:
        """Say what is wrong. An event of a type that is new to us is no fault.

        Raises:
            BackendError: going on makes no sense.

        """
        if error.reason == "binary-version":
            raise error
        if error.reason != "event-unknown":
            self._fault(error.reason)
        else:
            self.drops[error.reason] += 1
            if self._unknown_told:
                return
            self._unknown_told = True
        self._tell(wire.Error(code=error.reason, message=str(error)))

    def _tell(self, event: wire.EventToBackend) -> None:
        self._say(wire.encode_event(event))

    def _positions(self, positions: tuple[ItemPosition, ...]) -> tuple[wire.Position, ...]:
        """Return those of this connection's items."""
        return tuple(
            wire.Position(
                item=int(number),
                sent_ms=_ms(each.sent),
                received_ms=None if each.received is None else _ms(each.received),
            )
            for each in positions
            if (number := self._untag(each.item)) is not None
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1e3)
