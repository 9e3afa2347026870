"""Who may come in: the access policy before the session host, the same for all doors."""

from collections.abc import Callable

from attrs import evolve, frozen

from edge.access.client_secrets import ClientSecret, SecretRequest
from edge.access.policy import AccessPolicy
from edge.access.reasons import http_status
from edge.errors import AccessError, SignalError
from edge.signal.cors import is_own_page, sole_origin
from edge.signal.exchange import RequestHead
from edge.signal.host import OpenedSession, Report, SessionHost, SessionRequest
from edge.signal.messages import ErrorCode
from edge.steering.visitor import Visitor

CREDENTIALS_SUBPROTOCOL = "edge.token."
"""Begins the WebSocket subprotocol that carries a client secret: browsers cannot set headers."""

_CODES = {
    400: ErrorCode.MALFORMED_MESSAGE,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.FORBIDDEN,
    429: ErrorCode.TOO_MANY_REQUESTS,
    503: ErrorCode.BUSY,
}


@frozen
class Doorkeeper:
    """Applies the policy to requests. Without one, anybody may come in from anywhere."""

    policy: AccessPolicy | None
    wall: Callable[[], float]
    """Unix seconds."""

    def check_origin(self, head: RequestHead) -> None:
        """Refuse pages of strangers.

        Raises:
            SignalError: ``forbidden``.

        """
        origin = sole_origin(head)
        if self.policy is None or (origin is not None and is_own_page(origin, head)):
            return
        try:
            self.policy.check_origin(origin)
        except AccessError as exc:
            raise _translate(exc) from exc

    def authorize(self, request: SessionRequest, credentials: str | None) -> SessionRequest:
        """Return the request with what its credentials grant.

        What an operator put into a client secret as metadata takes the place of what the client
        says of itself.

        Raises:
            SignalError: ``unauthorized``, ``forbidden``, ``too-many-requests`` or ``busy``.

        """
        if self.policy is None:
            return request
        try:
            grant = self.policy.authorize(credentials, request.route, request.source, self.wall())
        except AccessError as exc:
            raise _translate(exc) from exc
        return evolve(
            request,
            route=grant.route,
            metadata=grant.metadata or request.metadata,
            grant=grant,
        )

    def mint_secret(self, credentials: str | None, request: SecretRequest) -> ClientSecret:
        """Return a client secret for the holder of an API key.

        Raises:
            SignalError: ``unauthorized``, ``forbidden`` or ``malformed-message``.

        """
        if self.policy is None:
            raise SignalError(ErrorCode.FORBIDDEN, "This server needs no client secrets.")
        try:
            return self.policy.mint_secret(credentials, request, self.wall())
        except AccessError as exc:
            raise _translate(exc) from exc


@frozen
class Entry:
    """The session host as one client may use it: its offers are authorized first.

    Attaching needs no credentials but the session's own secret.
    """

    _host: SessionHost
    _keeper: Doorkeeper
    _credentials: str | None
    _visitor: Visitor

    async def open_session(self, request: SessionRequest, report: Report) -> OpenedSession:
        """Open a session for an offer, if the client may.

        Raises:
            SdpError, RedirectError: the host's.
            SignalError: the host's and the doorkeeper's.

        """
        asked = evolve(request, source=self._visitor.address, visitor=self._visitor)
        granted = self._keeper.authorize(asked, self._credentials)
        try:
            return await self._host.open_session(granted, report)
        except AccessError as exc:
            raise _translate(exc) from exc

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        """Find a living session.

        Raises:
            SignalError: ``unknown-session``.

        """
        return await self._host.attach(session, secret, report)


def bearer(head: RequestHead) -> str | None:
    """Return the credentials of an Authorization header (RFC 6750 section 2.1).

    Raises:
        SignalError: ``unauthorized``: there is one, of another kind.

    """
    values = head.values(b"authorization")
    if not values:
        return None
    scheme, _, credentials = values[0].decode("latin-1").partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not credentials.strip():
        raise SignalError(ErrorCode.UNAUTHORIZED, "Only Bearer credentials are taken here.")
    return credentials.strip()


def websocket_credentials(head: RequestHead) -> str | None:
    """Return the credentials of a WebSocket handshake: the header's, else the subprotocol's.

    Raises:
        SignalError: ``unauthorized``, as ``bearer``.

    """
    from_header = bearer(head)
    if from_header is not None:
        return from_header
    for each in head.tokens(b"sec-websocket-protocol"):
        if each.startswith(CREDENTIALS_SUBPROTOCOL):
            return each.removeprefix(CREDENTIALS_SUBPROTOCOL)
    return None


def _translate(error: AccessError) -> SignalError:
    return SignalError(_CODES[http_status(error)], str(error), retry_after=error.retry_after)
