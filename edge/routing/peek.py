"""Read the ufrag out of a STUN Binding request by hand, and nothing else.

This runs on every STUN packet that reaches a relay, authenticated or not, so it neither builds
objects nor checks integrity: the transceiver does (edge/ice/stun.py).
"""

import struct

from edge.errors import StunError

BINDING_REQUEST = 0x0001
MAGIC_COOKIE = 0x2112A442
USERNAME = 0x0006
HEADER_BYTES = 20
USERNAME_BYTES_MAX = 508
ATTRIBUTES_MAX = 32
"""How many attributes are walked before the search for USERNAME is given up."""

_HEADER = struct.Struct("!HHI")
_ATTRIBUTE = struct.Struct("!HH")


def is_binding_request(data: bytes | memoryview) -> bool:
    """Whether this STUN packet is a Binding request, by its type field alone (RFC 8489 §5)."""
    return len(data) >= 2 and data[0] == 0 and data[1] == BINDING_REQUEST


def peek_ufrag(data: bytes | memoryview) -> bytes:
    """Return the server's ufrag: what stands before the first colon in USERNAME (RFC 8445 §7.2.2).

    The first USERNAME counts (RFC 8489 §14).

    Raises:
        StunError: no well-formed Binding request, or one without a USERNAME of two parts.

    """
    size = len(data)
    if size < HEADER_BYTES:
        raise StunError("stun-truncated")
    kind, length, cookie = _HEADER.unpack_from(data)
    if kind != BINDING_REQUEST:
        raise StunError("stun-not-binding-request")
    if cookie != MAGIC_COOKIE:
        raise StunError("stun-no-cookie")
    if length & 3 or HEADER_BYTES + length != size:
        raise StunError("stun-bad-length")
    offset = HEADER_BYTES
    for _ in range(ATTRIBUTES_MAX):
        value = offset + 4
        if value > size:
            break
        attribute, attribute_length = _ATTRIBUTE.unpack_from(data, offset)
        end = value + attribute_length
        if end > size:
            raise StunError("stun-bad-length")
        if attribute == USERNAME:
            if attribute_length > USERNAME_BYTES_MAX:
                raise StunError("stun-bad-username")
            ufrag, colon, _ = bytes(data[value:end]).partition(b":")
            if not colon or not ufrag:
                raise StunError("stun-bad-username")
            return ufrag
        offset = end + (-attribute_length & 3)
    raise StunError("stun-no-username")
