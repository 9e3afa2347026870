"""Client secrets for an operator's server: ``POST /v1/client_secrets`` with an API key.

The body is a ``SecretRequest``. What OpenAI's clients send is understood too: ``expires_after``
says how long the secret lives, and ``session.model`` names a route if there is one of that name.
"""

from typing import Any, Literal

import msgspec

from edge.access.client_secrets import decode_secret_request
from edge.errors import AccessError, SignalError
from edge.signal.doors.resource import JSON, Request, Resource
from edge.signal.entry import Doorkeeper, bearer
from edge.signal.exchange import Response, json_response
from edge.signal.messages import SENTENCE_CHARS_MAX, ErrorCode
from edge.signal.settings import SignalSettings

CLIENT_SECRETS = ("/v1/client_secrets", "/v1/realtime/client_secrets")
BODY_BYTES_MAX = 16_384


class _ExpiresAfter(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float
    anchor: Literal["created_at"] = "created_at"


_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_expiry_decoder = msgspec.json.Decoder(_ExpiresAfter)
_session_decoder = msgspec.json.Decoder(dict[str, Any])


class ClientSecrets:
    """The door for those who have an API key."""

    def __init__(self, keeper: Doorkeeper, settings: SignalSettings) -> None:
        self._keeper = keeper
        self._settings = settings
        self.endpoint = Resource(
            {"POST": self._mint}, frozenset({JSON}), BODY_BYTES_MAX, (("Accept-Post", JSON),)
        )

    async def _mint(self, request: Request) -> Response:
        credentials = bearer(request.head)
        fields, session = self._decode(request.body)
        try:
            wanted = decode_secret_request(msgspec.json.encode(fields))
        except AccessError as exc:
            raise SignalError(ErrorCode.MALFORMED_MESSAGE, str(exc)) from exc
        secret = self._keeper.mint_secret(credentials, wanted)
        answer: dict[str, Any] = {"value": secret.value, "expires_at": secret.expires_at}
        if session is not None:
            answer["session"] = {"type": "realtime", "object": "realtime.session", **session}
        return json_response(200, answer, ("Cache-Control", "no-store"))

    def _decode(self, body: bytes) -> tuple[dict[str, msgspec.Raw], dict[str, Any] | None]:
        """Return a SecretRequest's fields, and the session that the caller described."""
        try:
            fields = _fields_decoder.decode(body or b"{}")
            expiry, described = fields.pop("expires_after", None), fields.pop("session", None)
            if expiry is not None:
                seconds = _expiry_decoder.decode(expiry).seconds
                fields.setdefault("lifetime", msgspec.Raw(msgspec.json.encode(seconds)))
            session = None if described is None else _session_decoder.decode(described)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            text = f"This is not a request for a client secret: {str(exc)[:SENTENCE_CHARS_MAX]}"
            raise SignalError(ErrorCode.MALFORMED_MESSAGE, text) from exc
        model = session.get("model") if session is not None else None
        if isinstance(model, str) and model in self._settings.routes:
            fields.setdefault("route", msgspec.Raw(msgspec.json.encode(model)))
        return fields, session
