"""A TCP proxy that can break what it carries, as networks do."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, field

CHUNK_BYTES = 65_536


@define
class CuttingProxy:
    """Passes connections on to one target."""

    target: tuple[str, int]
    port: int = 0
    refusing: bool = False
    """Whether new connections are closed at once."""
    stalled: bool = False
    """Whether what arrives goes nowhere, on connections that look alive."""
    connections: int = 0
    """How many there have been."""
    _streams: set[trio.SocketStream] = field(factory=set)

    @property
    def origin(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset all connections."""
        for stream in self._streams:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()

    async def serve(self, stream: trio.SocketStream) -> None:
        if self.refusing:
            return
        self.connections += 1
        async with stream, await trio.open_tcp_stream(*self.target) as other:
            ends = {stream, other}
            self._streams |= ends
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass, stream, other, nursery.cancel_scope)
                    nursery.start_soon(self._pass, other, stream, nursery.cancel_scope)
            finally:
                self._streams -= ends

    async def _pass(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(CHUNK_BYTES):
                if not self.stalled:
                    await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def cutting_proxy(target: str) -> AsyncIterator[CuttingProxy]:
    """Run a proxy before ``host:port``."""
    host, _, port = target.rpartition(":")
    proxy = CuttingProxy((host, int(port)))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
