"""A WebSocket connection to a backend (RFC 6455), without a task of its own.

The protocol is the sans-IO library ``websockets``. trio-websocket, which serves signaling, costs a
task wake-up and a memory channel per message, which hundreds of sessions with a hundred messages a
second cannot pay. Here the worker's poller reads, messages go to the owner as calls, and ``send``
writes to the socket at once. What the socket does not take stays in the transport; its owner then
keeps further messages to itself until ``writable`` is called.

A connection goes through: opening, open, ended (a failure is known; no message comes or goes; the
close handshake may still be under way), closed (the socket is closed).
"""

import logging
from typing import Final, Protocol, assert_never

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from edge.backend.dialect import Message
from edge.backend.endpoint import Endpoint
from edge.backend.policy import Failure
from edge.backend.transport import Transport
from edge.errors import BackendError
from edge.poller import Poller

MESSAGE_BYTES_MAX: Final = 1 << 20
UNSENT_BYTES_MAX: Final = 1 << 20
"""More means that the backend does not read: the answers to its pings would fill the memory."""
TURN: Final = 0.01
TURN_MESSAGES: Final = 100
TURN_BYTES: Final = 1 << 18
"""What one connection may bring per turn of so many seconds: 200 times what a call needs."""

_INVALID_DATA: Final = 1007
_INTERNAL_ERROR: Final = 1011
_NORMAL_CODES: Final = frozenset({1000, 1001, 1005})
_CLOSE_REASON_BYTES_MAX: Final = 123
_RETRIED_STATUSES: Final = frozenset({408, 425, 429})

# At level debug the library would log the handshake with its keys.
_library_logger = logging.getLogger("edge.backend.websockets")
_library_logger.setLevel(logging.WARNING)


class Owner(Protocol):
    """Who uses a connection. Called by the poller; an exception ends the connection."""

    def opened(self, connection: "Connection") -> None: ...

    def received(self, message: Message) -> None: ...

    def writable(self) -> None:
        """Everything has been sent; called when ``ready`` was False or ``call_back`` asked."""


async def open_connection(endpoint: Endpoint, poller: Poller, owner: Owner) -> "Connection":
    """Connect and shake hands. ``owner.opened`` has been called when this returns.

    Raises:
        BackendError: with a ``Failure`` as its reason.

    """
    transport = await endpoint.connect()
    connection = Connection(endpoint, transport, poller, owner)
    try:
        await connection.wait_open()
    except BaseException:
        connection.abort()
        raise
    return connection


