"""Which of the audio formats on offer a session uses: a codec, and what goes with it.

The codec is the first of the policy's that any section offers. Redundancy, digits and comfort noise
are taken on the codec's clock only, so that one session has one RTP clock.
"""

import re
from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from edge.errors import SdpError
from edge.signal.sdp import MediaSection, SdpReason

_OPUS = "opus"
_CODECS = {_OPUS: (48000, 2), "PCMU": (8000, 1), "PCMA": (8000, 1)}
"""Clock rate in Hz and channels of the rtpmap of every codec that a policy may name."""


@frozen
class MediaPolicy:
    """What the answer takes of the audio formats that are offered."""

    codecs: tuple[str, ...] = tuple(_CODECS)
    """Of ``opus``, ``PCMU`` and ``PCMA``, the best first."""
    redundancy: Literal["off", "accept", "prefer"] = "accept"
    """RFC 2198 packets around the codec: refused, taken, or taken and asked for by being listed
    first, as browsers send what the answer lists first."""
    telephone_event: bool = True
    """Whether digits are taken (RFC 4733)."""
    dtx: bool = False
    """Whether the client is asked to send nothing while it is silent (RFC 7587 §6.1)."""


@frozen
class AudioFormats:
    """The payload types of a session. None: not in use."""

    codec: str
    """Its name, as in ``MediaPolicy.codecs``."""
    audio: int
    """Payload type of the codec."""
    redundancy: int | None
    """Of RFC 2198 packets that hold nothing but the codec's."""
    telephone_event: int | None
    comfort_noise: int | None
    """Of RFC 3389 packets. Opus has its own comfort noise."""


def choose_formats(
    sections: Sequence[MediaSection], policy: MediaPolicy
) -> tuple[MediaSection, AudioFormats]:
    """Return the first section with the best codec on offer, and what is taken of its formats.

    Raises:
        SdpError: none of the codecs is on offer; the message names those that are taken.

    """
    for codec in policy.codecs:
        for section in sections:
            audio = _payload_type(section, codec, *_CODECS[codec])
            if audio is not None:
                return section, _formats(section, codec, audio, policy)
    taken = ", ".join(_rtpmap(codec, *_CODECS[codec]) for codec in policy.codecs)
    raise SdpError(SdpReason.NO_CODEC, f"the offer's audio has none of the codecs {taken}")


def encode_formats(formats: AudioFormats, policy: MediaPolicy) -> dict[int, list[str]]:
    """Return the lines of each payload type, in the order of the m-line: what we wish to get."""
    audio, (clock_rate, channels) = formats.audio, _CODECS[formats.codec]
    lines = {audio: [f"a=rtpmap:{audio} {_rtpmap(formats.codec, clock_rate, channels)}"]}
    if formats.codec == _OPUS:
        # RFC 7587 §6.1: in-band FEC, and mono, its default.
        dtx = ";usedtx=1" if policy.dtx else ""
        lines[audio].append(f"a=fmtp:{audio} minptime=10;useinbandfec=1{dtx}")
    if (red := formats.redundancy) is not None:
        rtpmap = _rtpmap("red", clock_rate, channels)
        both = {red: [f"a=rtpmap:{red} {rtpmap}", f"a=fmtp:{red} {audio}/{audio}"]}
        lines = both | lines if policy.redundancy == "prefer" else lines | both
    if (noise := formats.comfort_noise) is not None:
        lines[noise] = [f"a=rtpmap:{noise} {_rtpmap('CN', clock_rate, 1)}"]
    if (event := formats.telephone_event) is not None:
        rtpmap = _rtpmap("telephone-event", clock_rate, 1)
        lines[event] = [f"a=rtpmap:{event} {rtpmap}", f"a=fmtp:{event} 0-15"]
    return lines


def _formats(section: MediaSection, codec: str, audio: int, policy: MediaPolicy) -> AudioFormats:
    clock_rate, channels = _CODECS[codec]
    red = event = noise = None
    if policy.redundancy != "off":
        only_codec = re.compile(rf"{audio}(/{audio})*")  # RFC 2198 §5
        red = _payload_type(section, "red", clock_rate, channels, only_codec)
    if policy.telephone_event:
        event = _payload_type(section, "telephone-event", clock_rate, 1)
    if codec != _OPUS:
        noise = _payload_type(section, "CN", clock_rate, 1)
    return AudioFormats(codec, audio, red, event, noise)


def _payload_type(
    section: MediaSection,
    name: str,
    clock_rate: int,
    channels: int,
    parameters: re.Pattern[str] | None = None,
) -> int | None:
    """Return the first payload type of a format, if it has one that can be used.

    Payload types 64..95 look like RTCP when the marker bit is set (RFC 5761 §4).
    """
    wanted = (name.lower(), clock_rate, channels)
    for codec in section.codecs:
        if (
            (codec.name, codec.clock_rate, codec.channels) == wanted
            and not 64 <= codec.payload_type <= 95
            and (parameters is None or parameters.fullmatch(codec.fmtp))
        ):
            return codec.payload_type
    return None


def _rtpmap(name: str, clock_rate: int, channels: int) -> str:
    return f"{name}/{clock_rate}" if channels == 1 else f"{name}/{clock_rate}/{channels}"
