"""HTTP on the signaling port: read one request head, then answer it or hand the stream on.

A connection carries one request. What is not a WebSocket upgrade gets one response with
``Connection: close``; an upgrade gets a stream that starts with the bytes read so far, so that the
WebSocket library does its own part of the handshake on the original request.
"""

from contextlib import suppress
from email.utils import formatdate
from urllib.parse import urlsplit

import h11
import trio
from attrs import frozen

from edge.signal.settings import SignalSettings

READ_BYTES = 4_096
LINGER_BYTES_MAX = 2_097_152

NOT_MODIFIED = 304
PLAIN_TEXT = "text/plain; charset=utf-8"


@frozen
class RequestHead:
    """The request line and headers."""

    method: str
    path: str
    """Without its query; not percent-decoded."""
    http_version: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, in order."""
        return [value for each, value in self.headers if each == name]

    def tokens(self, name: bytes) -> list[str]:
        """Return the members of a header that is a comma-separated list, over all its lines."""
        joined = b",".join(self.values(name)).decode("latin-1")
        return [token.strip() for token in joined.split(",") if token.strip()]


@frozen
class Response:
    """A whole response. The Content-Length and Connection headers are added when it is sent."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def plain_response(status: int, sentence: str, *headers: tuple[str, str]) -> Response:
    """Return a response whose body is one line of text."""
    return Response(status, f"{sentence}\n".encode(), (("Content-Type", PLAIN_TEXT), *headers))


class HttpConnection:
    """The server's side of one connection, until its response or its upgrade."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, settings: SignalSettings) -> None:
        self._stream = stream
        self._settings = settings
        self._h11 = h11.Connection(h11.SERVER, settings.head_bytes_max)
        self._received = bytearray()
        self._method = b""

    async def receive_head(self) -> RequestHead | Response | None:
        """Wait for the request's head.

        Returns the response to send if there is no acceptable one, None if the client has left.
        """
        with trio.move_on_after(self._settings.head_timeout):
            try:
                return await self._receive_head()
            except trio.BrokenResourceError:
                return None
        return plain_response(408, "The request did not arrive in time.")

    async def _receive_head(self) -> RequestHead | Response | None:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                return plain_response(exc.error_status_hint, "This is not an acceptable request.")
            if isinstance(event, h11.Request):
                self._method = event.method
                return self._head(event)
            if event is not h11.NEED_DATA:
                return None
            data = bytes(await self._stream.receive_some(READ_BYTES))
            self._received += data
            self._h11.receive_data(data)

    def _head(self, request: h11.Request) -> RequestHead | Response:
        headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
        if len(headers) > self._settings.headers_max:
            return plain_response(431, "The request has too many headers.")
        try:
            path = urlsplit(request.target.decode("ascii")).path
        except ValueError:
            return plain_response(400, "The request's target is malformed.")
        return RequestHead(
            request.method.decode("ascii"), path, request.http_version.decode("ascii"), headers
        )

    async def respond(self, response: Response) -> None:
        """Send the response, without its body to a HEAD request, and close the connection.

        The client has ``close_timeout`` for either.
        """
        headers = [*response.headers, ("Date", formatdate(usegmt=True)), ("Connection", "close")]
        if response.status != NOT_MODIFIED:  # its length would have to be the file's
            headers.append(("Content-Length", str(len(response.body))))
        data = self._h11.send(h11.Response(status_code=response.status, headers=headers))
        assert data is not None
        if self._method != b"HEAD":
            data += response.body
        with trio.move_on_after(self._settings.close_timeout):
            with suppress(trio.BrokenResourceError):
                await self._stream.send_all(data)
        await close_gently(self._stream, self._settings.close_timeout)

    def hand_over(self) -> "ReplayStream":
        """Return the stream with everything that was read of it put back in front."""
        return ReplayStream(
            self._stream, bytes(self._received), self._settings.connection_bytes_max
        )


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

    def __init__(self, inner: trio.abc.Stream, replayed: bytes, bytes_max: int) -> None:
        self._inner = inner
        self._replayed = replayed
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
            data = bytes(await self._inner.receive_some(max_bytes))
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
