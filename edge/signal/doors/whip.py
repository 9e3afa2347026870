"""WHIP (RFC 9725): a session as an HTTP resource.

The RFC is about sending media to a server. Here the offer decides the direction, as everywhere.

| method | at the endpoint | at the session |
| --- | --- | --- |
| POST | an offer: 201, Location, ETag | |
| PATCH | | candidates, which a lite agent ignores: 204; an ICE restart: 200, the new ETag |
| DELETE | | ends it: 200 |
| OPTIONS | Accept-Post | Accept-Patch |

The entity-tag stands for our ICE credentials, so nothing has to be remembered for it, and a worker
that did not open the session can check it. A request for a restart has ``If-Match: *`` and other
credentials than the client's current ones; with the current ones it is a matter of candidates.
"""

import re
from collections.abc import Sequence
from hashlib import blake2s

from edge.errors import SignalError
from edge.signal.doors.resource import (
    SDP,
    Handler,
    Request,
    Resource,
    open_session,
    reference_of,
    visiting,
)
from edge.signal.exchange import Response, error_response
from edge.signal.host import OpenedSession
from edge.signal.messages import ByeReason, ErrorCode
from edge.signal.settings import SignalSettings

ENDPOINT = "/v1/whip"
SESSIONS = "/v1/whip/sessions"
FRAGMENT = "application/trickle-ice-sdpfrag"
FRAGMENT_BYTES_MAX = 16_384

_FRAGMENT = re.compile(r"(?:[a-z]=[^\r\n\0]*(?:\r?\n|\Z))*\s*")
_CREDENTIALS = re.compile(r"^a=ice-(ufrag|pwd):([^\r\n]*)", re.MULTILINE)
_ANY_TAG = frozenset({"*", '"*"'})
"""RFC 9110 has the first one, the examples of RFC 9725 the second."""


class Whip:
    """The door for WHIP clients."""

    def __init__(self, settings: SignalSettings) -> None:
        self._settings = settings

    def endpoint(self, route: str | None) -> Resource:
        """Return the resource that takes offers for a route, None for the default one."""

        async def create(request: Request) -> Response:
            session = await open_session(request, request.text(), route, self._settings)
            return Response(
                201,
                session.answer_sdp.encode(),
                (
                    ("Content-Type", SDP),
                    ("Location", f"{SESSIONS}/{reference_of(session)}"),
                    ("ETag", entity_tag(session.answer_sdp)),
                    ("Accept-Patch", FRAGMENT),
                ),
            )

        return Resource({"POST": create}, frozenset({SDP}), options=(("Accept-Post", SDP),))

    def session(self, reference: str) -> Resource:
        """Return the resource of one session."""
        methods = {"PATCH": self._patching(reference), "DELETE": self._ending(reference)}
        accept = (("Accept-Patch", FRAGMENT),)
        return Resource(methods, frozenset({FRAGMENT}), FRAGMENT_BYTES_MAX, accept)

    def _patching(self, reference: str) -> Handler:
        async def patch(request: Request) -> Response:
            matches = request.head.tokens(b"if-match")
            if not matches:
                text = "PATCH needs If-Match: the session's ETag, or * to restart ICE."
                return error_response(428, "precondition-required", text)
            fragment = request.text()
            if not _FRAGMENT.fullmatch(fragment):
                raise SignalError(ErrorCode.MALFORMED_MESSAGE, "This is not an SDP fragment.")
            async with visiting(request, reference, self._settings) as session:
                return await _patch(session, fragment, matches)

        return patch

    def _ending(self, reference: str) -> Handler:
        async def end(request: Request) -> Response:
            async with visiting(request, reference, self._settings) as session:
                session.close(ByeReason.HANG_UP)
            return Response(200)

        return end


async def _patch(session: OpenedSession, fragment: str, matches: Sequence[str]) -> Response:
    current = entity_tag(session.answer_sdp)
    if not _ANY_TAG.intersection(matches):
        if current in matches:
            return Response(204)
        return error_response(412, "precondition-failed", "The session's ETag is another.")
    if "a=ice-ufrag:" not in fragment:
        return Response(204)
    answer = await session.restart(fragment)
    restarted = entity_tag(answer)
    if restarted == current:
        return Response(204)
    return Response(200, answer.encode(), (("Content-Type", FRAGMENT), ("ETag", restarted)))


def entity_tag(sdp: str) -> str:
    """Return the tag of the ICE session that an answer, or a fragment of ours, belongs to."""
    credentials = dict(reversed(_CREDENTIALS.findall(sdp)))  # of several the first counts
    text = f"{credentials.get('ufrag')}:{credentials.get('pwd')}"
    return f'"{blake2s(text.encode(), digest_size=12).hexdigest()}"'
