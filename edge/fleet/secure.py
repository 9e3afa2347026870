"""A connection of the control channel between two hosts: who is there, and messages under seal.

The *caller* has connected, the *answerer* has accepted. Both have the fleet's keys and know each
other's internal address. Each first sends a hello:

| bytes | content |
| --- | --- |
| 0..3 | "edge" |
| 4 | version, 1 |
| 5 | id of the fleet key: the caller's first one; the answerer repeats it |
| 6..37 | nonce |

From the key, the nonces, and as context both hellos and both addresses, HKDF-SHA256 derives one
key per direction. All that follows is records: the length of the sealed message, four bytes in
network order, then the message sealed with ChaCha20-Poly1305 (RFC 8439) and the length as
associated data. The nonce is the record's number in its direction, from 0, so none can be left out,
repeated or moved. The first record of either end is empty: the proof that it has the key. The
answerer sends its own right behind its hello, and believes nothing before it has the caller's.

A connection that is cut between two records ends like one that was closed: whoever uses it must not
take its end for good news. Who gets hold of a fleet key can read what he has recorded before: put
the channel into a tunnel if that matters.
"""

from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.errors import FleetError, LocalProtocolError
from edge.fleet.seal import KeyRing
from edge.machine import Entropy

MESSAGE_BYTES_MAX = 262_144

_MAGIC = b"edge"
_VERSION = 1
_NONCE_BYTES = 32
_HELLO_BYTES = len(_MAGIC) + 2 + _NONCE_BYTES
_LENGTH_BYTES = 4
_TAG_BYTES = 16
_KEY_BYTES = 32
_CONTEXT = b"edge control channel"


class SecureEnd:
    """One end of a connection. The ring's first key is used, but an answerer takes all of them.

    ``here`` and ``there``: the internal addresses of both ends, in canonical form.
    """

    def __init__(
        self, ring: KeyRing, here: str, there: str, *, calls: bool, entropy: Entropy
    ) -> None:
        self._ring = ring
        self._ends = (here, there) if calls else (there, here)
        self._calls = calls
        self._entropy = entropy
        self._incoming = bytearray()
        self._hello = _hello(ring.first.id, entropy(_NONCE_BYTES)) if calls else b""
        self._outgoing = bytearray(self._hello)
        self._key = ring.first
        self._sealer: _Records | None = None
        self._opener: _Records | None = None
        self.established = False
        """Whether the other end has proved that it has the key."""

    @property
    def key_in_force(self) -> bool:
        """Whether the ring still has the connection's key. If not, the connection must end."""
        return self._ring.find(self._key.id) == self._key

    @property
    def key_is_first(self) -> bool:
        """Whether a connection that is called now gets the same key."""
        return self._ring.first == self._key

    def next_bytes(self) -> bytes:
        """Return what is to be sent now for the connection itself; empty: nothing."""
        outgoing = bytes(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def frame(self, message: bytes) -> bytes:
        """Return the record of a message.

        Raises:
            LocalProtocolError: it is empty or too long, or the other end is not known yet.

        """
        if self._sealer is None or not self.established:
            raise LocalProtocolError("a message to a host that has not proved who it is")
        if not 0 < len(message) <= MESSAGE_BYTES_MAX:
            raise LocalProtocolError(f"a message of {len(message)} bytes between hosts")
        return self._sealer.seal(message)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the messages that they complete. Then ask for ``next_bytes``.

        Raises:
            FleetError: the other end is no member, or somebody is in between: malformed,
                unknown-version, unknown-key, forged or too-long. The connection must end.

        """
        self._incoming += data
        if self._opener is None and not self._take_hello():
            return []
        return list(self._take_records())

    def _take_hello(self) -> bool:
        incoming = self._incoming
        if not _MAGIC.startswith(incoming[: len(_MAGIC)]):
            raise FleetError("malformed")
        if len(incoming) > len(_MAGIC) and incoming[len(_MAGIC)] != _VERSION:
            raise FleetError("unknown-version")
        if len(incoming) < _HELLO_BYTES:
            return False
        theirs = bytes(incoming[:_HELLO_BYTES])
        del incoming[:_HELLO_BYTES]
        key_id = theirs[len(_MAGIC) + 1]
        key = self._ring.find(key_id)
        if key is None or (self._calls and key_id != self._key.id):
            raise FleetError("unknown-key")
        self._key = key
        if not self._calls:
            self._hello = _hello(key_id, self._entropy(_NONCE_BYTES))
            self._outgoing += self._hello
        hellos = self._hello + theirs if self._calls else theirs + self._hello
        calling, answering = _derive(key.key, hellos, self._ends)
        self._sealer = _Records(calling if self._calls else answering)
        self._opener = _Records(answering if self._calls else calling)
        if not self._calls:
            self._outgoing += self._sealer.seal(b"")
        return True

    def _take_records(self) -> Iterator[bytes]:
        incoming, opener = self._incoming, self._opener
        assert opener is not None
        while len(incoming) >= _LENGTH_BYTES:
            length = bytes(incoming[:_LENGTH_BYTES])
            size = int.from_bytes(length)
            room = MESSAGE_BYTES_MAX if self.established else 0
            if not 0 <= size - _TAG_BYTES <= room:
                raise FleetError("too-long" if self.established else "forged")
            if len(incoming) < _LENGTH_BYTES + size:
                return
            message = opener.open(length, bytes(incoming[_LENGTH_BYTES : _LENGTH_BYTES + size]))
            del incoming[: _LENGTH_BYTES + size]
            if self.established:
                yield message
                continue
            self.established = True
            if self._calls:
                assert self._sealer is not None
                self._outgoing += self._sealer.seal(b"")


class _Records:
    """One direction."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._number = 0

    def seal(self, message: bytes) -> bytes:
        length = (len(message) + _TAG_BYTES).to_bytes(_LENGTH_BYTES)
        return length + self._cipher.encrypt(self._next_nonce(), message, length)

    def open(self, length: bytes, sealed: bytes) -> bytes:
        try:
            return self._cipher.decrypt(self._next_nonce(), sealed, length)
        except InvalidTag as exc:
            raise FleetError("forged") from exc

    def _next_nonce(self) -> bytes:
        number, self._number = self._number, self._number + 1
        return number.to_bytes(12)


def _hello(key_id: int, nonce: bytes) -> bytes:
    return _MAGIC + bytes((_VERSION, key_id)) + nonce


def _derive(key: bytes, hellos: bytes, ends: tuple[str, str]) -> tuple[bytes, bytes]:
    """Return the keys of what the caller and of what the answerer seals."""
    context = b"\0".join((_CONTEXT, *(each.encode() for each in ends), hellos))
    nonces = hellos[_HELLO_BYTES - _NONCE_BYTES : _HELLO_BYTES] + hellos[-_NONCE_BYTES:]
    derived = HKDF(SHA256(), 2 * _KEY_BYTES, nonces, context).derive(key)
    return derived[:_KEY_BYTES], derived[_KEY_BYTES:]
