"""From the client's RTP packets to frames of sound in the backend's format, and digits.

Every packet of sound waits in the jitter buffer (``edge.rtp.jitter``) undecoded. What the buffer
gives out, packet or gap, is decoded then, once and in order, which is what a decoder's memory is
made for. For a backend that takes Opus nothing is decoded: it gets the packets, and empty frames
for those that did not come.
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from attrs import frozen

from edge.audio import opus
from edge.audio.codecs import Decoder, open_decoder
from edge.errors import AudioError, LocalProtocolError, RtpError
from edge.media.dialogue import Digit
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.payloads import Codec, PayloadTypes
from edge.rtp.events import KeyPresses
from edge.rtp.extensions import AudioLevel, decode_audio_level, decode_extensions
from edge.rtp.jitter import JitterBuffer, JitterLimits
from edge.rtp.packet import RtpPacket
from edge.rtp.pieces import Kind, Piece
from edge.rtp.redundancy import decode_redundancy

DIGITS_MAX: Final = 32
"""Digits that nobody has taken yet."""


@frozen
class InboundStatistics:
    """A snapshot. Times: seconds."""

    frames: Mapping[Label, int]
    mean_delay: float
    """How long packets waited in the jitter buffer, on average."""
    target_delay: float
    """How late a packet may be now before it is given up."""
    waiting: int
    """Packets in the jitter buffer."""
    late: int
    """Packets that came when their time had been given up."""
    duplicates: int
    jumps: int
    """Times at which media time was skipped, because a gap was too long to fill."""
    jumped: float
    stretched: float
    """Silence that had been given out when it turned out to be late speech."""
    restarts: int
    """Times at which the client began a new stream."""


class _Sound(NamedTuple):
    label: Label
    audio: bytes


class Inbound:
    """One session's receive path.

    After ``receive``, and at ``next_timeout``, the owner pulls ``next_frame`` until None, and
    ``next_digit``. Frames are also counted in ``heard``, which may be that of many sessions. Times:
    seconds on the caller's monotonic clock.
    """

    def __init__(
        self,
        payloads: PayloadTypes,
        audio_format: AudioFormat,
        limits: JitterLimits,
        heard: Counter[Label] | None = None,
    ) -> None:
        self._payloads = payloads
        self._clock_rate_hz = payloads.clock_rate_hz
        self._rate_hz = audio_format.rate_hz
        self._buffer = JitterBuffer(self._clock_rate_hz, limits)
        self._decoder: Decoder | None = None
        if audio_format.encoding is Encoding.PCM16:
            self._decoder = open_decoder(payloads.codec, audio_format.rate_hz)
        elif payloads.codec is not Codec.OPUS:
            raise LocalProtocolError(f"{payloads.codec} gives no Opus packets to pass on")
        self._frame_ticks = self._clock_rate_hz // 50
        self._frames: Counter[Label] = Counter()
        self._heard: Counter[Label] = Counter() if heard is None else heard
        self._keys = KeyPresses(self._clock_rate_hz)
        self._digits: deque[Digit] = deque()

    @property
    def drops(self) -> Counter[str]:
        """What was dropped, by reason."""
        return self._buffer.drops

    def receive(self, packet: RtpPacket, now: float) -> None:
        """Take one packet of a negotiated payload type."""
        payloads = self._payloads
        payload_type = packet.payload_type
        if payload_type == payloads.audio:
            self._receive_sound(packet, now)
        elif payload_type == payloads.redundancy:
            self._receive_redundancy(packet, now)
        else:
            self._receive_other(packet, now)

    def next_frame(self, now: float) -> AudioFrame | None:
        """Return the next piece of sound, if it is time for it."""
        piece = self._buffer.next_piece(now)
        if piece is None:
            return None
        level = None if piece.extension is None else self._level(piece.extension)
        label, audio = self._pass_on(piece) if self._decoder is None else self._decode(piece)
        self._frames[label] += 1
        self._heard[label] += 1
        rate = self._clock_rate_hz
        return AudioFrame(
            label, piece.start / rate, piece.ticks / rate, piece.lateness, audio, level
        )

    def next_digit(self) -> Digit | None:
        """Take the next key that was pressed, oldest first."""
        return self._digits.popleft() if self._digits else None

    def next_timeout(self) -> float | None:
        """When to pull again if no packet comes; right once ``next_frame`` has returned None."""
        return self._buffer.next_timeout()

    def statistics(self) -> InboundStatistics:
        buffer = self._buffer
        return InboundStatistics(
            frames=dict(self._frames),
            mean_delay=buffer.waited / max(1, buffer.released),
            target_delay=buffer.target,
            waiting=buffer.waiting,
            late=buffer.drops["jitter-late"],
            duplicates=buffer.drops["jitter-duplicate"],
            jumps=buffer.jumps,
            jumped=buffer.jumped,
            stretched=buffer.stretched,
            restarts=buffer.restarts,
        )

    # Packets in

    def _receive_sound(self, packet: RtpPacket, now: float) -> int | None:
        """Put a packet into the buffer; return its sequence number there, if it was of use."""
        payload = packet.payload
        if not payload:
            self._buffer.receive_soundless(packet)
            return None
        ticks = self._ticks(payload)
        if ticks is None:
            return None
        quiet = self._payloads.codec is Codec.OPUS and opus.is_dtx(payload)
        return self._buffer.receive(packet, ticks, now, quiet=quiet)

    def _ticks(self, payload: bytes) -> int | None:
        if self._payloads.codec is not Codec.OPUS:
            return len(payload)
        try:
            return opus.packet_ticks(payload)
        except AudioError as exc:
            self.drops[exc.reason] += 1
            return None

    def _receive_redundancy(self, packet: RtpPacket, now: float) -> None:
        try:
            blocks = decode_redundancy(packet.payload)
        except RtpError as exc:
            self.drops[exc.reason] += 1
            return
        primary = blocks[-1]
        inner = packet._replace(payload_type=primary.payload_type, payload=primary.payload)
        if primary.payload_type != self._payloads.audio:
            self._receive_other(inner, now)
            return
        sequence = self._receive_sound(inner, now)
        if sequence is None:
            return
        for age, block in zip(range(len(blocks) - 1, 0, -1), blocks, strict=False):
            if block.payload_type != self._payloads.audio:
                self.drops["redundancy-payload-type"] += 1
                continue
            ticks = self._ticks(block.payload) if block.payload else None
            if ticks is not None:
                timestamp = (packet.timestamp - block.timestamp_offset) & 0xFFFF_FFFF
                self._buffer.receive_copy(sequence - age, timestamp, block.payload, ticks, now)

    def _receive_other(self, packet: RtpPacket, now: float) -> None:
        payload_type = packet.payload_type
        if payload_type == self._payloads.telephone_event:
            self._receive_event(packet)
        elif payload_type == self._payloads.comfort_noise:
            noise = packet._replace(payload=b"")  # its level and spectrum are not imitated
            self._buffer.receive(noise, self._frame_ticks, now, quiet=True)
        else:
            self.drops["payload-type"] += 1

    def _receive_event(self, packet: RtpPacket) -> None:
        self._buffer.receive_soundless(packet)
        try:
            digit = self._keys.receive(packet)
        except RtpError as exc:
            self.drops[exc.reason] += 1
            return
        if digit is None:
            return
        if len(self._digits) >= DIGITS_MAX:
            self.drops["digit-queue-full"] += 1
            return
        self._digits.append(Digit(digit, self._buffer.media_time(packet.timestamp)))

    # Sound out

    def _level(self, extension: tuple[int, bytes]) -> AudioLevel | None:
        extension_id = self._payloads.level_extension
        if extension_id is None:
            return None
        try:
            element = decode_extensions(*extension).get(extension_id)
            return None if element is None else decode_audio_level(element)
        except RtpError as exc:
            self.drops[exc.reason] += 1
            return None

    def _pass_on(self, piece: Piece) -> _Sound:
        match piece.kind:
            case Kind.PACKET:
                return _Sound(Label.RECEIVED, piece.payload)
            case Kind.COPY:
                return _Sound(Label.FEC, piece.payload)
            case Kind.QUIET:
                return _Sound(Label.DTX, piece.payload)
            case Kind.SILENCE:
                return _Sound(Label.DTX, b"")
            case Kind.MISSING:
                return _Sound(Label.CONCEALED, b"")

    def _decode(self, piece: Piece) -> _Sound:
        assert self._decoder is not None  # see next_frame
        match piece.kind:
            case Kind.PACKET | Kind.COPY | Kind.QUIET if piece.payload:
                try:
                    audio = self._decoder.decode(piece.payload)
                except AudioError as exc:
                    self.drops[exc.reason] += 1
                    return _Sound(Label.CONCEALED, self._decoder.conceal(piece.ticks))
                return _Sound(_LABELS[piece.kind], audio)
            case Kind.MISSING | Kind.SILENCE if piece.payload:
                try:
                    copy = self._decoder.decode_fec(piece.payload, piece.ticks)
                except AudioError as exc:
                    self.drops[exc.reason] += 1
                    copy = None
                if copy is not None:
                    return _Sound(Label.FEC, copy)
        if piece.kind is Kind.MISSING:
            return _Sound(Label.CONCEALED, self._decoder.conceal(piece.ticks))
        return _Sound(Label.DTX, self._silence(piece.ticks))

    def _silence(self, ticks: int) -> bytes:
        """Return comfort noise: Opus decoders make it up, G.711 has none."""
        assert self._decoder is not None  # see next_frame
        if self._payloads.codec is Codec.OPUS:
            return self._decoder.conceal(ticks)
        return bytes(2 * (ticks * self._rate_hz // self._clock_rate_hz))


_LABELS = {Kind.PACKET: Label.RECEIVED, Kind.COPY: Label.FEC, Kind.QUIET: Label.DTX}
