"""An Outbound on virtual time, and sound that can be told apart after mu-law."""

import random

from edge.audio.codecs import EncoderSettings
from edge.audio.g711 import decode_ulaw
from edge.media.dialogue import Notice, PlayoutCommand
from edge.media.frames import AudioFormat, Encoding
from edge.media.outbound import Outbound, PlayoutSettings
from edge.media.packetizer import Gaps
from edge.media.payloads import Codec, PayloadTypes
from edge.media.punctuality import Punctuality
from edge.rtp.packet import RtpPacket, decode_rtp

SSRC = 0x5EED
START = 1000.0
SILENCE = 0xFF
"""Of mu-law, as the encoder writes zeros."""


def sound(byte: int, ms: float) -> bytes:
    """Return PCM16 at 8 kHz that becomes so many milliseconds of one mu-law byte."""
    return decode_ulaw(bytes((byte,)) * round(8 * ms))


class Stage:
    """One send path, its clock, and everything that came out of it."""

    def __init__(
        self,
        *,
        codec: Codec = Codec.PCMU,
        encoding: Encoding = Encoding.PCM16,
        rate_hz: int = 8000,
        comfort_noise: int | None = None,
        gaps: Gaps = "dtx",
        encoder_dtx: bool = False,
        prebuffer: float = 0.0,
        queue_max: float = 60.0,
    ) -> None:
        self.punctuality = Punctuality()
        self.outbound = Outbound(
            SSRC,
            PayloadTypes(codec, 111 if codec is Codec.OPUS else 0, comfort_noise=comfort_noise),
            AudioFormat(encoding, rate_hz),
            PlayoutSettings(
                EncoderSettings(bitrate_bps=24_000, complexity=1, fec=True, dtx=encoder_dtx),
                gaps,
                prebuffer,
                queue_max,
            ),
            self.punctuality,
            random.Random(7).randbytes,
        )
        self.clock_rate_hz = 48_000 if codec is Codec.OPUS else 8000
        self.now = START
        self.packets: list[RtpPacket] = []
        self.sent_at: list[float] = []
        self.notices: list[Notice] = []

    def command(self, *commands: PlayoutCommand) -> None:
        for command in commands:
            self.outbound.receive(command, self.now)
            self._collect()

    def call(self) -> RtpPacket | None:
        """Ask for a packet now, whatever is due."""
        data = self.outbound.next_packet(self.now)
        self._collect()
        if data is None:
            return None
        packet = decode_rtp(data)
        self.packets.append(packet)
        self.sent_at.append(self.now)
        return packet

    def run(self, seconds: float) -> list[RtpPacket]:
        """Let time pass with a punctual caller; return what was sent."""
        end, first = self.now + seconds, len(self.packets)
        while (due := self.outbound.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.call()
        self.now = end
        return self.packets[first:]

    def slot_times(self) -> list[float]:
        """Return when the packets' slots began, by their timestamps, from the first one's on."""
        base = self.packets[0].timestamp
        ticks = [(packet.timestamp - base) & 0xFFFF_FFFF for packet in self.packets]
        return [tick / self.clock_rate_hz for tick in ticks]

    def _collect(self) -> None:
        while (notice := self.outbound.next_event()) is not None:
            self.notices.append(notice)
