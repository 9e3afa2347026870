"""A signaling server on real sockets, with a host that opens no real sessions."""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from attrs import define, evolve, field
from trio_websocket import WebSocketConnection, open_websocket_url
from wsproto.utilities import LocalProtocolError

from edge.access.policy import AccessPolicy
from edge.errors import SignalError
from edge.signal.answer import Answer, LocalFacts, answer_offer
from edge.signal.formats import MediaPolicy
from edge.signal.host import OpenedSession, Report, SessionHost, SessionRequest
from edge.signal.messages import Bye, ByeReason, ErrorCode
from edge.signal.page import page_file
from edge.signal.renegotiation import answer_again
from edge.signal.sdp import decode_offer
from edge.signal.server import serve_signaling
from edge.signal.settings import SignalSettings
from edge.signal.tls import TlsIdentity
from edge.steering.visitor import Visitor, Visitors

OFFERS = Path(__file__).parent.parent / "fixtures" / "offers"
OFFER = (OFFERS / "chromium-audio-balanced.sdp").read_bytes().decode()
VIDEO_ONLY = (OFFERS / "chromium-video-only-balanced.sdp").read_bytes().decode()

PAGE = {"/": page_file("index.html", b"<!doctype html><p>hello")}
SETTINGS = SignalSettings(close_timeout=0.5, routes=frozenset({"default", "sales"}))
HERE = Visitor("127.0.0.1")
"""Who connects."""
LOCAL = LocalFacts(
    ufrag="IAbcdefghijklmnopqrstuv+",
    password="p" * 32,
    fingerprint="sha-256 " + ":".join(["0A"] * 32),
    candidates=("a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",),
    session_id=1,
    ssrc=1,
    cname="edge-1",
)


@define(eq=False)
class FakeSession:
    """Answers offers for real; nothing else happens in it."""

    id: str
    secret: str
    answer: Answer
    report: Report
    closed: list[ByeReason] = field(factory=list)
    detached: int = 0
    restarts: int = 0

    @property
    def answer_sdp(self) -> str:
        return self.answer.sdp

    async def restart(self, offer_sdp: str) -> str:
        fresh = evolve(self.answer.local, ufrag=f"IA{self.restarts:022}", password="q" * 32)
        self.answer = answer_again(offer_sdp, self.answer, fresh, MediaPolicy())
        self.restarts += 1
        return self.answer.sdp

    def close(self, reason: ByeReason) -> None:
        self.closed.append(reason)
        self.report(Bye(reason=ByeReason.INTERNAL, message="A report that is to be ignored."))

    def detach(self) -> None:
        self.detached += 1


@define
class FakeHost:
    """Keeps its sessions for the test to look at. With a policy, it admits as owners do."""

    policy: AccessPolicy | None = None
    sessions: list[FakeSession] = field(factory=list)
    requests: list[SessionRequest] = field(factory=list)
    failure: Exception | None = None
    delay: float = 0.0

    async def open_session(self, request: SessionRequest, report: Report) -> OpenedSession:
        await trio.sleep(self.delay)
        if self.failure is not None:
            raise self.failure
        if self.policy is not None and request.grant is not None:
            self.policy.admit(request.grant, request.source, time.time())
        self.requests.append(request)
        answer = answer_offer(decode_offer(request.sdp), LOCAL, MediaPolicy())
        number = len(self.sessions)
        session = FakeSession(f"1.0.session-{number}", f"secret-{number}", answer, report)
        self.sessions.append(session)
        return session

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        await trio.sleep(self.delay)
        for each in self.sessions:
            if (each.id, each.secret) == (session, secret) and not each.closed:
                each.report = report or each.report
                return each
        raise SignalError(ErrorCode.UNKNOWN_SESSION, "There is no such session.")


@define
class Server:
    """A running server."""

    port: int
    host: FakeHost
    scope: trio.CancelScope
    address: str = "127.0.0.1"


