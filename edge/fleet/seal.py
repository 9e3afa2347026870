"""Sealed frames: batch frames (edge/routing/frames.py) on their way between hosts.

A sealed frame is one UDP datagram:

| bytes | content |
| --- | --- |
| 0 | 0xE2: magic and format version |
| 1 | id of the fleet key |
| 2..7 | the entrance, see ``entrance_id``; 0 in notices and on the way back |
| 8..14 | time: unix, in microseconds, little-endian |
| 15 | era |
| 16.. | a batch frame |
| last 16 | tag: BLAKE2s, keyed, over both ends' addresses and ports and everything before |

The first key seals, all keys open. So a key is rotated without a loss by adding it to all hosts
as one that opens, then making it the first everywhere, then taking the old one away.

What the tag prevents: frames of anybody who does not have the key, and frames that were made for
another host or worker, or that come from another place than the one that made them. Hosts must
therefore see each other's packets without address translation.

Era and time are the sequence. What it prevents: a receiver takes none twice. In one era the time
grows strictly per sender and destination; one that comes late is taken if it is still among the
last ``WINDOW`` ones. Only times within ``FRESH`` seconds of the receiver's clock are taken at all,
so clocks have to agree that well.

What eras are for: a clock that was ahead, and is put right, must not keep a sender out for as long
as it was ahead. A sender begins with an era drawn at random. If its clock goes back, by up to
``COUNTS_ON`` seconds it goes on counting from the last time it used; by more it begins the next
era, at the time that it is. For a receiver each era of a sender is a sequence of its own, so it
does not matter if it has taken frames from a time that is yet to come, because its own clock was
wrong, too. It forgets none of that: when their time comes, these frames are still not taken again.

What is not prevented: a receiver that has just been started, or one with more than ``SENDERS_MAX``
senders, has forgotten what it took before. A frame that somebody copied less than ``FRESH`` seconds
ago, by the receiver's clock, can be played to it once. What is in it is protected against that by
itself: SRTP, DTLS and STUN transactions are taken once. Nothing is encrypted here that clients'
packets do not encrypt themselves.
"""

import hmac
import struct
from collections import deque
from collections.abc import Sequence
from hashlib import blake2s
from typing import NamedTuple

from edge.errors import FrameError
from edge.fleet.map import FleetKey
from edge.routing.sockaddr import encode_sockaddr

MAGIC = 0xE2
HEADER = struct.Struct("<BB6sQ")
TAG_BYTES = 16
OVERHEAD_BYTES = HEADER.size + TAG_BYTES
SEALED_BYTES_MAX = 1_372
"""Of a datagram, unless one client's packet alone makes it longer: with IPv6 and UDP headers it is
the 1,420 bytes that WireGuard carries by default."""
FRESH = 5.0
"""Seconds by which a frame's time may differ from the receiver's."""
COUNTS_ON = FRESH / 2
"""Seconds that a sender's times may be ahead of its clock. The rest of ``FRESH`` is for clocks that
differ."""
WINDOW = 256
ERAS = 256
SENDERS_MAX = 16_384
"""Senders whose sequences one receiver remembers. Those that are not fresh make room."""
ENTRANCE_BYTES = 6
NO_ENTRANCE = bytes(ENTRANCE_BYTES)

Place = tuple[str, int]
"""Host and port of one end, the host numeric and in canonical form."""

_PERSON = b"frame"
"""Keeps the tags of frames apart from whatever else the fleet's keys are for."""
_MICROSECONDS = 1_000_000
_FRESH_US = int(FRESH * _MICROSECONDS)
_COUNTS_ON_US = int(COUNTS_ON * _MICROSECONDS)
_ERA_SHIFT = 56
_TIME_MASK = (1 << _ERA_SHIFT) - 1


def entrance_id(host: str, port: int, transport: str = "udp") -> bytes:
    """Return what stands for the public address that a client's packets came in by.

    Whichever host has that address, its frames say the same.
    """
    return blake2s(f"{transport} {host} {port}".encode(), digest_size=ENTRANCE_BYTES).digest()


class KeyRing:
    """The fleet's keys in one process. There is at least one; the first one seals."""

    def __init__(self, keys: Sequence[FleetKey]) -> None:
        self.use(keys)

    def use(self, keys: Sequence[FleetKey]) -> None:
        """Seal with the first of these keys from now on, and open what any of them has sealed."""
        self.first = keys[0]
        self._keys = {each.id: each for each in keys}

    def find(self, key_id: int) -> FleetKey | None:
        return self._keys.get(key_id)


