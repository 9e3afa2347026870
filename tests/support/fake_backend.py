"""A WebSocket server that does what a script says, down to single bytes."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import trio
from attrs import define, field
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

Message = str | bytes


@define(eq=False)
class Visitor:
    """One connection as the fake backend sees it."""

    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    protocol: ServerProtocol
    request: Request | None = None
    messages: list[Message] = field(factory=list)
    close_code: int | None = None
    """Of the client's close frame; 1006 if it left without one."""
    pings: int = 0
    arrived: trio.Event = field(factory=trio.Event)
    """Set, and replaced, with every message."""
    gone: trio.Event = field(factory=trio.Event)
    _sending: trio.Lock = field(factory=trio.Lock)

    async def accept(self) -> None:
        """Do the WebSocket handshake."""
        request = await self.read_request()
        self.protocol.send_response(self.protocol.accept(request))
        assert self.protocol.state is State.OPEN, self.protocol.handshake_exc
        await self._transmit()

    async def refuse(self, status: int) -> None:
        request = await self.read_request()
        assert request is not None
        self.protocol.send_response(self.protocol.reject(status, "no\n"))
        await self._transmit()

    async def read_request(self) -> Request:
        while self.request is None:
            self.protocol.receive_data(await self.stream.receive_some())
            for event in self.protocol.events_received():
                assert isinstance(event, Request)
                self.request = event
        return self.request

    async def send(self, message: Message) -> None:
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)
        await self._transmit()

    async def send_raw(self, data: bytes) -> None:
        async with self._sending:
            await self.stream.send_all(data)

    async def close(self, code: int) -> None:
        self.protocol.send_close(code)
        await self._transmit()

    async def read(self) -> None:
        """Take messages until the client has left."""
        while True:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                break
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                assert isinstance(event, Frame)
                self._take(event)
            with suppress(trio.BrokenResourceError):
                await self._transmit()
        if self.close_code is None:
            self.close_code = 1006
        self.gone.set()

    async def wait_for(self, message: Message) -> None:
        while message not in self.messages:
            await self.arrived.wait()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT:
            self.messages.append(bytes(frame.data).decode())
        elif frame.opcode is Opcode.BINARY:
            self.messages.append(bytes(frame.data))
        elif frame.opcode is Opcode.PING:
            self.pings += 1
        elif frame.opcode is Opcode.CLOSE:
            assert self.protocol.close_rcvd is not None
            self.close_code = int(self.protocol.close_rcvd.code)
        self.arrived.set()
        self.arrived = trio.Event()

    async def _transmit(self) -> None:
        async with self._sending:
            for data in self.protocol.data_to_send():
                if data:
                    await self.stream.send_all(data)
                elif isinstance(self.stream, trio.SocketStream):
                    await self.stream.send_eof()


Script = Callable[[Visitor], Awaitable[None]]


@define(eq=False)
class FakeBackend:
    port: int
    scheme: str
    visitors: list[Visitor] = field(factory=list)
    came: trio.Event = field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/voice?key=SECRET"

    async def visitor(self, number: int = 0) -> Visitor:
        """Wait for a connection."""
        while len(self.visitors) <= number:
            await self.came.wait()
        return self.visitors[number]


@asynccontextmanager
async def fake_backend(
    *scripts: Script, tls: ssl.SSLContext | None = None, subprotocol: str | None = None
) -> AsyncIterator[FakeBackend]:
    """Serve; the nth connection gets the nth script, later ones the last."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    backend = FakeBackend(port, "ws" if tls is None else "wss")
    offered = None if subprotocol is None else [Subprotocol(subprotocol)]

    async def serve(plain: trio.SocketStream) -> None:
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = plain
        if tls is not None:
            stream = trio.SSLStream(plain, tls, server_side=True, https_compatible=True)
        visitor = Visitor(stream, ServerProtocol(subprotocols=offered))
        script = scripts[min(len(backend.visitors), len(scripts) - 1)]
        backend.visitors.append(visitor)
        backend.came.set()
        backend.came = trio.Event()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await script(visitor)
        visitor.gone.set()
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield backend
        nursery.cancel_scope.cancel()


# Scripts


async def record(visitor: Visitor) -> None:
    """Accept and take everything."""
    await visitor.accept()
    await visitor.read()


async def stall_in_handshake(visitor: Visitor) -> None:
    await visitor.read_request()
    await trio.sleep_forever()


async def stall_at_once(_visitor: Visitor) -> None:
    """Like a process that is stopped: the kernel has taken the connection, nobody else has."""
    await trio.sleep_forever()


async def never_read(visitor: Visitor) -> None:
    await visitor.accept()
    await trio.sleep_forever()


async def hang_up_in_handshake(visitor: Visitor) -> None:
    await visitor.read_request()


async def speak_http(visitor: Visitor) -> None:
    request = await visitor.read_request()
    assert request is not None
    await visitor.send_raw(Response(200, "OK", Headers({"Content-Length": "0"})).serialize())
    await visitor.read()


async def speak_garbage(visitor: Visitor) -> None:
    await visitor.send_raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await trio.sleep_forever()


async def drop(visitor: Visitor) -> None:
    """Accept and reset."""
    await visitor.accept()


def refuse(status: int) -> Script:
    async def script(visitor: Visitor) -> None:
        await visitor.refuse(status)

    return script


def say(*messages: Message) -> Script:
    """Accept, send and go on taking everything."""

    async def script(visitor: Visitor) -> None:
        await visitor.accept()
        for message in messages:
            await visitor.send(message)
        await visitor.read()

    return script


def say_raw(data: bytes) -> Script:
    async def script(visitor: Visitor) -> None:
        await visitor.accept()
        await visitor.send_raw(data)
        await visitor.read()

    return script


def close_with(code: int) -> Script:
    async def script(visitor: Visitor) -> None:
        await visitor.accept()
        await visitor.close(code)
        await visitor.read()

    return script


def flood(data: bytes, total_bytes: int) -> Script:
    """Accept and send the same bytes over and over."""

    async def script(visitor: Visitor) -> None:
        await visitor.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.read)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for _ in range(total_bytes // len(data)):
                    await visitor.send_raw(data)
                await visitor.close(1000)

    return script
