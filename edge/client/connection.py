"""One WebSocket to an appliance."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from urllib.parse import urlsplit

import trio
from attrs import field, frozen
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import LocalProtocolError

from edge.client.nursery import open_task_nursery
from edge.errors import SignalError
from edge.signal.messages import SUBPROTOCOL, ErrorCode

CONNECT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 2.0
PING_INTERVAL = 5.0
"""How often to ping the server, and how long to wait for the pong. A host that dies says nothing:
it is noticed within twice as long, while a server still keeps the session for another one."""

SIGNALING_REFUSED = "signaling-refused"
"""The reason of an error for a server that gives no WebSocket, and no other reason."""

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_CODES: Mapping[int, ErrorCode] = MappingProxyType(
    {
        401: ErrorCode.UNAUTHORIZED,
        403: ErrorCode.FORBIDDEN,
        429: ErrorCode.TOO_MANY_REQUESTS,
        503: ErrorCode.BUSY,
    }
)


@frozen
class Endpoint:
    """Where an appliance is, and who calls it."""

    url: str
    """``ws://`` or ``wss://``, with the path."""
    token: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None
    """None: the system's certificate authorities, for ``wss``."""


def is_safe_redirect(here: str, there: str) -> bool:
    """Return whether a server at one URL may send us to another: never from ``wss`` to ``ws``."""
    try:
        target = urlsplit(there)
    except ValueError:
        return False
    return target.scheme in {"wss", urlsplit(here).scheme} and bool(target.hostname)


@asynccontextmanager
async def connect(
    endpoint: Endpoint, ping_interval: float = PING_INTERVAL
) -> AsyncIterator[WebSocketConnection]:
    """Open a WebSocket; it is closed afterwards, or when the server answers no pings.

    Raises:
        SignalError: there is none to be had. The reason is an ``ErrorCode`` or
            ``SIGNALING_REFUSED``.

    """
    stream = await _open_stream(endpoint)
    closing = False
    try:
        async with open_task_nursery() as nursery:
            websocket = await _shake_hands(nursery, stream, endpoint)
            nursery.start_soon(_watch, websocket, stream, ping_interval)
            try:
                yield websocket
            finally:
                closing = True
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await websocket.aclose()
    except ConnectionRejected as exc:
        raise _refusal(exc) from exc
    except LocalProtocolError:
        # The server pinged while we closed: wsproto 1.3 forbids the pong, and trio-websocket 0.12
        # does not expect that.
        if not closing:
            raise
    finally:
        await trio.aclose_forcefully(stream)


async def _open_stream(endpoint: Endpoint) -> Stream:
    url = urlsplit(endpoint.url)
    if url.scheme not in {"ws", "wss"} or url.hostname is None:
        raise SignalError(SIGNALING_REFUSED, f"not a WebSocket URL: {endpoint.url}")
    port = url.port or (443 if url.scheme == "wss" else 80)
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            stream = await trio.open_tcp_stream(url.hostname, port)
    except (OSError, trio.TooSlowError) as exc:
        raise SignalError(SIGNALING_REFUSED, f"{endpoint.url}: {exc!r}") from exc
    if url.scheme == "ws":
        return stream
    return await _encrypt(stream, url.hostname, endpoint.ssl_context)


async def _encrypt(stream: trio.SocketStream, name: str, context: ssl.SSLContext | None) -> Stream:
    encrypted = trio.SSLStream(
        stream,
        context or ssl.create_default_context(),
        server_hostname=name,
        https_compatible=True,
    )
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            await encrypted.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError) as exc:
        await trio.aclose_forcefully(stream)
        reason = exc.__cause__ or exc  # trio says that it broke, its cause why
        raise SignalError(SIGNALING_REFUSED, f"no TLS with {name}: {reason}") from exc
    return encrypted


async def _shake_hands(
    nursery: trio.Nursery, stream: Stream, endpoint: Endpoint
) -> WebSocketConnection:
    url = urlsplit(endpoint.url)
    headers = []
    if endpoint.token is not None:
        headers = [(b"Authorization", f"Bearer {endpoint.token}".encode())]
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            return await wrap_client_stream(
                nursery,
                stream,
                url.netloc,
                f"{url.path or '/'}{'?' * bool(url.query)}{url.query}",
                subprotocols=[SUBPROTOCOL],
                extra_headers=headers,
            )
    except trio.TooSlowError as exc:
        raise SignalError(SIGNALING_REFUSED, f"{endpoint.url}: no answer") from exc


async def _watch(websocket: WebSocketConnection, stream: Stream, ping_interval: float) -> None:
    """Break the connection once a ping is not answered: whoever uses it sees that."""
    with suppress(ConnectionClosed, LocalProtocolError):  # it closes already
        while True:
            await trio.sleep(ping_interval)
            with trio.move_on_after(ping_interval) as waiting:
                await websocket.ping()
            if waiting.cancelled_caught:
                await trio.aclose_forcefully(stream)
                return


def _refusal(rejected: ConnectionRejected) -> SignalError:
    headers = {name.lower(): value for name, value in rejected.headers or ()}
    seconds = headers.get(b"retry-after", b"").decode("latin-1")
    return SignalError(
        _CODES.get(rejected.status_code, SIGNALING_REFUSED),
        f"the server has answered with the status {rejected.status_code}",
        retry_after=float(seconds) if seconds.isdecimal() else None,
    )
