"""The signaling endpoint of one worker: TLS, WebSocket on one path, doors on others, the page.

A connection is a stranger until it has made a complete request. Strangers are few and the eldest
goes first (``waiting_max``), so that nobody keeps others out by saying nothing, or by saying it
slowly. What else a connection may take is bounded by its limits (``settings.py``).
"""

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from edge.access.policy import AccessPolicy
from edge.errors import SignalError
from edge.signal.conversation import Conversation
from edge.signal.doors.resource import refusal
from edge.signal.doors.routes import Doors
from edge.signal.entry import Doorkeeper, Entry, websocket_credentials
from edge.signal.exchange import RequestHead, Response, error_response, retry_after
from edge.signal.host import SessionHost
from edge.signal.http import HttpConnection, close_gently
from edge.signal.intake import PacedListener, Turnstile, serve_connections
from edge.signal.occupancy import Occupancy
from edge.signal.page import PageFile, page_response
from edge.signal.settings import SignalSettings
from edge.signal.tls import TlsIdentity
from edge.signal.upgrade import chosen_subprotocol, refuse_upgrade
from edge.steering.forwarded import TrustedProxies
from edge.steering.visitor import Visitor, Visitors

logger = logging.getLogger(__name__)

REFUSALS_AT_ONCE_MAX = 64


