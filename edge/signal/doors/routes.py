"""From a request to the door that answers it, and what all of them have in common.

| path | door |
| --- | --- |
| ``/v1/realtime/calls``, ``.../<call>``, ``.../<call>/hangup`` | realtime calls |
| ``/v1/whip``, ``/v1/whip/<route>``, ``/v1/whip/sessions/<session>`` | WHIP |
| ``/v1/client_secrets``, ``/v1/realtime/client_secrets`` | client secrets |

Nothing in a path is percent-decoded: what it may be has no characters that need it.
"""

import re
from collections.abc import Awaitable, Callable

import trio

from edge.errors import RedirectError, SdpError, SignalError
from edge.signal.cors import preflight_headers, sole_origin, with_cors
from edge.signal.doors.calls import CALLS, RealtimeCalls
from edge.signal.doors.client_secrets import CLIENT_SECRETS, ClientSecrets
from edge.signal.doors.resource import Request, Resource, refusal
from edge.signal.doors.whip import ENDPOINT, SESSIONS, Whip
from edge.signal.entry import Doorkeeper, Entry, bearer
from edge.signal.exchange import RequestHead, Response, error_response
from edge.signal.host import SessionHost
from edge.signal.messages import ErrorCode
from edge.signal.settings import SignalSettings
from edge.steering.redirect import http_url
from edge.steering.visitor import Visitor

ReceiveBody = Callable[[int], Awaitable[bytes | Response]]
"""Takes the most bytes that the body may have."""

_SEGMENT = r"([A-Za-z0-9_.-]{1,160})"
_CALL = re.compile(rf"{CALLS}/{_SEGMENT}")
_HANG_UP = re.compile(rf"{CALLS}/{_SEGMENT}/hangup")
_WHIP_ROUTE = re.compile(rf"{ENDPOINT}/([A-Za-z0-9_.-]{{1,64}})")
_WHIP_SESSION = re.compile(rf"{SESSIONS}/{_SEGMENT}")


class Doors:
    """All doors that are plain HTTP."""

    def __init__(self, host: SessionHost, keeper: Doorkeeper, settings: SignalSettings) -> None:
        self._host = host
        self._keeper = keeper
        self._settings = settings
        self._calls = RealtimeCalls(settings)
        self._whip = Whip(settings)
        self._secrets = ClientSecrets(keeper, settings)

    def find(self, path: str) -> Resource | None:
        """Return what is at a path."""
        if path == CALLS:
            return self._calls.endpoint
        if path == ENDPOINT:
            return self._whip.endpoint(None)
        if path in CLIENT_SECRETS:
            return self._secrets.endpoint
        if match := _HANG_UP.fullmatch(path):
            return self._calls.hang_up(match[1])
        if match := _CALL.fullmatch(path):
            return self._calls.call(match[1])
        if match := _WHIP_SESSION.fullmatch(path):
            return self._whip.session(match[1])
        if match := _WHIP_ROUTE.fullmatch(path):
            return self._whip.endpoint(match[1])
        return None

    async def answer(
        self, resource: Resource, head: RequestHead, visitor: Visitor, receive_body: ReceiveBody
    ) -> Response:
        """Answer a request for a resource. A page of an allowed origin can read every answer."""
        try:
            self._keeper.check_origin(head)
        except SignalError as exc:
            return with_cors(refusal(exc, head, self._settings), None)
        try:
            response = await self._answer(resource, head, visitor, receive_body)
        except RedirectError as exc:
            response = _redirection(exc, head)
        except (SdpError, SignalError) as exc:
            response = refusal(exc, head, self._settings)
        except trio.TooSlowError:
            late = SignalError(ErrorCode.BUSY, "The server took too long.")
            response = refusal(late, head, self._settings)
        return with_cors(response, sole_origin(head))

    async def _answer(
        self, resource: Resource, head: RequestHead, visitor: Visitor, receive_body: ReceiveBody
    ) -> Response:
        allow = ("Allow", ", ".join(resource.allow))
        if head.method == "OPTIONS":
            preflight = preflight_headers(head, resource.allow)
            return Response(200, headers=(allow, *resource.options, *preflight))
        handler = resource.methods.get(head.method)
        if handler is None:
            text = f"Only {allow[1]} are served here."
            return error_response(405, "method-not-allowed", text, allow)
        entry = Entry(self._host, self._keeper, bearer(head), visitor)
        request = Request(head, entry)
        if resource.accepts and head.method != "DELETE":
            refused = _unsupported(resource, request)
            if refused is not None:
                return refused
        body = await receive_body(resource.body_bytes_max)
        if isinstance(body, Response):
            return body
        return await handler(Request(head, entry, body))


def _redirection(error: RedirectError, head: RequestHead) -> Response:
    """Send the client on with the same method and body (RFC 9110 section 15.4.8)."""
    there = http_url(error.signaling, head.path, head.query)
    return Response(307, headers=(("Location", there), ("Cache-Control", "no-store")))


def _unsupported(resource: Resource, request: Request) -> Response | None:
    if request.head.tokens(b"content-encoding") not in ([], ["identity"]):
        text = "Compressed bodies are not taken here."
        return error_response(415, "unsupported-media-type", text, ("Accept-Encoding", "identity"))
    if request.media_type in resource.accepts:
        return None
    text = f"The body has to be {' or '.join(sorted(resource.accepts))}."
    return error_response(415, "unsupported-media-type", text, *resource.options)
