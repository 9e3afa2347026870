"""HTTP/1.1 on the signaling port: one request after the other, all of them bounded.

A request is a head, read by itself, and a body, read only where somebody wants it. It gets one
response, after which the connection may carry another request. A WebSocket upgrade ends that: the
stream is handed on with the bytes of the request in front, so that the WebSocket library does its
own part of the handshake on the original.
"""

from contextlib import suppress
from email.utils import formatdate
from urllib.parse import urlsplit

import h11
import trio

from edge.signal.exchange import RequestHead, Response, error_response
from edge.signal.intake import Turnstile
from edge.signal.settings import SignalSettings

READ_BYTES = 2_048
FRAMED_BYTES = 1_024
"""Of a WebSocket, in one turn: 170 frames at most."""
LINGER_BYTES_MAX = 2_097_152
BODY_PARTS_MAX = 512
"""Chunks, and pieces that arrive by themselves. Each costs a call of h11, however small it is."""

NO_BODY = frozenset({204, 304})


class HttpConnection:
    """The server's side of one connection, until it closes or becomes something else.

    ``transport`` is the TCP connection below ``stream``, which may be the same.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        transport: trio.abc.HalfCloseableStream,
        turnstile: Turnstile,
        settings: SignalSettings,
    ) -> None:
        self._stream = stream
        self._transport = transport
        self._turnstile = turnstile
        self._settings = settings
        self._h11 = h11.Connection(h11.SERVER, settings.head_bytes_max)
        self._received = bytearray()
        """Of the request that is being read, until its head is complete."""
        self._requests = 0
        self._method = b""

    async def receive_head(self) -> RequestHead | Response | None:
        """Wait for the next request's head.

        Returns the response to send if there is no acceptable one, None if the client has left or
        wants nothing more.
        """
        try:
            if self._requests and not self._received:
                with trio.move_on_after(self._settings.keep_alive_timeout):
                    await self._receive_more()
                if not self._received:
                    return None
            with trio.move_on_after(self._settings.head_timeout):
                await self._turnstile.wait()
                return await self._receive_head()
        except trio.BrokenResourceError:
            return None
        return error_response(408, "timeout", "The request did not arrive in time.")

    async def receive_body(self, head: RequestHead, bytes_max: int) -> bytes | Response:
        """Wait for the body of the request. Returns the response to send if it is not acceptable.

        Raises:
            trio.BrokenResourceError: the connection is lost.

        """
        if any(int(value) > bytes_max for value in head.values(b"content-length")):
            return _too_large(bytes_max)
        with trio.move_on_after(self._settings.body_timeout):
            if self._h11.they_are_waiting_for_100_continue:
                informational = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send_all(self._encode(informational))
            return await self._receive_body(bytes_max)
        return error_response(408, "timeout", "The request's body did not arrive in time.")

    async def respond(self, response: Response, *, last: bool = False) -> bool:
        """Send the response, without its body to a HEAD request.

        Returns whether another request may follow; if not, the connection is closed.
        """
        headers = [*response.headers, ("Date", formatdate(usegmt=True))]
        if response.status not in NO_BODY:
            headers.append(("Content-Length", str(len(response.body))))
        if last or self._requests >= self._settings.requests_max or not self._is_read():
            headers.append(("Connection", "close"))
        data = self._encode(h11.Response(status_code=response.status, headers=headers))
        if self._method != b"HEAD" and response.body:
            data += self._encode(h11.Data(data=response.body))
        data += self._encode(h11.EndOfMessage())
        if await self._send(data) and self._h11.our_state is self._h11.their_state is h11.DONE:
            self._received = bytearray(self._h11.trailing_data[0])
            self._h11.start_next_cycle()
            return True
        await self.close()
        return False

    async def close(self) -> None:
        """Close so that what was sent last arrives."""
        await close_gently(self._transport, self._settings.close_timeout)

    def hand_over(self) -> "ReplayStream":
        """Return the stream with what was read of the latest request put back in front."""
        return ReplayStream(
            self._stream,
            bytes(self._received),
            self._turnstile,
            self._settings.connection_bytes_max,
        )

    async def _receive_head(self) -> RequestHead | Response | None:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                return _malformed(exc.error_status_hint)
            if isinstance(event, h11.Request):
                self._requests += 1
                self._method = event.method
                return self._head(event)
            if event is not h11.NEED_DATA:
                return None
            await self._receive_more()

    async def _receive_more(self) -> None:
        self._received += await self._receive()

    async def _receive(self) -> bytes:
        data = bytes(await self._stream.receive_some(READ_BYTES))
        await self._turnstile.wait()
        self._h11.receive_data(data)
        return data

    def _head(self, request: h11.Request) -> RequestHead | Response:
        headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
        if len(headers) > self._settings.headers_max:
            return error_response(431, "too-many-headers", "The request has too many headers.")
        names = {name for name, _ in headers}
        if {b"content-length", b"transfer-encoding"} <= names:  # RFC 9112 section 6.1: an attack
            return _malformed(400)
        version = request.http_version.decode("ascii")
        if version not in {"1.0", "1.1"}:
            return error_response(505, "http-version", "Only HTTP/1.1 is spoken here.")
        if request.method == b"CONNECT":
            return error_response(501, "not-a-proxy", "This is not a proxy.")
        try:
            target = urlsplit(request.target.decode("ascii"))
        except ValueError:
            return error_response(400, "malformed-request", "The request's target is malformed.")
        return RequestHead(
            request.method.decode("ascii"),
            target.path,
            version,
            headers,
            target.query,
        )

    async def _receive_body(self, bytes_max: int) -> bytes | Response:
        body = bytearray()
        parts = 0
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                return _malformed(exc.error_status_hint)
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if isinstance(event, h11.Data):
                body += event.data
                parts += 1
                if len(body) > bytes_max or parts > BODY_PARTS_MAX:
                    return _too_large(bytes_max)
            elif event is h11.NEED_DATA:
                await self._receive()
            else:
                return _malformed(400)

    def _is_read(self) -> bool:
        """Pass over what has arrived of the request; return whether that is all of it."""
        with suppress(h11.RemoteProtocolError):
            while self._h11.their_state is h11.SEND_BODY:
                if self._h11.next_event() is h11.NEED_DATA:
                    return False
        return self._h11.their_state not in {h11.SEND_BODY, h11.ERROR}

    def _encode(self, event: h11.Event) -> bytes:
        data = self._h11.send(event)
        assert data is not None
        return data

    async def _send(self, data: bytes) -> bool:
        with trio.move_on_after(self._settings.send_timeout), suppress(trio.BrokenResourceError):
            await self._stream.send_all(data)
            return True
        return False


def _malformed(status: int) -> Response:
    return error_response(status, "malformed-request", "This is not an acceptable request.")


def _too_large(bytes_max: int) -> Response:
    text = f"The request's body is longer than {bytes_max} bytes, or in too many pieces."
    return error_response(413, "too-large", text)


async def close_gently(stream: trio.abc.HalfCloseableStream, patience: float) -> None:
    """Close so that what was sent last arrives.

    A socket that is closed with unread input resets the connection, and the client may lose what
    it has not read yet. So: say that nothing more will come, and read on until the client closes
    too, for at most ``patience`` seconds and ``LINGER_BYTES_MAX``.
    """
    with trio.move_on_after(patience), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_eof()
        left = LINGER_BYTES_MAX
        while left > 0 and (data := await stream.receive_some(READ_BYTES)):
            left -= len(data)
    await stream.aclose()


class ReplayStream(trio.abc.Stream):
    """A stream that starts with given bytes and ends after ``bytes_max``, replayed ones included.

    Closing it leaves the inner stream open, for ``close_gently``.
    """

    def __init__(
        self, inner: trio.abc.Stream, replayed: bytes, turnstile: Turnstile, bytes_max: int
    ) -> None:
        self._inner = inner
        self._replayed = replayed
        self._turnstile = turnstile
        self._left = bytes_max
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self._check_open()
        if self._left <= 0:
            await trio.lowlevel.checkpoint()
            return b""
        if self._replayed:
            await trio.lowlevel.checkpoint()
            data = self._replayed[:max_bytes]
            self._replayed = self._replayed[len(data) :]
        else:
            size = FRAMED_BYTES if max_bytes is None else min(max_bytes, FRAMED_BYTES)
            data = bytes(await self._inner.receive_some(size))
            await self._turnstile.wait()
        self._left -= len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check_open()
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        self._check_open()
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