class Connection:
    """One WebSocket over one transport. No method raises because of the backend."""

    def __init__(
        self, endpoint: Endpoint, transport: Transport, poller: Poller, owner: Owner
    ) -> None:
        self.ended = trio.Event()
        self.closed = trio.Event()
        self.failure: BackendError | None = None
        """Why it has ended. None also if it was a crash."""
        self.crashed: Exception | None = None
        self.open = False
        """Messages go both ways."""
        self.answered = True
        """A pong has come since the last ping."""
        self.round_trip: float | None = None
        """Seconds from the latest answered ping to its pong."""
        self._transport, self._poller, self._owner = transport, poller, owner
        self._settled = trio.Event()
        self._opened = False
        self._call_back = False
        self._fragments = bytearray()
        self._fragments_opcode = Opcode.CONT
        self._pinged_at: float | None = None
        self._turn_at = -TURN
        self._turn_messages = self._turn_bytes = 0
        asked = endpoint.subprotocol
        self._protocol = ClientProtocol(
            parse_uri(endpoint.url),
            subprotocols=None if asked is None else [Subprotocol(asked)],
            max_size=MESSAGE_BYTES_MAX,
            logger=_library_logger,
        )
        poller.add(self)
        request = self._protocol.connect()
        for name, value in endpoint.headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        self._transmit()

    @property
    def ready(self) -> bool:
        """Whether a message that is sent now goes straight to the socket."""
        return self.open and not self._transport.unsent

    async def wait_open(self) -> None:
        """Wait for the end of the handshake. Raises BackendError if it failed."""
        await self._settled.wait()
        if self.crashed is not None:
            raise self.crashed
        if self.failure is not None and not self._opened:  # opened counts even if it has ended
            raise self.failure

    def send(self, message: Message) -> None:
        """Send a message; ignored if the connection is not open any more."""
        if self._protocol.state is not State.OPEN or not self.open:
            return  # the library may have read a close frame that is not handled here yet
        if isinstance(message, bytes):
            self._protocol.send_binary(message)
        else:
            self._protocol.send_text(message.encode())
        self._transmit()

    def ping(self) -> None:
        self.answered = False
        if self._protocol.state is State.OPEN and self.open:
            self._pinged_at = trio.current_time()
            self._protocol.send_ping(b"")
            self._transmit()

    def call_back(self) -> None:
        """Ask for ``writable`` in one of the poller's next turns."""
        self._call_back = True
        self._want_write()

    def close(self, code: int, reason: str = "") -> None:
        """Start the close handshake; ``closed`` is set when the backend has done its part."""
        if self._protocol.state is State.OPEN and self.open:
            self.open = False
            text = reason.encode()[:_CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
            self._protocol.send_close(code, text)
            self._transmit()

    def abort(self) -> None:
        """Close the socket at once."""
        self._fail(BackendError(Failure.LOST, "aborted"))

    def lose(self, detail: str) -> None:
        """Give the connection up: the backend does not take part any more."""
        self._fail(BackendError(Failure.LOST, detail))

    # The poller's side

    def fileno(self) -> int:
        return self._transport.fileno()

    def read(self, now: float) -> float | None:
        if now - self._turn_at >= TURN:
            self._turn_at = now
            self._turn_messages = self._turn_bytes = 0
        try:
            while not self.closed.is_set() and (data := self._transport.receive()) is not None:
                self._turn_bytes += len(data)
                self._feed(data)
                share = max(self._turn_messages / TURN_MESSAGES, self._turn_bytes / TURN_BYTES)
                if share >= 1.0:
                    return self._turn_at + TURN * share
                if self._transport.drained:
                    break
            if self._transport.unsent:  # TLS sends while it receives
                self._want_write()
        except BackendError as exc:
            self._fail(exc)
        return None

    def write(self) -> None:
        try:
            if self._transport.unsent:
                self._transport.flush()
            self._want_write()
        except BackendError as exc:
            self._fail(exc)
            return
        if not self._transport.unsent:
            self._call_back = False
            if self.open:
                self._owner.writable()
            self._want_write()

    def crash(self, error: Exception) -> None:
        if self.ended.is_set():
            self._close()
            return
        self.crashed = error
        self._settled.set()
        self.ended.set()
        self.close(_INTERNAL_ERROR)

    # WebSocket

    def _feed(self, data: bytes) -> None:
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            match event:
                case Frame():
                    self._take_frame(event)
                case Response():
                    self._take_response()
                case Request():
                    pass  # comes to servers only
                case _:
                    assert_never(event)
        self._transmit()
        if protocol.handshake_exc is not None:
            self._fail(_handshake_failure(protocol.handshake_exc))
        elif protocol.parser_exc is not None:
            self._end(_failure(protocol.parser_exc))
        if not data:
            self._fail(BackendError(Failure.LOST, "ended without a close frame"))

    def _take_response(self) -> None:
        if self._protocol.handshake_exc is None:
            self.open = self._opened = True
            self._settled.set()  # first: what the owner does now does not cancel wait_open
            self._owner.opened(self)

    def _take_frame(self, frame: Frame) -> None:
        self._turn_messages += 1
        if self.ended.is_set():
            return
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY if frame.fin:
                self._deliver(frame.opcode, frame.data)
            case Opcode.TEXT | Opcode.BINARY:
                self._fragments_opcode, self._fragments = frame.opcode, bytearray(frame.data)
            case Opcode.CONT:
                self._fragments += frame.data
                if frame.fin:
                    data, self._fragments = self._fragments, bytearray()
                    self._deliver(self._fragments_opcode, data)
            case Opcode.PONG:
                self.answered = True
                self._note_pong()
            case Opcode.CLOSE:
                self._take_close()

    def _note_pong(self) -> None:
        """Measure; a pong that was not asked for says nothing (RFC 6455 §5.5.3)."""
        if self._pinged_at is not None:
            self.round_trip = trio.current_time() - self._pinged_at
            self._pinged_at = None

    def _deliver(self, opcode: Opcode, data: bytes | bytearray | memoryview) -> None:
        if opcode is Opcode.BINARY:
            self._owner.received(bytes(data))
            return
        try:
            text = bytes(data).decode()
        except UnicodeDecodeError:
            self.close(_INVALID_DATA)
            self._end(BackendError(Failure.PROTOCOL, "text that is not UTF-8"))
            return
        self._owner.received(text)

    def _take_close(self) -> None:
        received = self._protocol.close_rcvd
        assert received is not None  # the library has just parsed it
        if received.code in _NORMAL_CODES:
            self._end(BackendError(Failure.CLOSED, f"closed with {int(received.code)}"))
        else:
            self._end(BackendError(Failure.LOST, f"closed with {int(received.code)}"))

    def _transmit(self) -> None:
        """Send what the library has to send, and ask to go on when the socket is full."""
        transport = self._transport
        try:
            for data in self._protocol.data_to_send():
                if data:
                    transport.send(data)
                else:
                    transport.end()
        except BackendError as exc:
            self._fail(exc)
            return
        if transport.unsent:
            self._want_write()
            if len(transport.unsent) > UNSENT_BYTES_MAX:
                self.lose("does not read")

    def _want_write(self) -> None:
        if not self.closed.is_set():
            wanted = bool(self._transport.unsent) or self._call_back
            self._poller.want_write(self, wanted=wanted)

    def _fail(self, failure: BackendError) -> None:
        self._end(failure)
        self._close()

    def _end(self, failure: BackendError) -> None:
        """Note why it is over; what comes first counts."""
        if not self.ended.is_set():
            self.open = False
            self.failure = failure
            self.ended.set()
            self._settled.set()

    def _close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            self._poller.remove(self)
            self._transport.close()


def _handshake_failure(error: Exception) -> BackendError:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        retried = status >= 500 or status in _RETRIED_STATUSES
        reason = Failure.UNAVAILABLE if retried else Failure.REFUSED
        return BackendError(reason, f"HTTP status {status}")
    if isinstance(error.__cause__, EOFError):
        return BackendError(Failure.LOST, "ended in the handshake")
    return BackendError(Failure.PROTOCOL, "not a WebSocket handshake")


def _failure(error: Exception) -> BackendError:
    if isinstance(error, EOFError):
        return BackendError(Failure.LOST, "ended without a close frame")
    if isinstance(error, PayloadTooBig):
        return BackendError(Failure.PROTOCOL, f"a message of more than {MESSAGE_BYTES_MAX} bytes")
    return BackendError(Failure.PROTOCOL, "broke the rules of WebSocket")
