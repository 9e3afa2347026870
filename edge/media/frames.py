"""Audio on its way between a session and its backend."""

from enum import StrEnum
from typing import NamedTuple

from attrs import frozen

from edge.rtp.extensions import AudioLevel


class Encoding(StrEnum):
    PCM16 = "pcm16"
    """Signed 16-bit little-endian samples, mono."""
    OPUS = "opus"
    """Opus packets as they are on the wire (RFC 6716), one frame each."""


@frozen
class AudioFormat:
    """What a backend takes and gives."""

    encoding: Encoding
    rate_hz: int
    """8000, 16000, 24000 or 48000 samples per second; 48000 for Opus packets, its clock."""


class Label(StrEnum):
    """Where a frame's sound comes from."""

    RECEIVED = "received"
    """The packet arrived in time."""
    FEC = "fec"
    """Its packet did not arrive; another packet carried a copy (in-band FEC or RFC 2198)."""
    CONCEALED = "concealed"
    """Nothing arrived in time: the decoder made up a continuation."""
    DTX = "dtx"
    """The client sent nothing because it is silent: comfort noise."""


class AudioFrame(NamedTuple):
    """A piece of what the client says. Frames of a session follow each other in media time."""

    label: Label
    media_time: float
    """Seconds from the first packet's timestamp to this frame's, on the client's media clock."""
    duration: float
    """Seconds of sound, 0.02 as a rule."""
    delay: float
    """Seconds that the packet came after the earliest time at which the best packets of late would
    have been here: its share of the network's jitter. 0 for frames without a packet."""
    audio: bytes
    """In the backend's format. Empty for an Opus backend where there is no packet to pass on."""
    level: AudioLevel | None
    """What the client says of its loudness (RFC 6464), if it does."""
