"""DTLS records on their way out and in: what OpenSSL's memory BIO needs done around it.

Outgoing, the BIO is a stream: datagram boundaries are lost and must be made anew. Incoming, OpenSSL
ends a handshake over plaintext records that anybody can forge; they are removed first.

Record header (RFC 6347 §4.1), 13 bytes:

| offset | length | content                                                          |
| ------ | ------ | ---------------------------------------------------------------- |
| 0      | 1      | content type: 20 CCS, 21 alert, 22 handshake, 23 application data |
| 1      | 2      | version: fe ff (1.0, in a first ClientHello) or fe fd (1.2)      |
| 3      | 2      | epoch: 0 plaintext, then encrypted                               |
| 5      | 6      | sequence number                                                  |
| 11     | 2      | length of what follows                                           |

Handshake fragment header (RFC 6347 §4.2.2), 12 bytes: type (1), length of the whole message (3),
message sequence (2), fragment offset (3), fragment length (3).
"""

import struct

from attrs import frozen

from edge.dtls.keying import Role

HEADER_BYTES = 13
FRAGMENT_HEADER_BYTES = 12
MESSAGE_MAX_BYTES = 16384
"""Longest handshake message that is let through; a long certificate chain has 5,000."""

_HEADER = struct.Struct("!BHH6xH")  # content type, version, epoch, length

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
_CONTENT_TYPES = frozenset((CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA))
_VERSIONS = frozenset((0xFEFF, 0xFEFD))
_FATAL = 2

# Handshake messages that the peer may send in epoch 0, by our role (RFC 5246 §7.4, RFC 6347 §4.3.2,
# RFC 6066 §8). OpenSSL ends the handshake over any other, such as our own ClientHello reflected.
_MESSAGE_TYPES = {
    Role.SERVER: frozenset((1, 11, 15, 16)),
    Role.CLIENT: frozenset((2, 3, 4, 11, 12, 13, 14, 22)),
}


def cut_flight(flight: bytes, mtu: int) -> list[bytes]:
    """Cut what OpenSSL wrote into datagrams of whole records, each as full as ``mtu`` allows.

    A record longer than ``mtu`` goes alone: records cannot be split.
    """
    datagrams: list[bytes] = []
    start = end = 0
    while end < len(flight):
        following = end + HEADER_BYTES + int.from_bytes(flight[end + 11 : end + 13])
        if following - start > mtu and end > start:
            datagrams.append(flight[start:end])
            start = end
        end = following
    if end > start:
        datagrams.append(flight[start:end])
    return datagrams


@frozen
class Admitted:
    """What is left of a received datagram."""

    data: bytes
    """Whole records that OpenSSL may see; empty if none."""
    dropped: tuple[str, ...] = ()
    """Why each of the other records was removed."""
    handshaking: bool = False
    """Something in ``data`` belongs to a handshake."""
    fatal_alert: bool = False
    """A plaintext fatal alert was removed: the peer may have given up, or it is a forgery."""


def admit(datagram: bytes, role: Role) -> Admitted:
    """Remove the records that must not reach OpenSSL; ``role`` is ours.

    A record that lies about its length, or is of another version or content type, takes the rest
    of the datagram with it. Of epoch 0 are removed: application data, alerts, and any
    change-cipher-spec or handshake fragment that is malformed or that the peer's role does not
    send. A well-formed forged message cannot be told from a real one, and neither can its sequence
    number, which OpenSSL then takes for used: keeping strangers out is ICE's part.
    """
    kept: list[bytes] = []
    dropped: list[str] = []
    handshaking = fatal_alert = False
    start = 0
    while start < len(datagram):
        if len(datagram) - start < HEADER_BYTES:
            dropped.append("record-truncated")
            break
        content_type, version, epoch, length = _HEADER.unpack_from(datagram, start)
        if content_type not in _CONTENT_TYPES or version not in _VERSIONS:
            dropped.append("record-unknown")
            break
        end = start + HEADER_BYTES + length
        if end > len(datagram):
            dropped.append("record-truncated")
            break
        body = datagram[start + HEADER_BYTES : end]
        reason = _objection(content_type, body, role) if epoch == 0 else None
        if reason is None:
            kept.append(datagram[start:end])
            handshaking = handshaking or content_type in (CHANGE_CIPHER_SPEC, HANDSHAKE)
        else:
            dropped.append(reason)
            fatal_alert = fatal_alert or (content_type == ALERT and body[:1] == bytes([_FATAL]))
        start = end
    return Admitted(b"".join(kept), tuple(dropped), handshaking, fatal_alert)


def _objection(content_type: int, body: bytes, role: Role) -> str | None:
    """Say what is wrong with a record of epoch 0, or None."""
    if content_type == APPLICATION_DATA:
        return "plaintext-application-data"
    if content_type == ALERT:
        return "plaintext-alert"
    if content_type == CHANGE_CIPHER_SPEC:
        return None if body == b"\x01" else "record-malformed"
    return None if _fragments_are_sound(body, role) else "record-malformed"


def _fragments_are_sound(body: bytes, role: Role) -> bool:
    """Tell whether a handshake record is whole fragments of messages that the peer may send."""
    start = 0
    while len(body) - start >= FRAGMENT_HEADER_BYTES:
        message_bytes = int.from_bytes(body[start + 1 : start + 4])
        offset = int.from_bytes(body[start + 6 : start + 9])
        length = int.from_bytes(body[start + 9 : start + 12])
        if message_bytes > MESSAGE_MAX_BYTES or offset + length > message_bytes:
            return False
        if body[start] not in _MESSAGE_TYPES[role]:
            return False
        if length == 0 < message_bytes:  # OpenSSL takes it for an empty message and gives up
            return False
        start += FRAGMENT_HEADER_BYTES + length
    return 0 < start == len(body)
