"""What is played next: items in order, with their marks and positions. It knows no time.

Items play one after another, each whole. A frame belongs to one item: the rest of an item's last
frame is silence. An item is over when its end was announced and all of it was taken, or when it has
run dry with another item behind it. Until then, sound that comes for its id continues it.

What waits is bounded: sound by ``queue_max``, items and marks by number. Notices are pulled, like a
machine's events, after every call.
"""

from collections import Counter, deque
from typing import NamedTuple

from edge.errors import AudioError
from edge.media.dialogue import (
    Cleared,
    ItemEnded,
    ItemPosition,
    ItemStarted,
    MarkReached,
    Notice,
    SoundDropped,
)
from edge.media.frames import AudioFormat, Encoding
from edge.media.item import Item
from edge.media.sound import PacketSound, PcmSound

ITEMS_MAX = 128
MARKS_MAX = 4096
"""Some backends send one for every chunk of sound."""
NOTICES_MAX = 8192
"""More than any one call can cause."""


class Frame(NamedTuple):
    """What the next packet is made of: 20 ms of PCM, padded if need be, or one Opus packet."""

    audio: bytes
    units: int
    """How much of the item's sound it is, in samples or ticks."""
    item: Item


class Playout:
    """The queue of one session. ``queue_max``: seconds of sound that may wait."""

    def __init__(self, audio_format: AudioFormat, queue_max: float) -> None:
        self.drops: Counter[str] = Counter()
        """Commands that were ignored, by reason."""
        self.queued = 0
        """Sound that waits, in units of ``rate_hz``."""
        self.dropped = 0
        """Sound that was thrown away because too much waited, likewise."""
        self.underruns = 0
        """Gaps and paddings inside items: their sound came too late."""
        self._format = audio_format
        self._queue_max = round(queue_max * audio_format.rate_hz)
        self._items: deque[Item] = deque()
        self._open: dict[str, Item] = {}
        self._marks = 0
        self._notices: deque[Notice] = deque()

    @property
    def complete(self) -> bool:
        """All of the first item is here, so that it cannot run dry."""
        return bool(self._items) and (self._items[0].ended or len(self._items) > 1)

    def play(self, id_: str, audio: bytes) -> None:
        """Append sound to an item, or begin one. Drops the oldest sound if too much waits."""
        item = self._open.get(id_)
        if item is None and len(self._items) >= ITEMS_MAX:
            self.drops["too-many-items"] += 1
            return
        item = item or self._new_item(id_)
        before = item.sound.units
        try:
            item.sound.append(audio)
        except AudioError as exc:
            self.drops[exc.reason] += 1
            return
        if not audio:
            return
        if id_ not in self._open:
            self._items.append(item)
            self._open[id_] = item
        self.queued += item.sound.units - before
        if self.queued > self._queue_max:
            self._drop(self.queued - self._queue_max)

    def end_item(self, id_: str) -> None:
        """Expect no more sound for an item; a later one with its id is another item."""
        item = self._open.pop(id_, None)
        if item is None:
            self.drops["unknown-item"] += 1
            return
        item.ended = True
        self._finish_items()

    def mark(self, name: str) -> None:
        """Notify when all sound that waits now has been taken; at once, if none does."""
        if self._marks >= MARKS_MAX:
            self.drops["too-many-marks"] += 1
            return
        if not self.queued:
            self._notify(MarkReached(name, cleared=False))
            return
        item = next(item for item in reversed(self._items) if item.sound.units)
        item.marks.append((item.consumed + item.sound.units, name))
        self._marks += 1

    def clear(self) -> None:
        """Forget all items. Their marks are answered, then comes ``Cleared``."""
        for item in self._items:
            for _, name in item.marks:
                self._notify(MarkReached(name, cleared=True))
        self._notify(Cleared(tuple(self._position(item) for item in self._items)))
        self._items.clear()
        self._open.clear()
        self._marks = 0
        self.queued = 0

    def take(self) -> Frame | None:
        """Take the next frame, which counts as sent. None: no sound waits.

        An item that has run dry is continued by what comes later, which counts as an underrun.
        """
        if not self.queued:
            if self._items and self._items[0].consumed:
                self._items[0].interrupted = True
            return None
        item = self._first_with_sound()
        audio, units = item.sound.take()
        self.queued -= units
        if not item.sent:
            self._notify(ItemStarted(item.id))
        item.sent += units
        item.consumed += units
        if item.interrupted:
            self.underruns += 1
        item.interrupted = not (item.ended or item.sound.units) and self._is_padded(units)
        if item.marks:
            self._reach_marks(item, cleared=False)
        if not item.sound.units:
            self._finish_items()
        return Frame(audio, units, item)

    def peek(self, units: int) -> bytes:
        """Return at most so much of the PCM that would be played next."""
        return self._first_with_sound().sound.peek(units) if self.queued else b""

    def next_notice(self) -> Notice | None:
        return self._notices.popleft() if self._notices else None

    def _new_item(self, id_: str) -> Item:
        if self._format.encoding is Encoding.OPUS:
            return Item(id_, PacketSound())
        return Item(id_, PcmSound(self._format.rate_hz))

    def _is_padded(self, units: int) -> bool:
        return self._format.encoding is Encoding.PCM16 and units * 50 < self._format.rate_hz

    def _first_with_sound(self) -> Item:
        """Return the item to play, when sound waits; those before it are over."""
        while not self._items[0].sound.units:
            self._finish(self._items.popleft())
        return self._items[0]

    def _finish_items(self) -> None:
        """Take out the items in front that have ended and have no sound left."""
        while self._items and self._items[0].ended and not self._items[0].sound.units:
            self._finish(self._items.popleft())

    def _finish(self, item: Item) -> None:
        if self._open.get(item.id) is item:
            del self._open[item.id]
        self._reach_marks(item, cleared=False)
        self._notify(ItemEnded(self._position(item)))

    def _drop(self, units: int) -> None:
        """Throw away the oldest sound, at least so much."""
        dropped = 0
        while dropped < units:
            item = self._first_with_sound()
            part = item.sound.drop(units - dropped)
            self.queued -= part
            dropped += part
            item.consumed += part
            self._reach_marks(item, cleared=True)
        self.dropped += dropped
        seconds = dropped / self._format.rate_hz
        if self._notices and isinstance(latest := self._notices[-1], SoundDropped):
            self._notices.pop()
            seconds += latest.seconds
        self._notify(SoundDropped(seconds))
        self._finish_items()

    def _reach_marks(self, item: Item, *, cleared: bool) -> None:
        while item.marks and item.marks[0][0] <= item.consumed:
            self._marks -= 1
            self._notify(MarkReached(item.marks.popleft()[1], cleared=cleared))

    def _position(self, item: Item) -> ItemPosition:
        rate_hz = self._format.rate_hz
        received = item.received
        return ItemPosition(
            item=item.id,
            sent=item.sent / rate_hz,
            received=None if received is None else min(received, item.sent) / rate_hz,
        )

    def _notify(self, notice: Notice) -> None:
        if len(self._notices) >= NOTICES_MAX:
            self.drops["event-queue-full"] += 1
            return
        self._notices.append(notice)
