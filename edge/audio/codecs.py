"""One face for all codecs: a stream's payloads on one side, PCM at the backend's rate on the other.

Ticks are of the codec's RTP clock: 48 kHz for Opus, 8 kHz for G.711. PCM is 16-bit little-endian,
mono. A decoder is called once for every piece of its stream, in order; the output is continuous.
"""

from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from edge.audio import g711, opus
from edge.audio.concealment import Concealment
from edge.audio.resample import Resampler
from edge.errors import AudioError, LocalProtocolError

_G711_FRAME_BYTES = 2 * g711.RATE_HZ // 50


@frozen
class EncoderSettings:
    """Of Opus; G.711 has nothing to set."""

    bitrate_bps: int
    complexity: int
    """0..10: what the sound may cost, in processor time."""
    fec: bool
    dtx: bool


class Decoder(Protocol):
    """One stream's decoder."""

    def decode(self, payload: bytes) -> bytes:
        """Return the sound of one payload.

        Raises:
            AudioError: it cannot be decoded. The stream goes on as if it had not been there.

        """

    def decode_fec(self, payload: bytes, ticks: int) -> bytes | None:
        """Return the sound of the ``ticks`` before ``payload`` from the copy in it, if there is.

        ``payload`` is still to be decoded afterwards. Only the last of the ticks, as many as its
        first frame is long, come from the copy; those before are concealed.

        Raises:
            AudioError: it cannot be decoded.

        """

    def conceal(self, ticks: int) -> bytes:
        """Return ``ticks``, at most 120 ms, made up from what came before."""

    def duration_ticks(self, payload: bytes) -> int:
        """Return how long a payload's sound is.

        Raises:
            AudioError: nothing that could be decoded.

        """

    def is_dtx(self, payload: bytes) -> bool:
        """Return whether a payload says that there is silence."""


class Encoder(Protocol):
    """One stream's encoder."""

    def encode(self, pcm: bytes) -> bytes:
        """Return the payload of 20 ms of sound.

        Raises:
            LocalProtocolError: ``pcm`` is not 20 ms long.

        """

    def expect_loss(self, fraction: float) -> None:
        """Take what share of the packets is lost, 0..1."""


def open_decoder(codec_name: str, rate_hz: int) -> Decoder:
    """Return a decoder for "opus", "PCMU" or "PCMA" that makes PCM at ``rate_hz``.

    Raises:
        BootError: libopus is not installed.
        LocalProtocolError: there is no such codec or rate.

    """
    match codec_name:
        case "opus":
            return _OpusStreamDecoder(rate_hz)
        case "PCMU":
            return _G711Decoder(g711.decode_ulaw, rate_hz)
        case "PCMA":
            return _G711Decoder(g711.decode_alaw, rate_hz)
        case _:
            raise LocalProtocolError(f"no codec {codec_name!r}")


def open_encoder(codec_name: str, rate_hz: int, settings: EncoderSettings) -> Encoder:
    """Return an encoder for "opus", "PCMU" or "PCMA" that takes PCM at ``rate_hz``.

    Raises:
        BootError: libopus is not installed.
        LocalProtocolError: there is no such codec or rate, or a setting is out of range.

    """
    match codec_name:
        case "opus":
            return opus.OpusEncoder(
                rate_hz,
                bitrate_bps=settings.bitrate_bps,
                complexity=settings.complexity,
                fec=settings.fec,
                dtx=settings.dtx,
            )
        case "PCMU":
            return _G711Encoder(g711.encode_ulaw, rate_hz)
        case "PCMA":
            return _G711Encoder(g711.encode_alaw, rate_hz)
        case _:
            raise LocalProtocolError(f"no codec {codec_name!r}")


class _OpusStreamDecoder:
    def __init__(self, rate_hz: int) -> None:
        self._opus = opus.OpusDecoder(rate_hz)
        self._ticks_per_sample = opus.CLOCK_RATE_HZ // rate_hz
        self.decode = self._opus.decode

    def decode_fec(self, payload: bytes, ticks: int) -> bytes | None:
        if not opus.has_fec(payload):
            return None
        return self._opus.decode_fec(payload, ticks // self._ticks_per_sample)

    def conceal(self, ticks: int) -> bytes:
        return self._opus.conceal(ticks // self._ticks_per_sample)

    def duration_ticks(self, payload: bytes) -> int:
        return opus.packet_ticks(payload)

    def is_dtx(self, payload: bytes) -> bool:
        return opus.is_dtx(payload)


class _G711Decoder:
    """A tick is a byte. Resampled sound is late by the filter's delay."""

    def __init__(self, decode: Callable[[bytes], bytes], rate_hz: int) -> None:
        self._decode = decode
        self._concealment = Concealment()
        self._resampler = Resampler(g711.RATE_HZ, rate_hz)

    def decode(self, payload: bytes) -> bytes:
        if not payload:
            raise AudioError("g711-empty")
        return self._resampler.resample(self._concealment.receive(self._decode(payload)))

    def decode_fec(self, payload: bytes, ticks: int) -> None:
        """G.711 has no copies."""

    def conceal(self, ticks: int) -> bytes:
        if not 0 < ticks <= opus.PACKET_TICKS_MAX // 6:
            raise LocalProtocolError(f"no {ticks} ticks at once")
        return self._resampler.resample(self._concealment.conceal(ticks))

    def duration_ticks(self, payload: bytes) -> int:
        if not payload:
            raise AudioError("g711-empty")
        return len(payload)

    def is_dtx(self, payload: bytes) -> bool:  # noqa: ARG002 - Decoder's signature
        """Comfort noise (RFC 3389) has its own payload type."""
        return False


class _G711Encoder:
    def __init__(self, encode: Callable[[bytes], bytes], rate_hz: int) -> None:
        self._encode = encode
        self._frame_bytes = 2 * rate_hz // 50
        self._resampler = Resampler(rate_hz, g711.RATE_HZ)

    def encode(self, pcm: bytes) -> bytes:
        if len(pcm) != self._frame_bytes:
            raise LocalProtocolError(f"{len(pcm)} bytes are not 20 ms")
        return self._encode(self._resampler.resample(pcm))

    def expect_loss(self, fraction: float) -> None:
        """G.711 has nothing to set against loss."""
