"""What offer and answer agreed to send each other, as the media path needs it."""

from enum import StrEnum

from attrs import frozen

from edge.rtp.clock import CLOCK_RATE_HZ


class Codec(StrEnum):
    OPUS = "opus"
    PCMU = "PCMU"
    PCMA = "PCMA"


@frozen
class PayloadTypes:
    """One audio codec and what goes with it, all on one RTP clock. None: not negotiated."""

    codec: Codec
    audio: int
    """Payload type of the codec."""
    redundancy: int | None = None
    """Of RFC 2198 packets around the codec."""
    telephone_event: int | None = None
    comfort_noise: int | None = None
    """Of RFC 3389 packets, for PCMU and PCMA."""
    level_extension: int | None = None
    """Id of the header extension with the audio level (RFC 6464)."""

    @property
    def clock_rate_hz(self) -> int:
        return CLOCK_RATE_HZ if self.codec is Codec.OPUS else 8000

    @property
    def all(self) -> frozenset[int]:
        """Every negotiated payload type."""
        types = (self.audio, self.redundancy, self.telephone_event, self.comfort_noise)
        return frozenset(each for each in types if each is not None)
