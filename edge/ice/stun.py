"""STUN for ICE connectivity checks (RFC 8489, RFC 8445 §7): authenticate, decode, encode.

A message is first cut by ``edge.ice.message``, then authenticated, and only then read. aioice
supplies the codecs of single values and the two checksums; nothing it can raise leaves this
module. It never sees a message whole, because its own parser accepts attributes that overrun, lets
the last duplicate win and hides unknown attributes.

Whoever does not know the password gets no answer: missing and wrong credentials are both silence
with a reason, where RFC 8489 §9.1.3 has errors 400 and 401. An authenticated request that cannot be
granted becomes a ``Refusal``, which is answered.
"""

import hmac
import struct
from collections.abc import Callable
from typing import TypeVar

from aioice import stun
from attrs import frozen

from edge.errors import StunError
from edge.ice.credentials import Credentials
from edge.ice.message import (
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    Message,
    StunReason,
    decode_message,
    encode_attribute,
    encode_message,
)
from edge.machine import Address

BINDING_REQUEST = 0x0001
BINDING_INDICATION = 0x0011
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111
CLASS_BITS = 0x0110

MAPPED_ADDRESS = 0x0001
USERNAME = 0x0006
ERROR_CODE = 0x0009
UNKNOWN_ATTRIBUTES = 0x000A
REALM = 0x0014
NONCE = 0x0015
XOR_MAPPED_ADDRESS = 0x0020
PRIORITY = 0x0024
USE_CANDIDATE = 0x0025
ICE_CONTROLLED = 0x8029
ICE_CONTROLLING = 0x802A

UNDERSTOOD = frozenset(
    {
        MAPPED_ADDRESS,
        USERNAME,
        MESSAGE_INTEGRITY,
        ERROR_CODE,
        UNKNOWN_ATTRIBUTES,
        REALM,
        NONCE,
        XOR_MAPPED_ADDRESS,
        PRIORITY,
        USE_CANDIDATE,
    }
)
"""Comprehension-required attributes that we may meet, and use or know to mean nothing here."""

USERNAME_BYTES_MAX = 508
BAD_REQUEST = 400
UNKNOWN_ATTRIBUTE = 420
ROLE_CONFLICT = 487

_PHRASES = {
    BAD_REQUEST: "Bad Request",
    UNKNOWN_ATTRIBUTE: "Unknown Attribute",
    ROLE_CONFLICT: "Role Conflict",
}

ValueT = TypeVar("ValueT")


@frozen
class Check:
    """An authenticated connectivity check from a controlling peer."""

    transaction_id: bytes
    remote_ufrag: str
    priority: int
    """What a peer-reflexive candidate learned from this check would have (RFC 8445 §7.1.1)."""
    nominated: bool
    """USE-CANDIDATE is there."""


@frozen
class Success:
    """A Binding success response."""

    transaction_id: bytes
    mapped: Address
    """The address that the request came from; its ``socket`` is not on the wire."""


@frozen
class Refusal:
    """A Binding error response, or an authenticated request that must get one."""

    transaction_id: bytes
    code: int
    unknown: tuple[int, ...] = ()
    """The attribute types that a 420 names."""


def decode_request(data: bytes, local: Credentials) -> Check | Refusal:
    """Authenticate a Binding request to us, then say what it asks or how it must be refused.

    A Refusal is 420 for attributes that must be understood and are not, 487 for a peer that takes
    itself for controlled (a lite agent always is; RFC 8445 §7.3.1.1), 400 without PRIORITY.

    Raises:
        StunError: anything that must not be answered.

    """
    message = _decode(data)
    if message.kind == BINDING_INDICATION:
        raise StunError(StunReason.INDICATION)
    if message.kind != BINDING_REQUEST:
        raise StunError(StunReason.UNEXPECTED_CLASS)
    remote_ufrag = _decode_username(message, local)
    _authenticate(data, message, local)

    unknown = _unknown_attributes(message)
    if unknown:
        return Refusal(message.transaction_id, UNKNOWN_ATTRIBUTE, unknown)
    if ICE_CONTROLLED in message.attributes:
        return Refusal(message.transaction_id, ROLE_CONFLICT)
    priority = message.attributes.get(PRIORITY)
    if priority is None:
        return Refusal(message.transaction_id, BAD_REQUEST)
    return Check(
        transaction_id=message.transaction_id,
        remote_ufrag=remote_ufrag,
        priority=_value(stun.unpack_unsigned, priority),
        nominated=USE_CANDIDATE in message.attributes,
    )


def decode_response(data: bytes, remote: Credentials) -> Success | Refusal:
    """Authenticate a response with the password of the agent that was asked, and decode it.

    Raises:
        StunError: no Binding response, not authentic, or its meaning is not understood.

    """
    message = _decode(data)
    if message.kind not in (BINDING_SUCCESS, BINDING_ERROR):
        raise StunError(StunReason.UNEXPECTED_CLASS)
    _authenticate(data, message, remote)
    if _unknown_attributes(message):
        raise StunError(StunReason.UNKNOWN_ATTRIBUTES)
    attributes, transaction_id = message.attributes, message.transaction_id

    if message.kind == BINDING_SUCCESS:
        mapped = attributes.get(XOR_MAPPED_ADDRESS)
        if mapped is None:
            raise StunError(StunReason.MALFORMED, "no XOR-MAPPED-ADDRESS")
        host, port = _value(lambda value: stun.unpack_xor_address(value, transaction_id), mapped)
        return Success(transaction_id, Address(host, port))
    if ERROR_CODE not in attributes:
        raise StunError(StunReason.MALFORMED, "no ERROR-CODE")
    code, _ = _value(stun.unpack_error_code, attributes[ERROR_CODE])
    unknown = attributes.get(UNKNOWN_ATTRIBUTES, b"")
    return Refusal(transaction_id, code, _value(_unpack_unknown_attributes, unknown))


