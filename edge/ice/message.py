"""The structure of a STUN message (RFC 8489 §5, §14): strict bounds first, no meaning yet.

Header, 20 bytes, network order:

| bytes | content |
| --- | --- |
| 0..1 | two zero bits, 14 bits of message type |
| 2..3 | bytes after the header, a multiple of 4 |
| 4..7 | magic cookie 0x2112A442 |
| 8..19 | transaction id |

Then attributes: type (2), length of the value (2), the value, padding to a multiple of 4 that the
length does not count.
"""

import struct
from collections.abc import Mapping
from enum import StrEnum

from attrs import frozen

from edge.errors import StunError

MAGIC_COOKIE = 0x2112A442
HEADER_BYTES = 20
MESSAGE_BYTES_MAX = 1500
"""A STUN message can exceed 1 KiB when it carries DTLS records, but never a datagram."""
ATTRIBUTES_MAX = 64
FINGERPRINT_BYTES = 8

MESSAGE_INTEGRITY = 0x0008
MESSAGE_INTEGRITY_SHA256 = 0x001C
FINGERPRINT = 0x8028

_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")


class StunReason(StrEnum):
    """Why a STUN message was refused in silence."""

    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    TOO_MANY_ATTRIBUTES = "too-many-attributes"
    UNEXPECTED_METHOD = "unexpected-method"
    UNEXPECTED_CLASS = "unexpected-class"
    INDICATION = "indication"
    MISSING_FINGERPRINT = "missing-fingerprint"
    BAD_FINGERPRINT = "bad-fingerprint"
    MISSING_USERNAME = "missing-username"
    BAD_USERNAME = "bad-username"
    UNKNOWN_USERNAME = "unknown-username"
    MISSING_INTEGRITY = "missing-integrity"
    BAD_INTEGRITY = "bad-integrity"
    UNKNOWN_ATTRIBUTES = "unknown-attributes"
    REPLAYED = "replayed"


@frozen
class Message:
    """A well-formed STUN message. Offsets count from its first byte."""

    kind: int
    """The message type: method and class bits together."""
    transaction_id: bytes
    attributes: Mapping[int, bytes]
    """Values by type up to the first integrity attribute, that one included. The first of several
    counts (RFC 8489 §14); what follows integrity is unprotected and left out (§14.5)."""
    integrity_offset: int | None
    """Where MESSAGE-INTEGRITY begins."""
    fingerprint: bytes | None
    """The value of FINGERPRINT, which is always the last attribute (§14.7)."""


def decode_message(data: bytes) -> Message:
    """Cut a datagram into header and attributes.

    Raises:
        StunError: malformed, oversized or too-many-attributes.

    """
    size = len(data)
    if size > MESSAGE_BYTES_MAX:
        raise StunError(StunReason.OVERSIZED)
    if size < HEADER_BYTES:
        raise StunError(StunReason.MALFORMED, "shorter than a STUN header")
    kind, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if kind & 0xC000 or cookie != MAGIC_COOKIE or length & 3 or HEADER_BYTES + length != size:
        raise StunError(StunReason.MALFORMED, "bad STUN header")

    attributes: dict[int, bytes] = {}
    integrity_offset: int | None = None
    fingerprint: bytes | None = None
    protected = True
    offset = HEADER_BYTES
    for _ in range(ATTRIBUTES_MAX):
        if offset == size:
            break
        attribute, value_bytes = _ATTRIBUTE.unpack_from(data, offset)  # 4 bytes: size % 4 == 0
        end = offset + 4 + value_bytes
        if end > size:
            raise StunError(StunReason.MALFORMED, "an attribute overruns the message")
        if attribute == FINGERPRINT:
            if end != size or value_bytes != FINGERPRINT_BYTES - 4:
                raise StunError(StunReason.MALFORMED, "FINGERPRINT is not last")
            fingerprint = data[offset + 4 : end]
        elif protected:
            if attribute == MESSAGE_INTEGRITY:
                integrity_offset = offset
            protected = attribute not in (MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256)
            attributes.setdefault(attribute, data[offset + 4 : end])
        offset = end + (-value_bytes & 3)
    if offset != size:
        raise StunError(StunReason.TOO_MANY_ATTRIBUTES)
    return Message(kind, transaction_id, attributes, integrity_offset, fingerprint)


def encode_message(kind: int, transaction_id: bytes, attributes: bytes) -> bytes:
    """Put a header in front of encoded attributes."""
    return _HEADER.pack(kind, len(attributes), MAGIC_COOKIE, transaction_id) + attributes


def encode_attribute(attribute: int, value: bytes) -> bytes:
    """Encode one attribute, padded with zeros."""
    return _ATTRIBUTE.pack(attribute, len(value)) + value + bytes(-len(value) & 3)
