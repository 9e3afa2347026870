"""STUN messages made with the standard library alone, right or wrong as a test wants them."""

import hmac
import struct
import zlib
from collections.abc import Sequence

TRANSACTION_ID = b"transaction!"
PRIORITY = (0x0024, b"\x6e\x7f\x1e\xff")
CONTROLLING = (0x802A, b"12345678")
CONTROLLED = (0x8029, b"12345678")
USE_CANDIDATE = (0x0025, b"")


def seal(
    attributes: Sequence[tuple[int, bytes]],
    password: str | None,
    *,
    kind: int = 0x0001,
    transaction_id: bytes = TRANSACTION_ID,
    after_integrity: Sequence[tuple[int, bytes]] = (),
    fingerprint: bool = True,
) -> bytes:
    """Build a message. ``password`` None leaves MESSAGE-INTEGRITY out."""
    body = b"".join(_attribute(*one) for one in attributes)
    if password is not None:
        head = _header(kind, len(body) + 24, transaction_id)
        body += _attribute(0x0008, hmac.digest(password.encode(), head + body, "sha1"))
    body += b"".join(_attribute(*one) for one in after_integrity)
    if fingerprint:
        head = _header(kind, len(body) + 8, transaction_id)
        body += _attribute(0x8028, struct.pack("!I", zlib.crc32(head + body) ^ 0x5354554E))
    return _header(kind, len(body), transaction_id) + body


def _header(kind: int, length: int, transaction_id: bytes) -> bytes:
    return struct.pack("!HHI12s", kind, length, 0x2112A442, transaction_id)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) & 3)
