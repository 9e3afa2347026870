"""The keys that client secrets are signed with. A key has one algorithm: a token cannot choose.

Keys are plain values, fit to be sent to a worker. Their constructors raise ValueError with a text
that contains no key material.
"""

import re
from collections.abc import Iterable

from attrs import Attribute, field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from edge.access.reasons import AccessReason, refuse

HS256 = "HS256"
EDDSA = "EdDSA"

SECRET_BYTES_MIN = 32
"""RFC 7518 section 3.2."""

KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def check_key_name(_: object, __: "Attribute[str]", name: str) -> None:
    """Validate the name of a key, which stands in configurations, tokens and logs."""
    if not KEY_NAME.fullmatch(name):
        raise ValueError('a key\'s name is 1 to 64 letters, digits, "_", "." and "-"')


def _check_secret(_: object, __: "Attribute[bytes]", secret: bytes) -> None:
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"a shared secret has {SECRET_BYTES_MIN} bytes or more")
    try:
        PyJWS([HS256]).encode(b"", secret, HS256)
    except PyJWTError as exc:
        raise ValueError("this looks like a public key or a JWK, not a shared secret") from exc


def _check_pem(_: object, __: "Attribute[str]", pem: str) -> None:
    _load_public_key(pem)


@frozen
class SharedKey:
    """A secret that signs and verifies: HS256 (RFC 7518 section 3.2)."""

    id: str = field(validator=check_key_name)
    """The ``kid`` of its tokens."""
    secret: bytes = field(validator=_check_secret, repr=False)


@frozen
class PublicKey:
    """The public half of an Ed25519 key: EdDSA (RFC 8037). Its owner alone can sign."""

    id: str = field(validator=check_key_name)
    """The ``kid`` of its tokens."""
    pem: str = field(validator=_check_pem, repr=False)
    """SubjectPublicKeyInfo, ``-----BEGIN PUBLIC KEY-----``."""


TokenKey = SharedKey | PublicKey


@frozen
class Verifier:
    """A key, ready to verify."""

    algorithm: str
    _material: bytes | Ed25519PublicKey = field(repr=False)

    def open(self, token: str) -> bytes:
        """Return the payload of a token that this key signed, by this key's algorithm.

        Raises:
            PyJWTError: anything else.

        """
        payload: bytes = PyJWS([self.algorithm]).decode(token, self._material, [self.algorithm])
        return payload


class KeyRing:
    """Finds the key that a token names.

    Raises:
        ValueError: two keys have one id.

    """

    def __init__(self, keys: Iterable[TokenKey]) -> None:
        self._verifiers: dict[str, Verifier] = {}
        for key in keys:
            if key.id in self._verifiers:
                raise ValueError(f'two token keys have the id "{key.id}"')
            self._verifiers[key.id] = _verifier(key)

    def select(self, key_id: str | None) -> Verifier:
        """Return the key with this id.

        Raises:
            AccessError: token-key.

        """
        verifier = self._verifiers.get(key_id) if key_id is not None else None
        if verifier is None:
            raise refuse(AccessReason.TOKEN_KEY)
        return verifier


def _verifier(key: TokenKey) -> Verifier:
    if isinstance(key, SharedKey):
        return Verifier(HS256, key.secret)
    return Verifier(EDDSA, _load_public_key(key.pem))


def _load_public_key(pem: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError("not a public key in PEM form") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004 (a value of the operator's)
    return key
