"""What a browser has to be told before it lets a page of another origin talk to us (Fetch, CORS).

Only pages whose origin is allowed are told anything. Credentials of the browser (cookies, TLS
certificates) are never asked for, so what a page sends is what its author put there, and any header
that it wants to send is as good as none unless we know it.
"""

import re
from collections.abc import Iterable

from attrs import evolve

from edge.signal.exchange import RequestHead, Response

PREFLIGHT_LIFETIME_S = 7_200
"""The longest that Chromium keeps an answer to a preflight."""
USUAL_HEADERS = "Authorization, Content-Type, If-Match"
EXPOSED_HEADERS = "Location, ETag, Accept-Patch, Accept-Post, Allow, Retry-After, WWW-Authenticate"

_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(?:, ?[A-Za-z0-9-]{1,64}){0,31}")


def sole_origin(head: RequestHead) -> str | None:
    """Return the Origin header, None without one. Several are as bad as a strange one: ``null``."""
    values = head.values(b"origin")
    if not values:
        return None
    return values[0].decode("latin-1") if len(values) == 1 else "null"


def is_own_page(origin: str, head: RequestHead) -> bool:
    """Return whether a page comes from the host that it calls.

    For https alone: there the browser has verified the host's name. Over plain HTTP a stranger's
    name can be made to point at any address (DNS rebinding).
    """
    hosts = [value.decode("latin-1").lower() for value in head.values(b"host")]
    return [origin.lower()] == [f"https://{host.removesuffix(':443')}" for host in hosts]


def with_cors(response: Response, origin: str | None) -> Response:
    """Let a page of an allowed origin read the response."""
    if origin is None:
        return evolve(response, headers=(*response.headers, ("Vary", "Origin")))
    return evolve(
        response,
        headers=(
            *response.headers,
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
            ("Vary", "Origin"),
        ),
    )


def preflight_headers(head: RequestHead, methods: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return what answers a preflight beside ``with_cors``; nothing if it is none."""
    if not head.values(b"access-control-request-method"):
        return ()
    asked = head.text(b"access-control-request-headers") or ""
    return (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        (
            "Access-Control-Allow-Headers",
            asked if _HEADER_NAMES.fullmatch(asked) else USUAL_HEADERS,
        ),
        ("Access-Control-Max-Age", str(PREFLIGHT_LIFETIME_S)),
    )
