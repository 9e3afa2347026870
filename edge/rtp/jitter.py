"""The jitter buffer: packets of any order and time in, one line of media time out.

Theory. The buffer keeps a *position*: the media time up to which it has given out sound. What it
gives out is *pieces* (``edge.rtp.pieces``), each beginning at the position and moving it on. A
piece is a packet, or stands for one that has not come. Media time is the client's: the RTP
timestamp, counted on over its wraps and restarts, 0 at the first packet.

*When.* ``edge.rtp.delay`` tells when a packet for a media time can be here at the earliest, and how
much later than that it may be (the target). Both kinds of buffer give up a packet when that time is
over. *Eager* ones release all else at once: whoever listens is no loudspeaker, it needs no even
stream, and a millisecond in a buffer is a millisecond of latency. *Steady* ones release every piece
at its expected time plus target. An eager buffer that has nothing at all after the position waits
longer, because the packet after a lost one may carry a copy of it. Nobody is given up
sooner than a packet as late as the latest one would come, so a longer route is no loss.

*What is missing.* Sequence numbers tell loss from silence (DTX): if a packet's number follows on
and its timestamp jumps, the client had nothing to say. So it is after a packet that says so (quiet:
an Opus packet of at most two bytes, comfort noise) and after telephone events. Silence is given out
as it passes, as pieces of their own. It is no sound that could be spoiled: a packet that turns up
late in it is not dropped, but moves the media time on by what was given out in its place.

*How much is made up.* After the last packet 60 ms (or one frame, if longer), then nothing until a
packet comes. An eager buffer waits half a second before it does: as long as nothing has overtaken
what is missing it may only be late, and nobody is kept waiting. If a packet then shows a longer
hole, it is filled up to 100 ms; the rest is a counted jump of the media time. So one lost packet is
one piece, and no delay lasts: the time at which a piece is due depends on its media time alone.

A source may begin anew: another SSRC, two packets in a row from far off in the numbering, a later
number with an earlier timestamp, a timestamp ahead of the clock. What waits is dropped then, and
media time goes on where it was.

This is the per-packet path. A packet in order costs a look into the dictionary of what waits, by
media time; holes may look at all of it, which is bounded.
"""

from collections import Counter
from math import inf
from typing import Final

from attrs import frozen

from edge.rtp.delay import PathDelay
from edge.rtp.numbering import Numbering
from edge.rtp.packet import RtpPacket
from edge.rtp.pieces import Kind, Piece

PACKETS_MAX: Final = 256
"""Packets that wait."""
BYTES_MAX: Final = 128 * 1024
"""Of their payloads."""
CONCEALED_MAX: Final = 0.06
"""Seconds made up while nothing comes."""
FILLED_MAX: Final = 0.1
"""Seconds made up in one hole; what is more is jumped over."""
SILENCE_MAX: Final = 1.0
"""Seconds of silence given out at once."""
REORDER_WAIT: Final = 0.01
"""Seconds. If all is late, a packet is not given up sooner than this after one that overtook it."""
EAGER_WAIT: Final = 0.5
"""Seconds that an eager buffer waits at least before it makes up sound with nothing behind it."""
AHEAD_MAX: Final = 1.0
"""Seconds. A packet that is faster than the fastest path by more has another clock."""

_FRAME_MAX = 0.12
_GRAINS_PER_SECOND = 400
"""What is made up lasts a multiple of 2.5 ms, the shortest Opus frame."""


@frozen
class JitterLimits:
    """What an operator may choose. Seconds."""

    delay_min: float
    delay_max: float
    """Bounds of the target."""
    steady: bool
    """Release at an even pace, for playing; otherwise as soon as in order."""


