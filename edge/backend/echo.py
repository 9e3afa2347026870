"""The echo at packet level: the client's own Opus packets come back as a stream of ours.

Nothing is decoded. Our SSRC and the starting points of sequence number and timestamp are random;
after that both advance exactly as the client's do. So loss, reordering and DTX reach the client's
jitter buffer as what they are, and in-band FEC works. Payload, payload type and marker are kept;
header extensions, CSRC list and padding are not.

The offsets are chosen anew, a *rebase*, when the client's stream does not continue: another SSRC, a
jump of the sequence number, or a timestamp that has little to do with the time that passed. Ours
then goes on with the next sequence number and a timestamp advanced by the elapsed time, marker set.
A sequence number of ours is never used for two packets, as long as the client's are not (SRTP's
replay protection sees to that): repeating one would break SRTP's encryption (RFC 3711 §9.1).
"""

from typing import Final

from edge.machine import Entropy
from edge.media.endpoint import MediaEndpoint
from edge.rtp.clock import CLOCK_RATE_HZ
from edge.rtp.packet import RtpPacket, encode_rtp
from edge.rtp.serial import sequence_difference, timestamp_difference

SEQUENCE_JUMP_MAX: Final = 1000
"""A longer step, either way, is a new stream: 20 s of loss at 50 packets/s."""
TIMESTAMP_DRIFT_MAX: Final = 5.0
"""Seconds by which a timestamp's step may differ from the time between arrivals."""
FRAMES_PER_SECOND: Final = 50
"""A rebase advances by one frame at least, so that no two claim the same instant."""


class Echo(MediaEndpoint):
    """One session's echo. Times: seconds on the caller's monotonic clock.

    ``payload_types`` are the negotiated ones, all with the same clock; others are dropped.
    ``ssrc`` is ours, if the SDP answer has already named one.
    """

    def __init__(
        self,
        payload_types: frozenset[int],
        entropy: Entropy,
        *,
        ssrc: int | None = None,
        clock_rate_hz: int = CLOCK_RATE_HZ,
    ) -> None:
        super().__init__(int.from_bytes(entropy(4)) if ssrc is None else ssrc)
        self._payload_types = payload_types
        self._clock_rate_hz = clock_rate_hz
        self._source: int | None = None
        # The front: the packet furthest on in the client's sequence, and what became of it.
        self._front_sequence = 0
        self._front_timestamp = 0
        self._front_at = 0.0  # arrival of the first packet with that timestamp
        self._run = 0  # sequence numbers from the rebase to the front
        # Below 2**15, so that a lost beginning cannot confuse rollover counters (RFC 3711 §3.3.1).
        self._out_sequence = int.from_bytes(entropy(2)) & 0x7FFF
        self._out_timestamp = int.from_bytes(entropy(4))

    def receive_audio(self, packet: RtpPacket, now: float) -> bytes | None:
        """Return the RTP packet, not yet protected, that echoes ``packet``; None if it is dropped.

        Reasons in ``drops``: ``echo-payload-type``; ``echo-before-rebase``, a late packet from
        before the present run of sequence numbers, in which it has no place.
        """
        if packet.payload_type not in self._payload_types:
            self.drops["echo-payload-type"] += 1
            return None
        step = sequence_difference(packet.sequence_number, self._front_sequence)
        ticks = timestamp_difference(packet.timestamp, self._front_timestamp)
        if self._is_new_stream(packet.ssrc, step, ticks, now):
            return self._rebase(packet, now)
        if step + self._run < 0:
            self.drops["echo-before-rebase"] += 1
            return None
        sequence_number = (self._out_sequence + step) & 0xFFFF
        timestamp = (self._out_timestamp + ticks) & 0xFFFF_FFFF
        if step > 0:
            self._run += step
            self._front_sequence, self._out_sequence = packet.sequence_number, sequence_number
            if ticks:
                self._front_timestamp, self._out_timestamp = packet.timestamp, timestamp
                self._front_at = now
        return self._encode(packet, sequence_number, timestamp, marker=packet.marker)

    def _is_new_stream(self, source: int, step: int, ticks: int, now: float) -> bool:
        if source != self._source or abs(step) > SEQUENCE_JUMP_MAX:
            return True
        # A repeated timestamp is a telephone event, however long the key is held (RFC 4733 §2.5.1).
        drift = ticks - (now - self._front_at) * self._clock_rate_hz
        return step > 0 and ticks != 0 and abs(drift) > TIMESTAMP_DRIFT_MAX * self._clock_rate_hz

    def _rebase(self, packet: RtpPacket, now: float) -> bytes:
        """Let ``packet`` follow the front of our stream, whatever its own numbers are."""
        if self._source is not None:
            elapsed = round((now - self._front_at) * self._clock_rate_hz)
            frame = self._clock_rate_hz // FRAMES_PER_SECOND
            self._out_sequence = (self._out_sequence + 1) & 0xFFFF
            self._out_timestamp = (self._out_timestamp + max(elapsed, frame)) & 0xFFFF_FFFF
        self._source, self._run = packet.ssrc, 0
        self._front_sequence, self._front_timestamp = packet.sequence_number, packet.timestamp
        self._front_at = now
        return self._encode(packet, self._out_sequence, self._out_timestamp, marker=True)

    def _encode(
        self, packet: RtpPacket, sequence_number: int, timestamp: int, *, marker: bool
    ) -> bytes:
        payload_type, payload = packet.payload_type, packet.payload
        return encode_rtp(
            RtpPacket(payload_type, marker, sequence_number, timestamp, self.ssrc, payload)
        )