class FrameSealer:
    """Seals the frames of one sender to one destination.

    ``era``: the first one, below ``ERAS``. Whoever seals from a place after another has another.
    """

    def __init__(self, ring: KeyRing, here: Place, there: Place, *, era: int = 0) -> None:
        self._ring = ring
        self._ends = _ends(here, there)
        self._era = era
        self._time = 0
        self._use(ring.first)

    def seal(self, entrance: bytes, frame: Sequence[bytes | memoryview], unix_now: float) -> bytes:
        """Return the datagram for a frame given in pieces."""
        if self._key is not self._ring.first:
            self._use(self._ring.first)
        now = int(unix_now * _MICROSECONDS)
        if now > self._time:
            self._time = now
        elif self._time - now <= _COUNTS_ON_US:
            self._time += 1
        else:
            self._era, self._time = (self._era + 1) % ERAS, now
        sequence = self._era << _ERA_SHIFT | self._time
        head = HEADER.pack(MAGIC, self._key.id, entrance, sequence)
        sealed = b"".join((head, *frame))
        tag = self._tag.copy()
        tag.update(sealed)
        return sealed + tag.digest()

    def _use(self, key: FleetKey) -> None:
        self._key = key
        self._tag = _tag(key, self._ends)


class Opened(NamedTuple):
    """An authentic frame that was not seen before."""

    entrance: bytes
    frame: memoryview


class _Era:
    """The times that were taken of one era of a sender."""

    __slots__ = ("_floor", "_order", "_taken", "highest")

    def __init__(self) -> None:
        self.highest = 0
        self._floor = 0
        """Times up to here have left the window."""
        self._taken: set[int] = set()
        self._order: deque[int] = deque()

    def take(self, time: int) -> bool:
        """Note a time; return False if it was taken before, or may have been."""
        if time <= self._floor or time in self._taken:
            return False
        if len(self._order) >= WINDOW:
            gone = self._order.popleft()
            self._taken.remove(gone)
            self._floor = max(self._floor, gone)
        self._taken.add(time)
        self._order.append(time)
        self.highest = max(self.highest, time)
        return True

    def fold(self) -> None:
        """Remember the highest time alone: no earlier one will be taken."""
        self._floor = self.highest
        self._taken.clear()
        self._order.clear()


class _Sender:
    """What is known of one sender: what was taken of each era, and how its tags begin."""

    def __init__(self) -> None:
        self.tags: dict[int, tuple[FleetKey, blake2s]] = {}
        """By key id."""
        self._eras: dict[int, _Era] = {}

    @property
    def highest(self) -> int:
        return max((each.highest for each in self._eras.values()), default=0)

    def take(self, era: int, time: int) -> bool:
        """Note a sequence; return False if it was taken before, or may have been."""
        known = self._eras.get(era)
        if known is None:
            for each in self._eras.values():
                each.fold()
            known = self._eras[era] = _Era()
        return known.take(time)


class FrameOpener:
    """Opens the frames that come to one place.

    The caller asks only for sources that frames may come from at all.
    """

    def __init__(self, ring: KeyRing, here: Place) -> None:
        self._ring = ring
        self._here = here
        self._senders: dict[Place, _Sender] = {}

    def open(self, data: memoryview, source: Place, unix_now: float) -> Opened:
        """Open one datagram.

        Raises:
            FrameError: malformed, not authentic, seen before or too old.

        """
        if len(data) < OVERHEAD_BYTES:
            raise FrameError("short-frame")
        magic, key_id, entrance, sequence = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise FrameError("not-sealed")
        key = self._ring.find(key_id)
        if key is None:
            raise FrameError("frame-unknown-key")
        sender = self._senders.get(source)
        tag = self._begin_tag(sender, source, key)
        tag.update(data[:-TAG_BYTES])
        if not hmac.compare_digest(tag.digest(), data[-TAG_BYTES:]):
            raise FrameError("frame-forged")
        now = int(unix_now * _MICROSECONDS)
        era, time = sequence >> _ERA_SHIFT, sequence & _TIME_MASK
        if abs(now - time) > _FRESH_US:
            raise FrameError("frame-stale")
        if sender is None:
            sender = self._admit(source, now)
        if not sender.take(era, time):
            raise FrameError("frame-replayed")
        return Opened(entrance, data[HEADER.size : -TAG_BYTES])

    def _begin_tag(self, sender: _Sender | None, source: Place, key: FleetKey) -> blake2s:
        """Return the beginning of a tag. It is kept for those who have sent good ones."""
        if sender is None:
            return _tag(key, _ends(source, self._here))
        known = sender.tags.get(key.id)
        if known is None or known[0] is not key:
            known = sender.tags[key.id] = key, _tag(key, _ends(source, self._here))
        return known[1].copy()

    def _admit(self, source: Place, now: int) -> _Sender:
        """Make room for one more sender: those whose frames are all stale by now may go."""
        if len(self._senders) >= SENDERS_MAX:
            self._senders = {
                place: sender
                for place, sender in self._senders.items()
                if now - sender.highest <= _FRESH_US
            }
        if len(self._senders) >= SENDERS_MAX:
            raise FrameError("frame-senders-full")
        self._senders[source] = sender = _Sender()
        return sender


def _ends(source: Place, destination: Place) -> bytes:
    return encode_sockaddr(*source) + encode_sockaddr(*destination)


def _tag(key: FleetKey, ends: bytes) -> blake2s:
    return blake2s(ends, key=key.key, digest_size=TAG_BYTES, person=_PERSON)
