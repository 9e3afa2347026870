"""The signaling endpoint of one worker: WebSocket on one path, the page on the others."""

import itertools
import logging
from collections.abc import Mapping, Sequence

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from edge.signal.conversation import Conversation
from edge.signal.host import SessionHost
from edge.signal.http import (
    HttpConnection,
    RequestHead,
    Response,
    close_gently,
    plain_response,
)
from edge.signal.messages import ByeReason
from edge.signal.page import PageFile, page_response
from edge.signal.settings import SignalSettings
from edge.signal.upgrade import chosen_subprotocol, refuse_upgrade

logger = logging.getLogger(__name__)

REFUSALS_AT_ONCE_MAX = 64
RETRY_AFTER_S = 5


async def serve_signaling(
    listeners: Sequence[trio.SocketListener],
    settings: SignalSettings,
    host: SessionHost,
    page: Mapping[str, PageFile] | None,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled.

    Cancelling it stops in order: every session ends, every client is told ``going-away`` and gets
    twice ``close_timeout`` to close. ``page`` maps URL paths to files; None serves no page.
    """
    server = _Server(settings, host, page or {})
    async with trio.open_nursery() as connections:
        try:
            await trio.serve_listeners(
                server.serve,
                list(listeners),
                handler_nursery=connections,
                task_status=task_status,
            )
        finally:
            server.go_away()


class _Server:
    def __init__(
        self, settings: SignalSettings, host: SessionHost, page: Mapping[str, PageFile]
    ) -> None:
        self._settings = settings
        self._host = host
        self._page = page
        self._numbers = itertools.count(1)
        self._open = 0
        self._conversations: dict[Conversation, trio.CancelScope] = {}

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection. Whatever happens in it stays in it."""
        number = next(self._numbers)
        self._open += 1
        try:
            await self._serve(stream, number)
        except Exception:
            logger.exception("connection %d has failed", number)
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    def go_away(self) -> None:
        """Tell every client, and put a limit to their closing."""
        for conversation, scope in self._conversations.items():
            scope.deadline = trio.current_time() + 2 * self._settings.close_timeout
            try:
                conversation.go_away()
            except Exception:
                logger.exception("a session cannot be closed")

    async def _serve(self, stream: trio.SocketStream, number: int) -> None:
        excess = self._open - self._settings.connections_max
        if excess > REFUSALS_AT_ONCE_MAX:
            return
        connection = HttpConnection(stream, self._settings)
        if excess > 0:
            retry = ("Retry-After", str(RETRY_AFTER_S))
            await connection.respond(plain_response(503, "The server is full.", retry))
            return
        head = await connection.receive_head()
        if head is None:
            return
        response = head if isinstance(head, Response) else self._response(head)
        if response is not None:
            await connection.respond(response)
            return
        assert isinstance(head, RequestHead)
        await self._talk(stream, connection, chosen_subprotocol(head), number)

    def _response(self, head: RequestHead) -> Response | None:
        """Answer a request; None if it becomes a WebSocket."""
        if head.path == self._settings.path:
            return refuse_upgrade(head)
        return page_response(self._page, head)

    async def _talk(
        self,
        stream: trio.SocketStream,
        connection: HttpConnection,
        subprotocol: str | None,
        number: int,
    ) -> None:
        """Carry a conversation, and end the session that it leaves behind once the grace is over.

        The connection counts as open until then.
        """
        conversation: Conversation | None = None
        try:
            # Shielded once it runs: when the server is cancelled, go_away ends it in order.
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    websocket = await self._accept(nursery, connection, subprotocol)
                    if websocket is not None:
                        conversation = Conversation(websocket, self._host, self._settings, number)
                        self._conversations[conversation] = scope
                        scope.shield = True
                        await conversation.run()
                    nursery.cancel_scope.cancel()
            await close_gently(stream, self._settings.close_timeout)
        except* (ConnectionClosed, LocalProtocolError) as exc:
            # The client left during the handshake, or pinged a socket that we were closing: wsproto
            # 1.3 forbids the pong and trio-websocket 0.12 does not expect that.
            logger.debug("connection %d: %r", number, exc.exceptions)
        finally:
            if conversation is not None:
                del self._conversations[conversation]
                await self._end_after_grace(conversation, number)

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

    async def _end_after_grace(self, conversation: Conversation, number: int) -> None:
        session = conversation.session
        if session is None:
            return
        try:
            await trio.sleep(self._settings.grace)
        finally:
            session.close(ByeReason.SIGNALING_CLOSED)
            logger.info("connection %d: session %s outlived it", number, session.id)
