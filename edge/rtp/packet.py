"""RTP packets (RFC 3550 §5.1).

| bytes | content |
| --- | --- |
| 0 | version 2 (2 bits), padding (1), extension (1), CSRC count (4) |
| 1 | marker (1 bit), payload type (7) |
| 2..3 | sequence number |
| 4..7 | timestamp |
| 8..11 | SSRC |
| 12.. | CSRC list, 4 bytes each |
| then, with the extension bit | profile (2), length in 32-bit words (2), that many words |
| then | payload |
| at the end, with the padding bit | padding, whose last byte is its own length |

This is the per-packet path: plain tuples, one pass, nothing copied but the payload and the
extension.
"""

from struct import Struct, error
from typing import NamedTuple

from edge.errors import LocalProtocolError, RtpError

_HEADER = Struct("!BBHII")
_EXTENSION = Struct("!HH")


class RtpPacket(NamedTuple):
    """One packet without its CSRC list and padding, which nothing here has a use for."""

    payload_type: int
    marker: bool
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes
    extension: tuple[int, bytes] | None = None
    """The header extension's profile and its undecoded words (see ``edge.rtp.extensions``)."""


def decode_rtp(data: bytes) -> RtpPacket:
    """Return the packet that ``data`` holds.

    Raises:
        RtpError: ``rtp-truncated``, ``rtp-version``, ``rtp-csrc``, ``rtp-extension`` or
            ``rtp-padding``, after the first part that does not fit.

    """
    end = len(data)
    if end < 12:
        raise RtpError("rtp-truncated")
    first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise RtpError("rtp-version")
    start = 12 + 4 * (first & 0x0F)
    if start > end:
        raise RtpError("rtp-csrc")
    extension = None
    if first & 0x10:
        if start + 4 > end:
            raise RtpError("rtp-extension")
        profile, words = _EXTENSION.unpack_from(data, start)
        start += 4 + 4 * words
        if start > end:
            raise RtpError("rtp-extension")
        extension = (profile, data[start - 4 * words : start])
    if first & 0x20:
        padding = data[-1]
        end -= padding
        if not padding or start > end:
            raise RtpError("rtp-padding")
    return RtpPacket(
        second & 0x7F, second >= 0x80, sequence_number, timestamp, ssrc, data[start:end], extension
    )


def encode_rtp(packet: RtpPacket) -> bytes:
    """Return ``packet`` as bytes, without CSRC list and padding.

    Raises:
        LocalProtocolError: a field does not fit its place in the header, or the extension is not a
            whole number of words.

    """
    payload_type, marker, sequence_number, timestamp, ssrc, payload, extension = packet
    if payload_type > 0x7F:
        raise LocalProtocolError(f"payload type {payload_type} is above 127")
    second = payload_type | 0x80 if marker else payload_type
    try:
        if extension is None:
            return _HEADER.pack(0x80, second, sequence_number, timestamp, ssrc) + payload
        header = _HEADER.pack(0x90, second, sequence_number, timestamp, ssrc)
        profile, words = extension
        prefix = _EXTENSION.pack(profile, len(words) // 4)
    except error as exc:
        raise LocalProtocolError(f"RTP field out of range: {exc}") from exc
    if len(words) % 4:
        raise LocalProtocolError("an RTP header extension is a whole number of 32-bit words")
    return header + prefix + words + payload
