"""RTP header extension elements (RFC 8285) and the client's audio level (RFC 6464).

| form | profile | each element | ids | data, bytes |
| --- | --- | --- | --- | --- |
| one-byte | 0xBEDE | id (4 bits), length - 1 (4 bits), data | 1..14 | 1..16 |
| two-byte | 0x1000..0x100F | id (1 byte), length (1 byte), data | 1..255 | 0..255 |

A zero byte between elements is padding.
"""

from collections.abc import Mapping
from typing import NamedTuple

from edge.errors import LocalProtocolError, RtpError

ONE_BYTE_PROFILE = 0xBEDE
TWO_BYTE_PROFILE = 0x1000


class AudioLevel(NamedTuple):
    """What the client says of the sound in one packet: a hint, since the header is in the clear."""

    voice: bool
    """The client's voice activity detector fired."""
    level: int
    """0 (loudest) ..127 (silence), in -dBov."""


def decode_extensions(profile: int, data: bytes) -> dict[int, bytes]:
    """Return the elements by id; of a repeated id the first one.

    A profile that is not RFC 8285's has no elements (RFC 3550 §5.3.1 lets us ignore it). Only what
    precedes a one-byte element with id 15, or with id 0 and a length, counts (RFC 8285 §4.2).

    Raises:
        RtpError: ``rtp-extension-element``, an element reaches beyond the data.

    """
    if profile == ONE_BYTE_PROFILE:
        return _decode_one_byte(data)
    if profile & 0xFFF0 == TWO_BYTE_PROFILE:
        return _decode_two_byte(data)
    return {}


def encode_extensions(elements: Mapping[int, bytes]) -> tuple[int, bytes]:
    """Return profile and padded words: the one-byte form if all elements fit it, else two-byte.

    Raises:
        LocalProtocolError: an id outside 1..255, or an element longer than 255 bytes.

    """
    if all(1 <= id_ <= 14 and 1 <= len(data) <= 16 for id_, data in elements.items()):
        profile = ONE_BYTE_PROFILE
        parts = [bytes((id_ << 4 | len(data) - 1,)) + data for id_, data in elements.items()]
    elif all(1 <= id_ <= 255 and len(data) <= 255 for id_, data in elements.items()):
        profile = TWO_BYTE_PROFILE
        parts = [bytes((id_, len(data))) + data for id_, data in elements.items()]
    else:
        raise LocalProtocolError("extension ids are 1..255, elements at most 255 bytes")
    words = b"".join(parts)
    return profile, words + bytes(-len(words) % 4)


def decode_audio_level(element: bytes) -> AudioLevel:
    """Return the audio level in an ``ssrc-audio-level`` element: V (1 bit), level (7 bits).

    Raises:
        RtpError: ``rtp-audio-level``, the element is not one byte long.

    """
    if len(element) != 1:
        raise RtpError("rtp-audio-level")
    return AudioLevel(element[0] >= 0x80, element[0] & 0x7F)


def _decode_one_byte(data: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        id_ = data[at] >> 4
        if data[at] == 0:
            at += 1
            continue
        if id_ in (0, 15):
            break
        end = at + 2 + (data[at] & 0x0F)
        at = _add(elements, id_, data, at + 1, end)
    return elements


def _decode_two_byte(data: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        if at + 1 == len(data):
            raise RtpError("rtp-extension-element")
        end = at + 2 + data[at + 1]
        at = _add(elements, data[at], data, at + 2, end)
    return elements


def _add(elements: dict[int, bytes], id_: int, data: bytes, start: int, end: int) -> int:
    if end > len(data):
        raise RtpError("rtp-extension-element")
    elements.setdefault(id_, data[start:end])
    return end
