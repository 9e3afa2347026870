"""Sound and silence as RTP packets: encoder, numbering, and the signs of silence (DTX).

Slots are ticks of the RTP clock since the first sound, as in ``edge.media.outbound``.
"""

from struct import Struct
from typing import Final, Literal

from edge.audio.codecs import EncoderSettings, open_encoder
from edge.errors import LocalProtocolError
from edge.machine import Entropy
from edge.media.frames import AudioFormat, Encoding
from edge.media.payloads import Codec, PayloadTypes
from edge.media.sound import FRAMES_PER_SECOND, SAMPLE_BYTES
from edge.rtp.packet import RtpPacket, encode_rtp

Gaps = Literal["dtx", "silence"]

REFRESH: Final = 0.4
"""Seconds between signs of silence, as libopus does it."""
DTX_BYTES_MAX: Final = 2
"""An Opus packet of at most so many bytes only says that there is silence."""
OPUS_SILENCE: Final = b"\xf8\xff\xfe"
"""20 ms of silence, for backends that encode themselves: CELT, full band, its silence flag set."""
COMFORT_NOISE_SILENCE: Final = b"\x7f"
"""The least loud comfort noise, -127 dBov (RFC 3389 §3.1)."""

_START = Struct("!IH")


class Packetizer:
    """One RTP stream. Each method returns the packet for a slot, or None if none is needed.

    Slots have to ascend, and not to reach into what the packet before covers.

    Raises:
        LocalProtocolError: an Opus backend with a client that does not speak Opus.

    """

    def __init__(
        self,
        ssrc: int,
        payloads: PayloadTypes,
        audio_format: AudioFormat,
        encoder: EncoderSettings,
        gaps: Gaps,
        entropy: Entropy,
    ) -> None:
        passthrough = audio_format.encoding is Encoding.OPUS
        if passthrough and payloads.codec is not Codec.OPUS:
            raise LocalProtocolError(f"Opus packets cannot be sent as {payloads.codec}")
        self.frame_ticks = payloads.clock_rate_hz // FRAMES_PER_SECOND
        self.refresh: int | None = None
        """The slot of the next sign of silence; 0: the next one. None: nothing was sent yet."""
        self.encoder = (
            None if passthrough else open_encoder(payloads.codec, audio_format.rate_hz, encoder)
        )
        self._ssrc = ssrc
        self._payload_type = payloads.audio
        self._comfort_noise = payloads.comfort_noise
        self._is_opus = payloads.codec is Codec.OPUS
        self._gaps = gaps
        self._frame_bytes = audio_format.rate_hz // FRAMES_PER_SECOND * SAMPLE_BYTES
        self._refresh_ticks = round(REFRESH * payloads.clock_rate_hz)
        self._timestamp, sequence = _START.unpack(entropy(_START.size))  # at slot 0
        # In the lower half, so that a first packet's loss does not hide a wrap (RFC 3711 §3.3.1).
        self._sequence: int = sequence & 0x7FFF
        self._covered = -1
        """The end of the latest packet: sound in any other slot begins a talkspurt."""
        self._silence = OPUS_SILENCE
        """The latest payload of silence."""

    @property
    def sequence(self) -> int:
        """Of the latest packet, counting on beyond 16 bits."""
        return self._sequence - 1

    def send_sound(self, audio: bytes, slot: int, ticks: int) -> bytes | None:
        """Send 20 ms of PCM, or a backend's packet of ``ticks``."""
        if self.encoder is not None:
            audio = self.encoder.encode(audio)
            if len(audio) <= DTX_BYTES_MAX:
                return self._send_sign(audio, slot)
        self.refresh = 0
        return self._send(self._payload_type, audio, slot, ticks, marker=slot != self._covered)

    def send_silence(self, start: bytes, slot: int) -> bytes | None:
        """Send a frame of silence. ``start``: PCM to begin it with."""
        if self.encoder is not None:
            self._silence = self.encoder.encode(start.ljust(self._frame_bytes, b"\0"))
            if len(self._silence) <= DTX_BYTES_MAX:
                return self._send_sign(self._silence, slot)
        self.refresh = 0
        return self._send(self._payload_type, self._silence, slot, self.frame_ticks)

    def send_rest(self, slot: int) -> bytes | None:
        """Say that there is silence, without work for the encoder.

        For Opus as libopus does it, by a packet with an empty frame (RFC 6716 §3.2.1); for G.711
        by comfort noise, or a frame of silence where that is not negotiated.
        """
        if self._is_opus:
            return self._send_sign(bytes((self._silence[0] & 0xFC,)), slot)
        self.refresh = slot + self._refresh_ticks
        if self._comfort_noise is None:
            return self._send(self._payload_type, self._silence, slot, self.frame_ticks)
        return self._send(self._comfort_noise, COMFORT_NOISE_SILENCE, slot, self.frame_ticks)

    def _send_sign(self, payload: bytes, slot: int) -> bytes | None:
        """Send a DTX packet, unless there was one less than 400 ms ago."""
        if self._gaps == "dtx" and self.refresh is not None and slot < self.refresh:
            return None
        self.refresh = slot + self._refresh_ticks
        return self._send(self._payload_type, payload, slot, self.frame_ticks)

    def _send(
        self, payload_type: int, payload: bytes, slot: int, ticks: int, *, marker: bool = False
    ) -> bytes:
        packet = RtpPacket(
            payload_type,
            marker,
            self._sequence & 0xFFFF,
            (self._timestamp + slot) & 0xFFFF_FFFF,
            self._ssrc,
            payload,
        )
        self._sequence += 1
        self._covered = slot + ticks
        return encode_rtp(packet)