def encode_request(
    *,
    local: Credentials,
    remote: Credentials,
    priority: int,
    tie_breaker: int,
    use_candidate: bool,
    transaction_id: bytes,
) -> bytes:
    """Encode the check of a controlling agent ``local`` to ``remote`` (RFC 8445 §7.2.2)."""
    attributes = encode_attribute(USERNAME, f"{remote.ufrag}:{local.ufrag}".encode())
    attributes += encode_attribute(PRIORITY, stun.pack_unsigned(priority))
    attributes += encode_attribute(ICE_CONTROLLING, stun.pack_unsigned_64(tie_breaker))
    if use_candidate:
        attributes += encode_attribute(USE_CANDIDATE, b"")
    return _seal(BINDING_REQUEST, transaction_id, attributes, remote)


def encode_response(response: Success | Refusal, local: Credentials) -> bytes:
    """Encode the answer to a request, signed with our own password (RFC 8445 §7.3)."""
    match response:
        case Success(transaction_id, mapped):
            value = stun.pack_xor_address((mapped.host, mapped.port), transaction_id)
            attributes = encode_attribute(XOR_MAPPED_ADDRESS, value)
            return _seal(BINDING_SUCCESS, transaction_id, attributes, local)
        case Refusal(transaction_id, code, unknown):
            value = stun.pack_error_code((code, _PHRASES[code]))
            attributes = encode_attribute(ERROR_CODE, value)
            if unknown:
                value = struct.pack(f"!{len(unknown)}H", *unknown)
                attributes += encode_attribute(UNKNOWN_ATTRIBUTES, value)
            return _seal(BINDING_ERROR, transaction_id, attributes, local)


def _decode(data: bytes) -> Message:
    """Cut a Binding message that has a right FINGERPRINT, which ICE demands (RFC 8445 §7)."""
    message = decode_message(data)
    if message.kind & ~CLASS_BITS != BINDING_REQUEST:
        raise StunError(StunReason.UNEXPECTED_METHOD)
    if message.fingerprint is None:
        raise StunError(StunReason.MISSING_FINGERPRINT)
    if message.fingerprint != _fingerprint(data[: -len(message.fingerprint) - 4]):
        raise StunError(StunReason.BAD_FINGERPRINT)
    return message


def _decode_username(message: Message, local: Credentials) -> str:
    """Check that USERNAME is ``<our ufrag>:<theirs>`` and return theirs (RFC 8445 §7.3)."""
    value = message.attributes.get(USERNAME)
    if value is None:
        raise StunError(StunReason.MISSING_USERNAME)
    if len(value) > USERNAME_BYTES_MAX:
        raise StunError(StunReason.BAD_USERNAME)
    ufrag, _, remote_ufrag = _value(stun.unpack_string, value).partition(":")
    if not remote_ufrag:
        raise StunError(StunReason.BAD_USERNAME)
    if ufrag != local.ufrag:
        raise StunError(StunReason.UNKNOWN_USERNAME)
    return remote_ufrag


def _authenticate(data: bytes, message: Message, owner: Credentials) -> None:
    """Check MESSAGE-INTEGRITY with ``owner``'s password, in constant time (RFC 8489 §14.5)."""
    if message.integrity_offset is None:
        raise StunError(StunReason.MISSING_INTEGRITY)
    right = stun.message_integrity(data[: message.integrity_offset], owner.password.encode())
    if not hmac.compare_digest(message.attributes[MESSAGE_INTEGRITY], right):
        raise StunError(StunReason.BAD_INTEGRITY)


def _unknown_attributes(message: Message) -> tuple[int, ...]:
    return tuple(one for one in message.attributes if one < 0x8000 and one not in UNDERSTOOD)


def _unpack_unknown_attributes(value: bytes) -> tuple[int, ...]:
    return struct.unpack(f"!{len(value) // 2}H", value)


def _value(unpack: Callable[[bytes], ValueT], value: bytes) -> ValueT:
    """Decode one attribute's value."""
    try:
        return unpack(value)
    except (ValueError, struct.error) as exc:  # UnicodeDecodeError is a ValueError
        raise StunError(StunReason.MALFORMED, "bad attribute value") from exc


def _seal(kind: int, transaction_id: bytes, attributes: bytes, owner: Credentials) -> bytes:
    """Add MESSAGE-INTEGRITY with ``owner``'s password, then FINGERPRINT, then the header.

    Each is computed over a header whose length already counts it (RFC 8489 §14.5, §14.7).
    """
    data = encode_message(kind, transaction_id, attributes)
    integrity = stun.message_integrity(data, owner.password.encode())
    attributes += encode_attribute(MESSAGE_INTEGRITY, integrity)
    data = encode_message(kind, transaction_id, attributes)
    attributes += encode_attribute(FINGERPRINT, _fingerprint(data))
    return encode_message(kind, transaction_id, attributes)


def _fingerprint(data: bytes) -> bytes:
    """Return the value of a FINGERPRINT that follows ``data``."""
    return stun.pack_unsigned(stun.message_fingerprint(data))