class JitterBuffer:
    """One session's buffer.

    After ``receive`` or ``receive_soundless``, and at ``next_timeout``, the owner pulls
    ``next_piece`` until None. Times: seconds on the caller's monotonic clock.
    """

    def __init__(self, clock_rate_hz: int, limits: JitterLimits) -> None:
        self.drops: Counter[str] = Counter()
        self.jumps = 0
        """Times at which the media time was moved on without a piece."""
        self.jumped = 0.0
        """Seconds of that."""
        self.stretched = 0.0
        """Seconds of silence that were given out and turned out to be late sound."""
        self.restarts = 0
        self.released = 0
        """Packets and copies given out."""
        self.waited = 0.0
        """Seconds that all of them together were here before that."""
        self._rate = clock_rate_hz
        self._grain = clock_rate_hz // _GRAINS_PER_SECOND
        self._frame_max = int(_FRAME_MAX * clock_rate_hz)
        self._concealed_max = int(CONCEALED_MAX * clock_rate_hz)
        self._filled_max = int(FILLED_MAX * clock_rate_hz)
        self._silence_max = int(SILENCE_MAX * clock_rate_hz)
        self._steady = limits.steady
        self._path = PathDelay(limits.delay_min, limits.delay_max)
        self._numbers = Numbering()
        self._timeout: float | None = None
        self._waiting: dict[int, Piece] = {}  # by start
        self._bytes = 0
        self._position = 0
        self._floor = 0  # end of the last piece that was not silence
        self._sequence = 0  # the last one given out
        self._frame = clock_rate_hz // 50
        self._made_up = 0  # ticks since the last packet
        self._silent = False

    def receive(
        self, packet: RtpPacket, ticks: int, now: float, *, quiet: bool = False
    ) -> int | None:
        """Take a packet with sound for ``ticks`` (at least 1).

        Returns its sequence number, counted on over wraps, or None if it is of no use.
        """
        if len(self._waiting) >= PACKETS_MAX or self._bytes + len(packet.payload) > BYTES_MAX:
            self.drops["jitter-full"] += 1
            return None
        sequence = self._follow(packet)
        if sequence is None:
            return None
        numbers, path = self._numbers, self._path
        start = numbers.media_ticks(packet.timestamp)
        later = sequence > numbers.highest
        ahead = path.fastest - (now - start / self._rate)
        if (later and start < numbers.front) or AHEAD_MAX < ahead < inf:
            sequence, start, later = self._restart(packet), self._position, True
        if not numbers.mark(sequence):
            self.drops["jitter-duplicate"] += 1
            return None
        if later:
            numbers.advance(start, packet.timestamp)
        lateness = path.note(start / self._rate, now)
        kind = Kind.QUIET if quiet else Kind.PACKET
        payload, extension = packet.payload, packet.extension
        piece = Piece(kind, start, ticks, payload, extension, sequence, now, lateness)
        return sequence if self._insert(piece) else None

    def receive_copy(
        self, sequence: int, timestamp: int, payload: bytes, ticks: int, now: float
    ) -> None:
        """Take a copy of a packet, out of one that ``receive`` has just taken.

        ``sequence`` as it returns them; if that of the original is not known for sure, a guess.
        """
        if len(self._waiting) < PACKETS_MAX and self._bytes + len(payload) <= BYTES_MAX:
            start = self._numbers.media_ticks(timestamp)
            self._insert(Piece(Kind.COPY, start, ticks, payload, None, sequence, now, 0.0))

    def receive_soundless(self, packet: RtpPacket) -> None:
        """Take a packet of the source that is in the place of sound, as telephone events are."""
        sequence = self._follow(packet)
        if sequence is not None and self._numbers.mark(sequence):
            self._silent = True
            self._numbers.mark_soundless(sequence)
            if sequence == self._sequence + 1:
                self._sequence = sequence

    def next_piece(self, now: float) -> Piece | None:
        """Return the piece at the position, if it is time for it."""
        piece = self._waiting.get(self._position)
        if piece is None:
            if not self._waiting:
                return self._run_on(now)
            piece = self._earliest()
            if piece is None:
                return self._run_on(now)
            return self._bridge(piece, now)
        if self._steady:
            due = self._expected + self._path.target
            if now < due:
                self._timeout = due
                return None
        return self._release(piece, now)

    def next_timeout(self) -> float | None:
        """When to pull again if no packet comes; right once ``next_piece`` has returned None."""
        return self._timeout

    @property
    def target(self) -> float:
        return self._path.target

    @property
    def waiting(self) -> int:
        """Packets that wait."""
        return len(self._waiting)

    def media_time(self, timestamp: int) -> float:
        """Return the media time of an RTP timestamp near the latest packet's, in seconds."""
        if not self._numbers.started:
            return 0.0
        return max(0, self._numbers.media_ticks(timestamp)) / self._rate

    def _follow(self, packet: RtpPacket) -> int | None:
        """Return the packet's sequence number; begin anew if the source has."""
        sequence = self._numbers.follow(packet)
        if sequence is not None:
            return sequence
        if not self._numbers.begins_anew(packet):
            self.drops["jitter-sequence-jump"] += 1
            return None
        return self._restart(packet)

    def _restart(self, packet: RtpPacket) -> int:
        """Begin a numbering in which ``packet`` comes next, at the position; return its number."""
        if self._numbers.started:
            self.restarts += 1
            self.drops["jitter-restart"] += len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self._path.restart()
        self._numbers.restart(packet, self._position)
        self._floor = self._position
        self._sequence = self._numbers.highest
        self._made_up, self._silent = 0, False
        return self._sequence + 1

    # What waits

    def _insert(self, piece: Piece) -> bool:
        if piece.start < self._position:
            if piece.kind is Kind.QUIET:
                self._numbers.mark_soundless(piece.sequence)
            if piece.start < self._floor or piece.kind is Kind.QUIET:
                self._drop("jitter-late", piece)
                return False
            self._stretch(self._position - piece.start)
            piece = piece._replace(start=self._position)
        other = self._waiting.get(piece.start)
        if other is not None:
            if other.kind is not Kind.COPY or piece.kind is Kind.COPY:
                self._drop("jitter-duplicate", piece)
                return False
            self._bytes -= len(other.payload)
        self._waiting[piece.start] = piece
        self._bytes += len(piece.payload)
        return True

    def _drop(self, reason: str, piece: Piece) -> None:
        if piece.kind is not Kind.COPY:  # most copies are not needed
            self.drops[reason] += 1

    def _stretch(self, ticks: int) -> None:
        """Move the media time of all that is to come: silence was given out in its place."""
        self.stretched += ticks / self._rate
        self._numbers.front += ticks
        self._path.shift(ticks / self._rate)
        moved = (piece._replace(start=start + ticks) for start, piece in self._waiting.items())
        self._waiting = {piece.start: piece for piece in moved}

    def _earliest(self) -> Piece | None:
        """Return the first piece that waits. What a longer one before it has covered is dropped."""
        while self._waiting:
            start = min(self._waiting)
            if start > self._position:
                return self._waiting[start]
            covered = self._waiting.pop(start)
            self._bytes -= len(covered.payload)
            self._drop("jitter-late", covered)
        return None

    def _release(self, piece: Piece, now: float) -> Piece:
        _, start, ticks, payload, _, sequence, arrival, _ = piece
        del self._waiting[start]
        self._bytes -= len(payload)
        self._position = self._floor = start + ticks
        self._frame = max(self._grain, min(ticks - ticks % self._grain, self._frame_max))
        self._made_up = 0
        self._silent = piece.kind is Kind.QUIET
        self._sequence = max(self._sequence, sequence)
        if piece.kind is Kind.COPY:  # so that the original is a duplicate now
            self._numbers.mark(sequence)
        self.released += 1
        self.waited += now - arrival
        return piece

    # What does not

    @property
    def _expected(self) -> float:
        """When the packet at the position can be here at the earliest."""
        return self._position / self._rate + self._path.fastest

    def _run_on(self, now: float) -> Piece | None:
        """Nothing waits: go on with silence, or make up a little sound."""
        self._timeout = None
        if self._path.fastest == inf:  # no packet with sound yet
            return None
        frame = self._frame
        patience = max(self._path.target, self._path.lateness)
        if self._silent:
            due = self._expected + patience
            if now < due:
                self._timeout = due
                return None
            behind = int((now - due) * self._rate)
            if behind > self._silence_max:
                self._jump((behind - self._silence_max) // frame * frame)
            return self._make_up(Kind.SILENCE, frame)
        if self._made_up and self._made_up + frame > self._concealed_max:
            return None
        if not self._steady:
            patience = max(patience + frame / self._rate, EAGER_WAIT)
        elif self._path.lateness > self._path.target:
            patience += frame / self._rate
        due = self._expected + patience
        if now < due:
            self._timeout = due
            return None
        return self._make_up(Kind.MISSING, frame)

    def _bridge(self, first: Piece, now: float) -> Piece | None:
        """Something waits behind a hole: fill it, if what belongs there is not to come."""
        gap = first.start - self._position
        lost = self._numbers.sounds_between(self._sequence, first.sequence)
        if lost or self._steady:
            due = self._expected + self._path.target
            if lost and first.arrival > due:
                due = first.arrival + REORDER_WAIT
            if now < due:
                self._timeout = due
                return None
        missing = 0 if self._silent else min(lost * self._frame - self._made_up, gap)
        if missing > 0:
            excess = missing - max(self._filled_max - self._made_up, self._frame)
        else:
            excess = gap - self._silence_max
        if excess > 0:
            self._jump(excess)
            gap -= excess
        ticks = min(self._frame, gap)
        ticks -= ticks % self._grain
        if not ticks:
            self._jump(gap)
            return self.next_piece(now)
        kind = Kind.MISSING if missing > 0 else Kind.SILENCE
        return self._make_up(kind, ticks, first.payload if lost and ticks == gap else b"")

    def _make_up(self, kind: Kind, ticks: int, following: bytes = b"") -> Piece:
        piece = Piece(kind, self._position, ticks, following, None, -1, 0.0, 0.0)
        self._position += ticks
        if kind is Kind.MISSING:
            self._floor = self._position
            self._made_up += ticks
        return piece

    def _jump(self, ticks: int) -> None:
        if ticks > 0:
            self.jumps += 1
            self.jumped += ticks / self._rate
            self._position += ticks
