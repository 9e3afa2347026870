"""The send path of one session: which RTP packet leaves when.

Time is cut into *slots*, whole ticks of the RTP clock since the first sound. A packet takes 20 ms
of them (a packet of an Opus backend, as long as it is) and is due when its slot begins, however
late the one before was: errors do not add up. The RTP timestamp is the slot, so it goes on through
gaps. Slots that the worker misses by 20 ms or more stay empty, what waits moves back, and nothing
is ever sent in a burst.

The path is in one of three phases:

| phase | each slot carries | ends |
| --- | --- | --- |
| speaking | the next frame of the playout queue | it is dry, paused or cleared: trailing |
| trailing | encoded silence | sound may begin: speaking; after 100 ms: resting |
| resting | nothing but a sign of silence at first and every 400 ms | sound may begin: speaking |

With ``gaps="silence"`` trailing never ends. Sound may begin when ``prebuffer`` seconds of it wait,
or have passed since its first part came, or all of its item is here. Out of trailing it begins on
the next slot, out of resting at once.
"""

import enum
from collections import Counter
from struct import Struct
from typing import Final

from attrs import frozen

from edge.audio.codecs import EncoderSettings
from edge.machine import Entropy
from edge.media.delivery import Deliveries
from edge.media.dialogue import Clear, EndItem, Mark, Notice, Pause, Play, PlayoutCommand, Resume
from edge.media.frames import AudioFormat, Encoding
from edge.media.packetizer import Gaps, Packetizer
from edge.media.payloads import PayloadTypes
from edge.media.playout import Frame, Playout
from edge.media.punctuality import Punctuality
from edge.media.sound import FRAMES_PER_SECOND, SAMPLE_BYTES

FRAME: Final = 1 / FRAMES_PER_SECOND
TRAIL_FRAMES: Final = 5
"""Encoded silence behind sound: the decoder's own continuation is then silent, too."""
FADE: Final = 0.005
"""How long the sound that a clear or a pause cuts off takes to fade, in seconds."""


class _Phase(enum.Enum):
    SPEAKING = enum.auto()
    TRAILING = enum.auto()
    RESTING = enum.auto()


@frozen
class PlayoutSettings:
    """How a session's sound is sent. Seconds."""

    encoder: EncoderSettings
    gaps: Gaps
    """What is sent when there is nothing to play: signs of silence, or silence itself."""
    prebuffer: float
    """How much sound waits before a speech begins: room for an uneven backend."""
    queue_max: float
    """Sound that may wait; of more, the oldest is dropped."""


@frozen
class OutboundStatistics:
    """A snapshot."""

    frames_sent: int
    """With sound of the backend."""
    silence_sent: int
    """Packets of silence and signs of silence."""
    skipped: int
    """Slots that the worker missed."""
    underruns: int
    """Gaps inside items because the backend was late."""
    queued: float
    """Seconds of sound that wait."""
    dropped: float
    """Seconds of sound thrown away because too much waited."""
    expected_loss: float
    """What the encoder was told, 0..1."""


