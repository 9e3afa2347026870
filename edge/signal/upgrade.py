"""Which requests may become a WebSocket of edge.v1 (RFC 6455 §4.2.1)."""

import base64
import binascii

from edge.signal.exchange import RequestHead, Response, error_response
from edge.signal.messages import SUBPROTOCOL


def refuse_upgrade(head: RequestHead) -> Response | None:
    """Return the response that refuses a request on the WebSocket's path, None for a good one.

    A good one is sure to pass wsproto 1.3, whose failures would leave trio-websocket 0.12 waiting.
    """
    if head.method != "GET":
        return error_response(
            405, "method-not-allowed", "Only GET is served here.", ("Allow", "GET")
        )
    if "websocket" not in (token.lower() for token in head.tokens(b"upgrade")):
        return error_response(
            426, "upgrade-required", "This is a WebSocket endpoint.", ("Upgrade", "websocket")
        )
    if head.values(b"sec-websocket-version") != [b"13"]:
        return error_response(
            426,
            "upgrade-required",
            "Only version 13 of the WebSocket protocol is served here.",
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
        )
    if not _is_handshake(head):
        return error_response(400, "malformed-request", "This is not a WebSocket handshake.")
    if head.tokens(b"sec-websocket-protocol") and chosen_subprotocol(head) is None:
        return error_response(
            400, "malformed-request", f"The only subprotocol served here is {SUBPROTOCOL}."
        )
    return None


def chosen_subprotocol(head: RequestHead) -> str | None:
    """Return the subprotocol to accept; None if the client asks for none that we know."""
    return SUBPROTOCOL if SUBPROTOCOL in head.tokens(b"sec-websocket-protocol") else None


def _is_handshake(head: RequestHead) -> bool:
    return (
        head.http_version == "1.1"
        and "upgrade" in (token.lower() for token in head.tokens(b"connection"))
        and len(head.values(b"connection")) == 1
        and [value.lower() for value in head.values(b"upgrade")] == [b"websocket"]
        and _has_key(head)
        and _is_host(head)
        and not head.values(b"content-length")
        and not head.values(b"transfer-encoding")
        and all(value.isascii() for _, value in head.headers)
    )


def _has_key(head: RequestHead) -> bool:
    keys = head.values(b"sec-websocket-key")
    if len(keys) != 1:
        return False
    try:
        return len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        return False


def _is_host(head: RequestHead) -> bool:
    """Whether wsproto can decode the Host header. h11 has made sure that there is one."""
    try:
        head.values(b"host")[0].decode("idna")
    except UnicodeError:
        return False
    return True
