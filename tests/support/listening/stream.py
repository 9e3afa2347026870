"""What a client that speaks sends: a voice, encoded every 20 ms, packet by packet."""

import functools
from typing import NamedTuple

from attrs import frozen

from edge.audio.opus import OpusEncoder, is_dtx
from edge.media.payloads import Codec, PayloadTypes
from edge.rtp.packet import RtpPacket
from tests.support.speech import speech

RATE_HZ = 24_000
FRAME_TIME = 0.02
FRAME_TICKS = 960
FRAME_BYTES = 2 * RATE_HZ // 50
BITRATE_BPS = 32_000
COMPLEXITY = 5
UNCOUNTED_SLOTS = 25
SSRC = 0x1234_5678
FIRST_SEQUENCE = 65_000  # so that longer streams wrap
FIRST_TIMESTAMP = 0xFFFF_0000

OPUS_TYPE, RED_TYPE = 111, 63
PAYLOADS = PayloadTypes(Codec.OPUS, audio=OPUS_TYPE)
PAYLOADS_WITH_RED = PayloadTypes(Codec.OPUS, audio=OPUS_TYPE, redundancy=RED_TYPE)


class Sent(NamedTuple):
    """One packet at the client."""

    slot: int
    """Which 20 ms of the voice it carries; it is sent ``slot * FRAME_TIME`` after the first."""
    packet: RtpPacket


@frozen(slots=False)
class Stream:
    """A voice and its packets. A slot without a packet was silence, by DTX."""

    voice: bytes
    """PCM16LE at ``RATE_HZ``."""
    packets: tuple[Sent, ...]

    @property
    def slots(self) -> int:
        return len(self.voice) // FRAME_BYTES

    @functools.cached_property
    def spoken(self) -> frozenset[int]:
        """The slots that have sound of their own and count.

        The last ones do not, because a receiver may wait for what would come behind them.
        """
        last = self.slots - UNCOUNTED_SLOTS
        return frozenset(
            slot for slot, packet in self.packets if slot < last and not is_dtx(packet.payload)
        )


@functools.cache
def make_stream(
    seconds: float, *, expected_loss: float, dtx: bool = False, seed: int = 1
) -> Stream:
    """Encode a voice as a browser does, in-band FEC by ``expected_loss``.

    With ``dtx``, the first packet of a silence goes out and the empty ones behind it do not.
    """
    voice = speech(seconds, RATE_HZ, seed)
    encoder = OpusEncoder(
        RATE_HZ, bitrate_bps=BITRATE_BPS, complexity=COMPLEXITY, fec=True, dtx=dtx
    )
    encoder.expect_loss(expected_loss)
    packets: list[Sent] = []
    silent = False
    for slot in range(len(voice) // FRAME_BYTES):
        payload = encoder.encode(voice[slot * FRAME_BYTES : (slot + 1) * FRAME_BYTES])
        was_silent, silent = silent, dtx and is_dtx(payload)
        if silent and was_silent:
            continue
        after_gap = not packets or packets[-1].slot != slot - 1
        packets.append(Sent(slot, _packet(len(packets), slot, payload, marker=after_gap)))
    return Stream(voice, tuple(packets))


def with_redundancy(packets: tuple[Sent, ...]) -> tuple[Sent, ...]:
    """Wrap every packet with a copy of the one before it (RFC 2198)."""
    wrapped: list[Sent] = []
    before: Sent | None = None
    for sent in packets:
        head = b""
        copy = b""
        if before is not None:
            copy = before.packet.payload
            offset = (sent.slot - before.slot) * FRAME_TICKS
            if offset < 1 << 14 and len(copy) < 1 << 10:
                block = 1 << 31 | OPUS_TYPE << 24 | offset << 10 | len(copy)
                head = block.to_bytes(4)
            else:
                copy = b""
        payload = head + bytes((OPUS_TYPE,)) + copy + sent.packet.payload
        packet = sent.packet._replace(payload_type=RED_TYPE, payload=payload)
        wrapped.append(Sent(sent.slot, packet))
        before = sent
    return tuple(wrapped)


def _packet(number: int, slot: int, payload: bytes, *, marker: bool) -> RtpPacket:
    return RtpPacket(
        OPUS_TYPE,
        marker,
        (FIRST_SEQUENCE + number) & 0xFFFF,
        (FIRST_TIMESTAMP + slot * FRAME_TICKS) & 0xFFFF_FFFF,
        SSRC,
        payload,
    )
