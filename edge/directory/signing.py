"""What makes a value in Redis worth believing: a tag that only hosts of the fleet can make.

Redis may be shared, written to by others, or restored from somewhere else. So every value carries a
keyed tag over itself and over the *place* it stands at: a forged value is not believed, nor one
that was moved to another place. Times are in the values, because an old one may come back.

Value: key id (1 byte), body, tag (16 bytes of BLAKE2s, keyed).

Flows are found by names that are keyed hashes, too: who can read Redis learns no client's address.
"""

import hashlib
import hmac
from collections.abc import Iterable

from attrs import field, frozen

from edge.errors import StoreError

TAG_BYTES = 16
NAME_BYTES = 16
KEY_BYTES = 32
SIGNED_BYTES = 1 + TAG_BYTES
"""What a value has beside its body."""

_TAG = b"edge tag"
_NAME = b"edgename"
_DERIVED = b"edge.dir"
"""BLAKE2s personalisations: no two uses of a key can be taken for each other."""


Secret = tuple[int, bytes]
"""Id and bytes of a fleet key, or of a routing key if there is no fleet."""


@frozen
class DirectoryKey:
    """A key as the directory uses it, derived from one that has other uses, too."""

    id: int
    key: bytes = field(repr=False)

    @classmethod
    def derive(cls, secret: Secret) -> "DirectoryKey":
        number, key = secret
        return cls(number, hashlib.blake2s(key=key, person=_DERIVED).digest())


class Signer:
    """Signs with the first key, believes all of them."""

    @classmethod
    def of(cls, secrets: Iterable[Secret]) -> "Signer":
        return cls(map(DirectoryKey.derive, secrets))

    def __init__(self, keys: Iterable[DirectoryKey]) -> None:
        keys = tuple(keys)
        self._first = keys[0]
        self._by_id = {each.id: each for each in keys}

    def sign(self, place: bytes, body: bytes) -> bytes:
        """Return the value for a body that will stand at ``place``."""
        head = bytes((self._first.id,)) + body
        return head + _tag(self._first, place, head)

    def open(self, place: bytes, value: bytes) -> bytes:
        """Return the body of a value that was found at ``place``.

        Raises:
            StoreError: ``entry-forged`` or ``entry-unknown-key``.

        """
        if len(value) <= TAG_BYTES:
            raise StoreError("entry-forged")
        key = self._by_id.get(value[0])
        if key is None:
            raise StoreError("entry-unknown-key")
        if not hmac.compare_digest(_tag(key, place, value[:-TAG_BYTES]), value[-TAG_BYTES:]):
            raise StoreError("entry-forged")
        return value[1:-TAG_BYTES]

    def names(self, subject: bytes) -> tuple[bytes, ...]:
        """Return the names of a subject, one by key; the first is the one to write."""
        return tuple(
            hashlib.blake2s(subject, digest_size=NAME_BYTES, key=each.key, person=_NAME).digest()
            for each in self._by_id.values()
        )


def _tag(key: DirectoryKey, place: bytes, head: bytes) -> bytes:
    placed = bytes((len(place),)) + place + head
    return hashlib.blake2s(placed, digest_size=TAG_BYTES, key=key.key, person=_TAG).digest()
