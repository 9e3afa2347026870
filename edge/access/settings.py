"""What an operator decides about access: values, fit to be sent to a worker."""

import hmac
import re
from hashlib import sha256

from attrs import field, frozen

from edge.access.keys import SharedKey, TokenKey, check_key_name
from edge.access.origins import OriginPattern
from edge.access.quota import UNLIMITED, Limits

OWN_KEY_ID = "edge"
"""The ``kid`` of secrets that hosts mint themselves."""
API_KEY_CHARS_MIN = 32

_HASHED = re.compile(r"sha256:([0-9A-Fa-f]{64})")


@frozen
class KeyTerms:
    """What the holder of a key may do, and give away."""

    routes: frozenset[str] = frozenset()
    """Empty: all."""
    limits: Limits = UNLIMITED
    """Of everything that is done with this key together."""
    max_duration: float | None = None
    """Seconds that one session may last."""


ANYTHING = KeyTerms()


@frozen
class TrustedKey:
    """A key whose owner signs client secrets."""

    key: TokenKey
    terms: KeyTerms = ANYTHING


@frozen
class ApiKey:
    """A key that an operator's server shows: for client secrets, or to open a session itself."""

    name: str = field(validator=check_key_name)
    digest: bytes = field(repr=False)
    """SHA-256 of the key."""
    terms: KeyTerms = ANYTHING


@frozen
class AccessSettings:
    """What an operator decides about access."""

    own_key: SharedKey
    """Signs the secrets that are minted here; ``derive_own_key`` makes it."""
    open: bool = False
    """Whether strangers without credentials may open sessions."""
    token_keys: tuple[TrustedKey, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    origins: tuple[OriginPattern, ...] = (OriginPattern("loopback"),)
    default_route: str = "default"
    lifetime: float = 60.0
    """Seconds that a secret lives if nobody says so."""
    lifetime_max: float = 600.0
    max_duration: float | None = None
    """Seconds that any session may last."""
    tenant: Limits = UNLIMITED
    """Of each tenant of a key."""
    address: Limits = UNLIMITED
    """Of each IPv4 address and IPv6 /64. Loopback is not counted: a proxy stands there."""


def derive_own_key(password_key: bytes) -> SharedKey:
    """Return the key that hosts which share ``password_key`` mint secrets with."""
    return SharedKey(OWN_KEY_ID, hmac.digest(password_key, b"edge client secrets", "sha256"))


def api_key_digest(text: str) -> bytes:
    """Return the digest of an API key as a configuration has it: the key, or ``sha256:`` and hex.

    Raises:
        ValueError: too short to be unguessable. The text does not quote it.

    """
    hashed = _HASHED.fullmatch(text)
    if hashed:
        return bytes.fromhex(hashed[1])
    if len(text) < API_KEY_CHARS_MIN:
        raise ValueError(f"an API key has {API_KEY_CHARS_MIN} characters or more, or is a hash")
    return digest_api_key(text)


def digest_api_key(shown: str) -> bytes:
    """Return the digest of an API key that somebody shows."""
    return sha256(shown.encode("utf-8", "surrogatepass")).digest()
