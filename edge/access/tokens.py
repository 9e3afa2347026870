"""Client secrets: short-lived tokens that let a stranger open one session.

A client secret is a JWT (RFC 7519) in compact form, signed with a key that the operator chose. Its
header's ``kid`` names the key, and the key has one algorithm, whatever the header's ``alg`` says.

| claim | type | meaning |
| --- | --- | --- |
| ``exp`` | number | unix seconds after which it opens nothing; at most a configured time ahead |
| ``jti`` | string | its name: each opens one session |
| ``aud`` | string or array | ``edge``, or has it |
| ``nbf``, ``iat`` | number, optional | not good before |
| ``route`` | string, optional | the only route that it opens |
| ``max_duration`` | number, optional | seconds that its session may last |
| ``metadata`` | object, optional | for the backend |
| ``sub`` | string, optional | tenant: sessions of one are counted together |
| ``iss`` | string, optional | who made it |

Other claims mean nothing here. Times are unix seconds: tokens come from other machines.
"""

import base64
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from attrs import field, frozen
from jwt import PyJWS
from jwt.exceptions import InvalidAlgorithmError, InvalidSignatureError, PyJWTError

from edge.access.keys import HS256, KeyRing, SharedKey
from edge.access.metadata import metadata_problem
from edge.access.reasons import AccessReason, refuse
from edge.machine import Entropy

AUDIENCE = "edge"
LEEWAY = 10.0
"""How far the clocks of minter and host may differ."""
TOKEN_CHARS_MAX = 8192
TOKEN_ID_BYTES = 16

_SHAPE = re.compile(r"([A-Za-z0-9_-]+)(\.[A-Za-z0-9_-]+){2}")
_DETAIL_CHARS_MAX = 200

Label = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,128}\Z")]
"""Visible ASCII, so that it can stand in a log line."""
RouteName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
Duration = Annotated[float, msgspec.Meta(gt=0)]


@frozen
class Grant:
    """What someone may do: open a session, on these terms."""

    expires_at: float | None = None
    """Unix seconds; None: not limited."""
    route: str | None = None
    """Before it was asked for: the only route, None for any. Afterwards: the one to open, None for
    the default one."""
    max_duration: float | None = None
    """Seconds that the session may last."""
    tenant: str | None = None
    metadata: Mapping[str, Any] = field(factory=dict, repr=False)
    """The operator's word on the caller."""
    issuer: str | None = None
    key: str = ""
    """Name of the key that vouches for it; empty: nobody does."""
    token_id: str | None = field(default=None, repr=False)
    """The token's name. None: not from a token, so nothing is used up."""


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    exp: float
    aud: str | list[str]
    jti: Label
    nbf: float | None = None
    iat: float | None = None
    iss: Label | None = None
    sub: Label | None = None
    route: RouteName | None = None
    max_duration: Duration | None = None
    metadata: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Claims)
_encoder = msgspec.json.Encoder()
_signer = PyJWS([HS256])


def mint(key: SharedKey, grant: Grant, now: float, entropy: Entropy) -> str:
    """Return a token that says what ``grant`` does; a name is drawn if it has none.

    ``expires_at`` has to be there. ``key`` of the grant means nothing here.
    """
    assert grant.expires_at is not None
    token_id = grant.token_id or _base64(entropy(TOKEN_ID_BYTES))
    optional = {
        "iss": grant.issuer,
        "sub": grant.tenant,
        "route": grant.route,
        "max_duration": grant.max_duration,
        "metadata": grant.metadata or None,
    }
    claims = {
        "aud": AUDIENCE,
        "exp": int(grant.expires_at),
        "iat": int(now),
        "jti": token_id,
        **{name: value for name, value in optional.items() if value is not None},
    }
    return _signer.encode(_encoder.encode(claims), key.secret, HS256, {"kid": key.id})


def open_token(token: str, keys: KeyRing, lifetime_max: float, now: float) -> Grant:
    """Return what a token grants. Whether it was used before is not known here.

    Raises:
        AccessError: token-malformed, token-key, token-signature, token-claims, token-expired or
            token-not-yet. No text contains the token or a part of it.

    """
    if len(token) > TOKEN_CHARS_MAX or not _SHAPE.fullmatch(token):
        raise refuse(AccessReason.TOKEN_MALFORMED)
    key_id = _key_id(token)
    claims = _decode_claims(_verify(token, keys, key_id))
    _check_times(claims, lifetime_max, now)
    return Grant(
        expires_at=claims.exp,
        route=claims.route,
        max_duration=claims.max_duration,
        tenant=claims.sub,
        metadata=claims.metadata or {},
        issuer=claims.iss,
        key=key_id,
        token_id=claims.jti,
    )


def _key_id(token: str) -> str:
    try:
        header: dict[str, Any] = _signer.get_unverified_header(token)
    except PyJWTError as exc:
        raise refuse(AccessReason.TOKEN_MALFORMED) from exc
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise refuse(AccessReason.TOKEN_KEY, 'It has no "kid".')
    return key_id


def _verify(token: str, keys: KeyRing, key_id: str) -> bytes:
    verifier = keys.select(key_id)
    try:
        return verifier.open(token)
    except InvalidSignatureError as exc:
        raise refuse(AccessReason.TOKEN_SIGNATURE) from exc
    except InvalidAlgorithmError as exc:
        raise refuse(AccessReason.TOKEN_KEY) from exc
    except PyJWTError as exc:
        raise refuse(AccessReason.TOKEN_MALFORMED) from exc


def _decode_claims(payload: bytes) -> _Claims:
    try:
        claims = _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise refuse(AccessReason.TOKEN_CLAIMS, str(exc)[:_DETAIL_CHARS_MAX]) from exc
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if AUDIENCE not in audiences:
        raise refuse(AccessReason.TOKEN_CLAIMS, f'not for "{AUDIENCE}" - at `$.aud`')
    problem = metadata_problem(claims.metadata) if claims.metadata is not None else None
    if problem is not None:
        raise refuse(AccessReason.TOKEN_CLAIMS, problem)
    return claims


def _check_times(claims: _Claims, lifetime_max: float, now: float) -> None:
    if claims.exp <= now - LEEWAY:
        raise refuse(AccessReason.TOKEN_EXPIRED)
    if claims.exp > now + lifetime_max + LEEWAY:
        text = f"more than {lifetime_max:g} seconds ahead - at `$.exp`"
        raise refuse(AccessReason.TOKEN_CLAIMS, text)
    starts = [start for start in (claims.nbf, claims.iat) if start is not None]
    if any(start > now + LEEWAY for start in starts):
        raise refuse(AccessReason.TOKEN_NOT_YET)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
