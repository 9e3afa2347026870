"""Realtime calls: an offer is posted, the answer comes back, as OpenAI's clients do it.

``POST /v1/realtime/calls`` takes the offer itself (``application/sdp``), a form with the parts
``sdp`` and ``session``, or the same as JSON. Of the session's configuration only ``model`` means
anything here: it names a route if there is one of that name. The call ends by
``POST .../<call>/hangup``, or DELETE on the call.
"""

from typing import Any
from urllib.parse import parse_qs

import msgspec

from edge.errors import SignalError
from edge.signal.doors.resource import (
    BODY_BYTES_MAX,
    JSON,
    SDP,
    Handler,
    Request,
    Resource,
    decode_text,
    open_session,
    reference_of,
    visiting,
)
from edge.signal.exchange import Response
from edge.signal.messages import SENTENCE_CHARS_MAX, ByeReason, ErrorCode
from edge.signal.multipart import decode_form
from edge.signal.settings import SignalSettings

CALLS = "/v1/realtime/calls"
FORM = "multipart/form-data"
QUERY_FIELDS_MAX = 16


class _Session(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None


class _Call(msgspec.Struct, frozen=True, kw_only=True):
    sdp: str
    session: _Session = _Session()


_session_decoder = msgspec.json.Decoder(_Session)
_call_decoder = msgspec.json.Decoder(_Call)


class RealtimeCalls:
    """The door for realtime calls."""

    def __init__(self, settings: SignalSettings) -> None:
        self._settings = settings
        self.endpoint = Resource(
            {"POST": self._create},
            frozenset({SDP, FORM, JSON}),
            BODY_BYTES_MAX,
            (("Accept-Post", f"{SDP}, {FORM}, {JSON}"),),
        )

    def call(self, reference: str) -> Resource:
        """Return the resource of one call."""
        return Resource({"DELETE": self._ending(reference)})

    def hang_up(self, reference: str) -> Resource:
        """Return the resource that ends a call."""
        return Resource({"POST": self._ending(reference)})

    async def _create(self, request: Request) -> Response:
        sdp, model = _decode(request)
        route = model if model in self._settings.routes else None
        session = await open_session(request, sdp, route, self._settings)
        location = ("Location", f"{CALLS}/{reference_of(session)}")
        return Response(201, session.answer_sdp.encode(), (("Content-Type", SDP), location))

    def _ending(self, reference: str) -> Handler:
        async def end(request: Request) -> Response:
            async with visiting(request, reference, self._settings) as session:
                session.close(ByeReason.HANG_UP)
            return Response(200)

        return end


def _decode(request: Request) -> tuple[str, str | None]:
    """Return the offer and the model that is asked for."""
    model = parse_qs(request.head.query, max_num_fields=QUERY_FIELDS_MAX).get("model", [None])[0]
    if request.media_type == SDP:
        return request.text(), model
    if request.media_type == JSON:
        call = _decode_json(_call_decoder, request.body)
        return call.sdp, call.session.model or model
    form = decode_form(request.body, request.head.text(b"content-type") or "")
    if "sdp" not in form:
        raise SignalError(ErrorCode.MALFORMED_MESSAGE, 'The form has no part "sdp".')
    if "session" in form:
        model = _decode_json(_session_decoder, form["session"]).model or model
    return decode_text(form["sdp"]), model


def _decode_json(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        text = f"This is not a call's JSON: {str(exc)[:SENTENCE_CHARS_MAX]}"
        raise SignalError(ErrorCode.MALFORMED_MESSAGE, text) from exc
