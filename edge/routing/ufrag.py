"""Routed ufrags: ICE username fragments that say, under seal, which transceiver owns a session.

A routed ufrag is 18 bytes in base64 without padding, 24 characters that are all ice-chars:

| bytes | content |
| --- | --- |
| 0 | 3 bits key id (0..6; 7 is never routable), 5 bits format version (1) |
| 1..16 | one AES-128 block: cluster (2), transceiver (2), issued at (4), nonce (5), zeros (3) |
| 17 | random, unauthenticated |

Integers are in network order, issued at is in unix seconds. The three zeros are the seal: a block
that was not made with the key decrypts to them once in 2^24, and such a guess then meets a
transceiver that knows no such session. Byte 0 is not encrypted, but it chooses the key and must
name this version. Byte 17 fills up the last base64 group; two ufrags that differ only there route
alike, and only the issued one names a session.

The ICE password is derived from the ufrag with a key that relays never have, so that an owner can
check MESSAGE-INTEGRITY before it has any state. Issuers and openers hold cipher contexts: each
belongs to one thread.
"""

import base64
import binascii
import hmac
import struct
from collections.abc import Iterable

from attrs import field, frozen
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from edge.errors import LocalProtocolError, UfragError
from edge.machine import Entropy

KEY_BYTES = 16
KEY_IDS = range(7)
VERSION = 1
UFRAG_CHARS = 24
UFRAG_BYTES = 18
PASSWORD_CHARS = 32
PASSWORD_KEY_BYTES_MIN = 16

_BLOCK = struct.Struct("!HHI5s3s")
_SEAL = bytes(3)

# Reasons of UfragError.
MALFORMED = "malformed"
UNKNOWN_KEY = "unknown-key"
UNKNOWN_VERSION = "unknown-version"
FORGED = "forged"


@frozen
class RoutingKey:
    """A key that relays and transceivers share. It never shows in a repr.

    Raises:
        LocalProtocolError: the id is not 0..6, or the key not 16 bytes.

    """

    id: int
    key: bytes = field(repr=False)

    def __attrs_post_init__(self) -> None:
        if self.id not in KEY_IDS:
            raise LocalProtocolError(f"routing key ids are 0 to 6, not {self.id}")
        if len(self.key) != KEY_BYTES:
            raise LocalProtocolError(f"a routing key has {KEY_BYTES} bytes, not {len(self.key)}")


@frozen
class RoutedUfrag:
    """What a routed ufrag says."""

    key_id: int
    cluster: int
    transceiver: int
    issued_at: int
    """Unix seconds."""


class UfragIssuer:
    """Makes the ufrags of one transceiver (0..65535) of one cluster (0..65535).

    Raises:
        LocalProtocolError: a number does not fit its field.

    """

    def __init__(self, cluster: int, transceiver: int, key: RoutingKey, entropy: Entropy) -> None:
        for number in (cluster, transceiver):
            if not 0 <= number <= 0xFFFF:
                raise LocalProtocolError(f"not a 16-bit number: {number}")
        self._cluster, self._transceiver = cluster, transceiver
        self._entropy = entropy
        self._first = bytes([key.id << 5 | VERSION])
        self._encryptor = Cipher(AES(key.key), ECB()).encryptor()  # noqa: S305 (a single block)

    def issue(self, unix_now: float) -> str:
        """Return a fresh ufrag of 24 ice-chars, issued at ``unix_now`` (unix seconds)."""
        random = self._entropy(6)
        block = _BLOCK.pack(self._cluster, self._transceiver, int(unix_now), random[:5], _SEAL)
        sealed = self._first + self._encryptor.update(block) + random[5:]
        return base64.b64encode(sealed).decode()


class UfragOpener:
    """Opens ufrags sealed with any of ``keys``.

    Raises:
        LocalProtocolError: two keys have one id.

    """

    def __init__(self, keys: Iterable[RoutingKey]) -> None:
        self._decryptors: dict[int, CipherContext] = {}
        for key in keys:
            if key.id in self._decryptors:
                raise LocalProtocolError(f"two routing keys have the id {key.id}")
            cipher = Cipher(AES(key.key), ECB())  # noqa: S305 (a single block)
            self._decryptors[key.id] = cipher.decryptor()

    def open(self, ufrag: bytes | str) -> RoutedUfrag:
        """Open a ufrag.

        Raises:
            UfragError: malformed, unknown-key, unknown-version or forged.

        """
        if len(ufrag) != UFRAG_CHARS:
            raise UfragError(MALFORMED)
        try:
            sealed = binascii.a2b_base64(ufrag, strict_mode=True)
        except ValueError as exc:
            raise UfragError(MALFORMED) from exc
        if len(sealed) != UFRAG_BYTES:
            raise UfragError(MALFORMED)
        key_id = sealed[0] >> 5
        decryptor = self._decryptors.get(key_id)
        if decryptor is None:
            raise UfragError(UNKNOWN_KEY)
        if sealed[0] & 0x1F != VERSION:
            raise UfragError(UNKNOWN_VERSION)
        block = decryptor.update(sealed[1:17])
        cluster, transceiver, issued_at, _, seal = _BLOCK.unpack(block)
        if seal != _SEAL:
            raise UfragError(FORGED)
        return RoutedUfrag(key_id, cluster, transceiver, issued_at)


def derive_password(password_key: bytes, ufrag: str) -> str:
    """Return the ICE password of ``ufrag``: 32 ice-chars, 192 bits of HMAC-SHA256.

    Raises:
        LocalProtocolError: the key has fewer than 16 bytes.

    """
    if len(password_key) < PASSWORD_KEY_BYTES_MIN:
        raise LocalProtocolError(f"a password key has {PASSWORD_KEY_BYTES_MIN} bytes or more")
    digest = hmac.digest(password_key, ufrag.encode(), "sha256")
    return base64.b64encode(digest)[:PASSWORD_CHARS].decode()