@asynccontextmanager
async def serving(
    policy: AccessPolicy | None = None,
    tls: TlsIdentity | None = None,
    address: str = "127.0.0.1",
    visitors: Visitors | None = None,
    wrap: Callable[["FakeHost", int], SessionHost] | None = None,
    **changes: Any,
) -> AsyncIterator[Server]:
    """Run a server; ``changes`` are fields of ``SignalSettings``.

    ``wrap`` makes the server's host of the fake one and the port.
    """
    host = FakeHost(policy)
    listeners = await trio.open_tcp_listeners(0, host=address)
    port = listeners[0].socket.getsockname()[1]

    async def serve(
        *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                await inner.start(
                    serve_signaling,
                    listeners,
                    evolve(SETTINGS, **changes),
                    host if wrap is None else wrap(host, port),
                    PAGE,
                    policy,
                    tls,
                    visitors,
                )
                task_status.started(scope)

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(serve)
        with trio.fail_after(30):
            yield Server(port, host, scope, address)
        scope.cancel()


@asynccontextmanager
async def connected(
    server: Server,
    subprotocols: Sequence[str] = (),
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> AsyncIterator[WebSocketConnection]:
    """Open a WebSocket."""
    url = f"ws://{server.address}:{server.port}/v1/session"
    closing = False
    try:
        async with open_websocket_url(
            url, subprotocols=list(subprotocols), extra_headers=list(headers)
        ) as client:
            try:
                yield client
            finally:
                closing = True
                await client.aclose()
                # trio-websocket 0.12 leaves a client's socket open when the server closes first.
                await client._stream.aclose()
    except LocalProtocolError:  # and it does not expect a ping while it closes
        if not closing:
            raise


async def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.01)


async def exchange(server: Server, request: bytes) -> tuple[bytes, bytes]:
    """Send bytes on a fresh connection, and no more; return head and body of what comes back."""
    async with await trio.open_tcp_stream(server.address, server.port) as stream:
        await stream.send_all(request)
        await stream.send_eof()
        received = b""
        with suppress(trio.BrokenResourceError):
            while chunk := await stream.receive_some():
                received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


@define
class Reply:
    """A response, parsed."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@define
class HttpClient:
    """Sends requests one after the other on one connection."""

    stream: trio.abc.Stream
    _rest: bytes = b""

    async def request(
        self, method: str, path: str, body: bytes | str = b"", **headers: str
    ) -> Reply:
        """Send a request and wait for its response. Underscores in header names become dashes."""
        data = body.encode() if isinstance(body, str) else body
        lines = [f"{method} {path} HTTP/1.1", "Host: edge.test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if data or method in {"POST", "PATCH"}:
            lines.append(f"Content-Length: {len(data)}")
        await self.stream.send_all("".join(f"{each}\r\n" for each in (*lines, "")).encode() + data)
        return await self.reply(method)

    async def reply(self, method: str = "GET") -> Reply:
        """Wait for a response."""
        while b"\r\n\r\n" not in self._rest:
            await self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        names = dict(line.split(": ", 1) for line in lines)
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            await self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return Reply(
            int(first.split()[1]), {name.lower(): value for name, value in names.items()}, body
        )

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError(self._rest)
        self._rest += data


@asynccontextmanager
async def http_client(
    server: Server, tls: ssl.SSLContext | None = None
) -> AsyncIterator[HttpClient]:
    """Connect to a server."""
    stream: trio.abc.Stream = await trio.open_tcp_stream(server.address, server.port)
    if tls is not None:
        stream = trio.SSLStream(stream, tls, server_hostname="edge.test", https_compatible=True)
    async with stream:
        yield HttpClient(stream)


async def request(
    server: Server, method: str, path: str, body: bytes | str = b"", **headers: str
) -> Reply:
    """Send one request on a connection of its own."""
    async with http_client(server) as client:
        return await client.request(method, path, body, **headers)
