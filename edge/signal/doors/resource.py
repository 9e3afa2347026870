"""What all doors share: a request with its body, a path's methods, refusals as responses."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import trio
from attrs import field, frozen

from edge.errors import SdpError, SignalError
from edge.signal.entry import Entry, bearer
from edge.signal.exchange import RequestHead, Response, error_response, retry_after
from edge.signal.host import OpenedSession, SessionRequest, StateReport
from edge.signal.messages import Bye, ErrorCode
from edge.signal.sdp import OFFER_BYTES_MAX, SdpReason
from edge.signal.settings import SignalSettings

logger = logging.getLogger(__name__)

SDP = "application/sdp"
JSON = "application/json"
BODY_BYTES_MAX = 131_072
"""Of a body that has JSON in it: escapes make an offer longer than it is."""

_STATUS = {
    ErrorCode.MALFORMED_MESSAGE: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.UNKNOWN_ROUTE: 404,
    ErrorCode.UNKNOWN_SESSION: 404,
    ErrorCode.TOO_MANY_REQUESTS: 429,
    ErrorCode.BUSY: 503,
}
_MALFORMED_SDP = frozenset(
    {
        SdpReason.TOO_LARGE,
        SdpReason.CONTROL_CHARACTER,
        SdpReason.SYNTAX,
        SdpReason.DUPLICATE_MID,
    }
)


@frozen
class Request:
    """A whole request, and the session host as its sender may use it."""

    head: RequestHead
    entry: Entry
    body: bytes = field(default=b"", repr=False)

    @property
    def media_type(self) -> str:
        """Of the body, without its parameters; empty if it is not said."""
        return (self.head.text(b"content-type") or "").partition(";")[0].strip().lower()

    def text(self) -> str:
        """Return the body as text.

        Raises:
            SignalError: it is none.

        """
        return decode_text(self.body)


Handler = Callable[[Request], Awaitable[Response]]


@frozen
class Resource:
    """What can be done at a path."""

    methods: Mapping[str, Handler]
    accepts: frozenset[str] = frozenset()
    """Media types of bodies; empty: whatever comes is passed over."""
    body_bytes_max: int = OFFER_BYTES_MAX
    options: tuple[tuple[str, str], ...] = ()
    """Headers of the answer to OPTIONS, beside Allow."""

    @property
    def allow(self) -> tuple[str, ...]:
        return tuple(sorted((*self.methods, "OPTIONS")))


def decode_text(data: bytes) -> str:
    """Decode UTF-8.

    Raises:
        SignalError: ``malformed-message``.

    """
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise SignalError(ErrorCode.MALFORMED_MESSAGE, "The body is not UTF-8.") from exc


async def open_session(
    request: Request, sdp: str, route: str | None, settings: SignalSettings
) -> OpenedSession:
    """Open a session that has no signaling connection: what it reports is logged.

    Raises:
        SdpError, SignalError: those of ``SessionHost.open_session``.
        trio.TooSlowError: its owner does not answer in time.

    """
    name = ""

    def report(state: StateReport) -> None:
        if isinstance(state, Bye):
            extra = {"session_id": name, "reason": state.reason}
            logger.info("session %s ended: %s", name, state.reason, extra=extra)

    with trio.fail_after(settings.open_timeout):
        session = await request.entry.open_session(SessionRequest(sdp, route, lasting=True), report)
    name = session.id
    logger.info("session %s opened over HTTP", name, extra={"session_id": name})
    return session


@asynccontextmanager
async def visiting(
    request: Request, reference: str, settings: SignalSettings
) -> AsyncIterator[OpenedSession]:
    """Find the session of a URL for as long as the context lasts; its reports go where they went.

    Raises:
        SignalError: ``unknown-session``.
        trio.TooSlowError: its owner does not answer in time.

    """
    name, _, secret = reference.rpartition(".")
    with trio.fail_after(settings.open_timeout):
        session = await request.entry.attach(name, secret, None)
        try:
            yield session
        finally:
            session.detach()


def reference_of(session: OpenedSession) -> str:
    """Return what names a session in a URL, and authenticates whoever knows it."""
    return f"{session.id}.{session.secret}"


def refusal(error: SdpError | SignalError, head: RequestHead, settings: SignalSettings) -> Response:
    """Return the response that says what went wrong."""
    if isinstance(error, SdpError):
        status = 400 if error.reason in _MALFORMED_SDP else 422
        return error_response(status, ErrorCode.OFFER_REFUSED, f"The offer is refused: {error}.")
    status = _STATUS.get(ErrorCode(error.reason), 500)
    headers: tuple[tuple[str, str], ...] = ()
    if status == 401:
        headers = (("WWW-Authenticate", _challenge(head)),)
    elif status in {429, 503}:
        headers = (retry_after(error.retry_after or settings.busy_retry),)
    return error_response(status, error.reason, str(error), *headers)


def _challenge(head: RequestHead) -> str:
    """Return what a 401 says of the credentials (RFC 6750 section 3)."""
    try:
        shown = bearer(head)
    except SignalError:
        shown = None
    return "Bearer" if shown is None else 'Bearer error="invalid_token"'