class Outbound:
    """One session's stream to the client. Times: seconds on the caller's monotonic clock.

    The owner asks ``next_due`` after every call and calls ``next_packet`` then; after every call it
    pulls ``next_event`` until None.

    Raises:
        LocalProtocolError: an Opus backend with a client that does not speak Opus.

    """

    def __init__(
        self,
        ssrc: int,
        payloads: PayloadTypes,
        format: AudioFormat,  # noqa: A002 - what a format is called everywhere else
        settings: PlayoutSettings,
        punctuality: Punctuality,
        entropy: Entropy,
    ) -> None:
        self._passthrough = format.encoding is Encoding.OPUS
        self._rate_hz = format.rate_hz
        self._clock_rate_hz = payloads.clock_rate_hz
        self._settings = settings
        self._punctuality = punctuality
        self._packetizer = Packetizer(
            ssrc, payloads, format, settings.encoder, settings.gaps, entropy
        )
        self._frame_ticks = self._packetizer.frame_ticks
        self._playout = Playout(format, settings.queue_max)
        self._deliveries = Deliveries()

        self._phase = _Phase.RESTING
        self._paused = False
        self._origin: float | None = None
        """The time of slot 0."""
        self._due: float | None = None
        self._slot = 0
        """What is due then."""
        self._free = 0
        """The first slot that nothing was made for."""
        self._begin: int | None = None
        """From when on waiting sound may be sent, outside of speaking. None: nothing waits."""
        self._trail = 0
        """Frames of encoded silence still to be sent."""
        self._fade = b""
        """PCM to begin the silence with."""
        self._loss = 0.0
        self._frames_sent = self._silence_sent = self._skipped = 0
        self._drops: Counter[str] = Counter()

    @property
    def drops(self) -> Counter[str]:
        """What was ignored, by reason."""
        return self._drops + self._playout.drops

    @property
    def queued(self) -> float:
        """Seconds of sound that wait."""
        return self._playout.queued / self._rate_hz

    def receive(self, command: PlayoutCommand, now: float) -> None:
        """Do what the backend commands. Clearing does not end a pause."""
        match command:
            case Play(item, audio):
                self._playout.play(item, audio)
                self._expect_sound(now)
            case EndItem(item):
                self._playout.end_item(item)
                self._expect_sound(now)
            case Mark(name):
                self._playout.mark(name)
            case Clear():
                self._fall_silent(cut=True, now=now)
                self._playout.clear()
                self._begin = None
            case Pause():
                self._paused = True
                self._fall_silent(cut=True, now=now)
            case Resume():
                self._paused = False
                if self._begin is not None:
                    self._begin = max(self._begin, self._ticks(now))
        self._schedule()

    def next_due(self) -> float | None:
        """When ``next_packet`` is due. None: nothing is to be sent."""
        return self._due

    def next_packet(self, now: float) -> bytes | None:
        """Return the RTP packet that is due; None if it is too early or the slot stays silent."""
        due = self._due
        if due is None or now < due:
            return None
        late = now - due
        sounding = self._phase is _Phase.SPEAKING or self._may_begin(now)
        if late >= FRAME:
            self._skip(late, sounding=sounding, now=now)
        frame = self._playout.take() if sounding else None
        if frame is not None:
            packet = self._send_sound(frame)
        else:
            self._fall_silent(cut=False, now=now)
            packet = self._send_silence()
        self._schedule()
        return packet

    def next_event(self) -> Notice | None:
        """Take the next notice for the backend, oldest first."""
        return self._playout.next_notice()

    def note_report(self, highest_sequence: int, fraction_lost: float, now: float) -> None:  # noqa: ARG002 - as all inputs
        """Take the client's report on this stream: extended highest sequence number, 0..1 lost."""
        packetizer = self._packetizer
        if not self._deliveries.note_report(highest_sequence, fraction_lost, packetizer.sequence):
            self._drops["stale-report"] += 1
            return
        # Up at once, down over a few reports: FEC that comes too late protects nothing.
        step = fraction_lost - self._loss
        self._loss += step if step > 0 else step / 4
        if packetizer.encoder is not None:
            packetizer.encoder.expect_loss(self._loss)

    def statistics(self) -> OutboundStatistics:
        playout, rate_hz = self._playout, self._rate_hz
        return OutboundStatistics(
            frames_sent=self._frames_sent,
            silence_sent=self._silence_sent,
            skipped=self._skipped,
            underruns=playout.underruns,
            queued=self.queued,
            dropped=playout.dropped / rate_hz,
            expected_loss=self._loss,
        )

    def _ticks(self, now: float) -> int:
        """Return the slot that begins at ``now`` or less than a tick before."""
        return int((now - (self._origin or 0.0)) * self._clock_rate_hz)

    def _expect_sound(self, now: float) -> None:
        """Decide when the sound that waits may begin."""
        playout, prebuffer = self._playout, self._settings.prebuffer
        if self._phase is _Phase.SPEAKING:
            return
        if not playout.queued:
            self._begin = None
            return
        if self._origin is None:
            self._origin = now
        begin = self._ticks(now)
        if not playout.complete and playout.queued < prebuffer * self._rate_hz:
            begin += int(prebuffer * self._clock_rate_hz)
        self._begin = begin if self._begin is None else min(self._begin, begin)

    def _may_begin(self, now: float) -> bool:
        if self._begin is None or self._paused:
            return False
        return self._begin <= max(self._slot, self._ticks(now))

    def _skip(self, late: float, *, sounding: bool, now: float) -> None:
        """Give up the slots that have passed."""
        if self._phase is _Phase.RESTING and not sounding:
            self._slot = self._ticks(now)  # nothing was to be sent in the slots between
            return
        behind = int(late * FRAMES_PER_SECOND)
        self._slot += behind * self._frame_ticks
        self._skipped += behind
        self._punctuality.note_skipped(behind)

    def _fall_silent(self, *, cut: bool, now: float) -> None:
        """Go from speaking to trailing. ``cut``: while there may be sound to go on with."""
        if self._phase is not _Phase.SPEAKING:
            return
        self._phase = _Phase.TRAILING
        self._trail = TRAIL_FRAMES
        self._begin = self._ticks(now) if self._playout.queued else None
        self._fade = _faded(self._playout.peek(round(FADE * self._rate_hz))) if cut else b""

    def _send_sound(self, frame: Frame) -> bytes | None:
        audio, units, item = frame
        self._phase = _Phase.SPEAKING
        self._begin = None
        self._frames_sent += 1
        ticks = units if self._passthrough else self._frame_ticks
        packet = self._packetizer.send_sound(audio, self._slot, ticks)
        self._free = self._slot + ticks
        self._deliveries.note_sent(item, units, self._packetizer.sequence)
        return packet

    def _send_silence(self) -> bytes | None:
        """Return the slot's packet when there is nothing to play, or None if there is none."""
        packetizer, slot = self._packetizer, self._slot
        self._free = slot + self._frame_ticks
        dtx = self._settings.gaps == "dtx"
        if dtx and not self._trail:
            self._phase = _Phase.RESTING
        if self._phase is _Phase.RESTING:
            packet = packetizer.send_rest(slot)
        else:
            packet = packetizer.send_silence(self._fade, slot)
            self._fade = b""
            self._trail -= 1
            if dtx and packetizer.refresh:  # the encoder has found that there is silence
                self._phase = _Phase.RESTING
        self._silence_sent += packet is not None
        return packet

    def _schedule(self) -> None:
        """Find out what is due next, and when."""
        slot: int | None = self._free
        if self._phase is _Phase.RESTING:
            slot = self._packetizer.refresh
            if self._begin is not None and not self._paused:
                slot = self._begin if slot is None else min(self._begin, slot)
        if slot is None or self._origin is None:
            self._due = None
            return
        self._slot = max(slot, self._free)
        self._due = self._origin + self._slot / self._clock_rate_hz


def _faded(pcm: bytes) -> bytes:
    """Return PCM16 that falls to silence evenly."""
    count = len(pcm) // SAMPLE_BYTES
    samples = Struct(f"<{count}h")
    faded = (
        sample * (count - index) // (count + 1) for index, sample in enumerate(samples.unpack(pcm))
    )
    return samples.pack(*faded)
