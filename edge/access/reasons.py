"""Every reason of an ``AccessError``: what HTTP calls it, and a sentence for people."""

# ruff: noqa: S105 (names of reasons, not passwords)

from collections.abc import Mapping
from enum import StrEnum

from edge.errors import AccessError

UNAUTHORIZED = 401
BAD_REQUEST = 400
FORBIDDEN = 403
TOO_MANY_REQUESTS = 429
UNAVAILABLE = 503


class AccessReason(StrEnum):
    """Why someone is refused."""

    CREDENTIALS_MISSING = "credentials-missing"
    API_KEY_UNKNOWN = "api-key-unknown"
    TOKEN_MALFORMED = "token-malformed"
    TOKEN_KEY = "token-key"
    """No key of ours has its ``kid``, or that key has another algorithm."""
    TOKEN_SIGNATURE = "token-signature"
    TOKEN_CLAIMS = "token-claims"
    """A claim is missing, of the wrong type or beyond a limit."""
    TOKEN_EXPIRED = "token-expired"
    TOKEN_NOT_YET = "token-not-yet"
    TOKEN_USED = "token-used"
    REQUEST_MALFORMED = "request-malformed"
    """A request for a client secret that makes no sense."""
    ROUTE_FORBIDDEN = "route-forbidden"
    ORIGIN_FORBIDDEN = "origin-forbidden"
    QUOTA_OFFERS = "quota-offers"
    QUOTA_SESSIONS = "quota-sessions"
    ACCESS_BUSY = "access-busy"
    """The tables that workers share have no room, or another worker keeps them locked."""


_STATUS_AND_SENTENCE: Mapping[AccessReason, tuple[int, str]] = {
    AccessReason.CREDENTIALS_MISSING: (UNAUTHORIZED, "A client secret is needed here."),
    AccessReason.API_KEY_UNKNOWN: (UNAUTHORIZED, "This is not an API key of this server."),
    AccessReason.TOKEN_MALFORMED: (UNAUTHORIZED, "The client secret is not a signed JWT."),
    AccessReason.TOKEN_KEY: (
        UNAUTHORIZED,
        "The client secret names no key of this server, or another algorithm than its key's.",
    ),
    AccessReason.TOKEN_SIGNATURE: (UNAUTHORIZED, "The client secret's signature is wrong."),
    AccessReason.TOKEN_CLAIMS: (
        UNAUTHORIZED,
        "A claim of the client secret is missing, of the wrong type or beyond its limit.",
    ),
    AccessReason.TOKEN_EXPIRED: (UNAUTHORIZED, "The client secret has expired."),
    AccessReason.TOKEN_NOT_YET: (UNAUTHORIZED, "The client secret is not valid yet."),
    AccessReason.TOKEN_USED: (UNAUTHORIZED, "The client secret has been used already."),
    AccessReason.REQUEST_MALFORMED: (BAD_REQUEST, "This is not a request for a client secret."),
    AccessReason.ROUTE_FORBIDDEN: (FORBIDDEN, "The credentials are not for this route."),
    AccessReason.ORIGIN_FORBIDDEN: (FORBIDDEN, "Pages of this origin may not call here."),
    AccessReason.QUOTA_OFFERS: (TOO_MANY_REQUESTS, "Too many offers in a short time."),
    AccessReason.QUOTA_SESSIONS: (TOO_MANY_REQUESTS, "Too many sessions at once."),
    AccessReason.ACCESS_BUSY: (UNAVAILABLE, "The server is busy."),
}


def refuse(
    reason: AccessReason, detail: str = "", *, retry_after: float | None = None
) -> AccessError:
    """Return the error for a reason. ``detail`` must quote nothing that is secret."""
    sentence = _STATUS_AND_SENTENCE[reason][1]
    return AccessError(
        reason, f"{sentence} {detail}" if detail else sentence, retry_after=retry_after
    )


def http_status(error: AccessError) -> int:
    """Return the HTTP status that says it; with ``retry_after`` goes a Retry-After header."""
    return _STATUS_AND_SENTENCE[AccessReason(error.reason)][0]


def challenge(error: AccessError) -> str | None:
    """Return the WWW-Authenticate header of a 401 (RFC 6750 section 3); None: not a 401."""
    if http_status(error) != UNAUTHORIZED:
        return None
    if error.reason == AccessReason.CREDENTIALS_MISSING:
        return "Bearer"
    return 'Bearer error="invalid_token"'