async def serve_signaling(
    listeners: Sequence[trio.abc.Listener[trio.SocketStream]],
    settings: SignalSettings,
    host: SessionHost,
    page: Mapping[str, PageFile] | None,
    policy: AccessPolicy | None = None,
    tls: TlsIdentity | None = None,
    visitors: Visitors | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled.

    Cancelling it stops in order: every session ends, every client is told ``going-away`` and gets
    twice ``close_timeout`` to close. ``page`` maps URL paths to files; None serves no page. Without
    a policy anybody may open sessions; without ``tls`` there is no encryption; without ``visitors``
    whoever connects is the client.
    """
    keeper = Doorkeeper(policy, time.time)
    server = _Server(
        settings, host, page or {}, keeper, tls, visitors or Visitors(TrustedProxies())
    )
    rate, burst = settings.accepts_per_second, settings.accepts_at_once
    async with trio.open_nursery() as connections:
        try:
            await serve_connections(
                server.serve,
                [PacedListener(each, rate, burst) for each in listeners],
                connections=connections,
                task_status=task_status,
            )
        finally:
            server.go_away()


class _Server:
    def __init__(
        self,
        settings: SignalSettings,
        host: SessionHost,
        page: Mapping[str, PageFile],
        keeper: Doorkeeper,
        tls: TlsIdentity | None,
        visitors: Visitors,
    ) -> None:
        self._settings = settings
        self._host = host
        self._page = page
        self._keeper = keeper
        self._tls = tls
        self._visitors = visitors
        self._turnstile = Turnstile(settings.turn_interval)
        self._doors = Doors(host, keeper, settings)
        self._numbers = itertools.count(1)
        self._occupancy = Occupancy(settings.connections_max, settings.connections_per_source_max)
        self._waiting: dict[int, trio.CancelScope] = {}
        """Connections without a complete request, the eldest first."""
        self._conversations: dict[Conversation, trio.CancelScope] = {}

    async def serve(self, transport: trio.SocketStream) -> None:
        """Serve one connection. Whatever happens in it stays in it."""
        number = next(self._numbers)
        try:
            peer = _peer_of(transport)
            with self._occupancy.connection() as excess, self._own_connection(peer) as own_excess:
                await self._serve(transport, peer, max(excess, own_excess), number)
        except OSError as exc:
            logger.debug("connection %d: %r", number, exc)  # it was reset before we had a look
        except Exception:
            logger.exception("connection %d has failed", number)
        finally:
            await trio.aclose_forcefully(transport)

    def go_away(self) -> None:
        """Tell every client, and put a limit to their closing."""
        for conversation, scope in self._conversations.items():
            scope.deadline = trio.current_time() + 2 * self._settings.close_timeout
            try:
                conversation.go_away()
            except Exception:  # the others have to be told, too
                logger.exception("a session cannot be closed")

    async def _serve(
        self, transport: trio.SocketStream, peer: str, excess: int, number: int
    ) -> None:
        if excess > REFUSALS_AT_ONCE_MAX:
            return
        connection = None
        with self._waits(number):
            stream = await self._secure(transport)
            if stream is not None:
                connection = HttpConnection(stream, transport, self._turnstile, self._settings)
        if connection is None:
            return
        if excess > 0:
            await connection.respond(self._full(), last=True)
            return
        more = True
        while more:
            head = None
            with self._waits(number):
                head = await connection.receive_head()
            if head is None:
                await connection.close()
                return
            if isinstance(head, Response):
                more = await connection.respond(head, last=True)
                continue
            visitor = self._visitors.of(head, peer)
            with self._share_of_connection(visitor) as own_excess:
                if own_excess > 0:
                    more = await connection.respond(self._full())
                else:
                    more = await self._serve_request(transport, connection, head, visitor, number)

    async def _serve_request(
        self,
        transport: trio.SocketStream,
        connection: HttpConnection,
        head: RequestHead,
        visitor: Visitor,
        number: int,
    ) -> bool:
        """Do as one request asks, be it a whole conversation; return whether another may follow."""
        if head.path == self._settings.path:
            response = self._refuse_upgrade(head)
            if response is None:
                await self._talk(transport, connection, head, visitor, number)
                return False
        else:
            response = await self._response(connection, head, visitor, number)
            if response is None:
                return False
        return await connection.respond(response)

    def _own_connection(self, peer: str) -> AbstractContextManager[int]:
        """Count a connection for whoever made it, but a proxy's is not its own."""
        return nullcontext(0) if self._visitors.is_proxy(peer) else self._occupancy.client(peer)

    def _share_of_connection(self, visitor: Visitor) -> AbstractContextManager[int]:
        """Count a proxy's connection for the client that has it now."""
        return self._occupancy.client(visitor.address) if visitor.proxied else nullcontext(0)

    def _full(self) -> Response:
        retry = retry_after(self._settings.busy_retry)
        return error_response(503, "busy", "The server has no room for you now.", retry)

    @contextmanager
    def _waits(self, number: int) -> Iterator[None]:
        """Wait for a stranger, unless there are too many of them."""
        with trio.CancelScope() as scope:
            self._waiting[number] = scope
            if len(self._waiting) > self._settings.waiting_max:
                self._waiting.pop(next(iter(self._waiting))).cancel()
            try:
                yield
            finally:
                self._waiting.pop(number, None)

    async def _secure(self, transport: trio.SocketStream) -> trio.abc.Stream | None:
        """Return the stream to speak HTTP on, None if the client does not get there."""
        if self._tls is None:
            return transport
        stream: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
            transport, self._tls.context, server_side=True, https_compatible=True
        )
        with trio.move_on_after(self._settings.handshake_timeout):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError:
                return None
            return stream
        return None

    async def _response(
        self, connection: HttpConnection, head: RequestHead, visitor: Visitor, number: int
    ) -> Response | None:
        """Answer a request; None if its body does not come."""
        resource = self._doors.find(head.path)
        if resource is None:
            return page_response(self._page, head)

        async def receive_body(bytes_max: int) -> bytes | Response:
            with self._waits(number):
                return await connection.receive_body(head, bytes_max)
            raise trio.BrokenResourceError("there are too many strangers")

        try:
            return await self._doors.answer(resource, head, visitor, receive_body)
        except trio.BrokenResourceError:
            return None
        except Exception:  # of one request: its client is told, and the connection goes on
            logger.exception("connection %d: a request has failed", number)
            return error_response(500, "internal", "The server has failed.")

    def _refuse_upgrade(self, head: RequestHead) -> Response | None:
        refused = refuse_upgrade(head)
        if refused is not None:
            return refused
        try:
            self._keeper.check_origin(head)
            websocket_credentials(head)
        except SignalError as exc:
            return refusal(exc, head, self._settings)
        return None

    async def _talk(
        self,
        transport: trio.SocketStream,
        connection: HttpConnection,
        head: RequestHead,
        visitor: Visitor,
        number: int,
    ) -> None:
        """Carry a conversation."""
        entry = Entry(self._host, self._keeper, websocket_credentials(head), visitor)
        subprotocol = chosen_subprotocol(head)
        conversation: Conversation | None = None
        try:
            # Shielded once it runs: when the server is cancelled, go_away ends it in order.
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    websocket = await self._accept(nursery, connection, subprotocol)
                    if websocket is not None:
                        conversation = Conversation(websocket, entry, self._settings, number)
                        self._conversations[conversation] = scope
                        scope.shield = True
                        await conversation.run()
                    nursery.cancel_scope.cancel()
            await close_gently(transport, self._settings.close_timeout)
        except* (ConnectionClosed, LocalProtocolError) as exc:
            # The client left during the handshake, or pinged a socket that we were closing: wsproto
            # 1.3 forbids the pong and trio-websocket 0.12 does not expect that.
            logger.debug("connection %d: %r", number, exc.exceptions)
        finally:
            if conversation is not None:
                del self._conversations[conversation]

    async def _accept(
        self, nursery: trio.Nursery, connection: HttpConnection, subprotocol: str | None
    ) -> WebSocketConnection | None:
        """Return the WebSocket, None if the client does not take part in the handshake."""
        with trio.move_on_after(self._settings.head_timeout):
            request = await wrap_server_stream(
                nursery, connection.hand_over(), max_message_size=self._settings.message_bytes_max
            )
            return await request.accept(subprotocol=subprotocol)
        return None


def _peer_of(transport: trio.SocketStream) -> str:
    """Return the numeric address of the other end.

    Raises:
        OSError: the client has left already.

    """
    host: str = transport.socket.getpeername()[0]
    return host
