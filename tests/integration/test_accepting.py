"""Every accept loop outlives what the system may say to it, and clients that have gone already."""

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import define, field, frozen

from edge.config.values import ListenAddress
from edge.fleet.states import HostState, encode_state
from edge.metrics.endpoint import open_metrics_listeners, serve_metrics
from edge.operate.protocol import OrderDrain, encode_line
from edge.operate.server import open_control_socket, serve_operators
from edge.signal.intake import serve_connections
from edge.transceiver import neighbour_messages as wire
from edge.transceiver.channel import neighbour_paths
from edge.transceiver.remote import shake_hands
from tests.integration.test_control_socket import answer
from tests.integration.test_gateway import connect, secure_end
from tests.integration.test_streams import check_for, running_relay
from tests.support.descriptors import no_descriptors
from tests.support.fleets import fleet_hosts
from tests.support.hosts import wait_for, workers
from tests.support.signal_server import serving
from tests.support.statuses import status

ERRORS = ("ENOTCONN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS", "EINVAL", "EPROTO", "EIO")
SHORTAGE = 0.3
RESET = struct.pack("ii", 1, 0)
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n"
STATE = HostState(1, 2, 1)


@frozen
class Service:
    """Something that accepts: how to connect to it, and to see that it serves."""

    connect: Callable[[], Awaitable[trio.SocketStream]]
    is_served: Callable[[trio.SocketStream], Awaitable[object]]


async def says_something(stream: trio.SocketStream, request: bytes) -> None:
    await stream.send_all(request)
    assert await stream.receive_some(4096)


@asynccontextmanager
async def signaling(_: Path) -> AsyncIterator[Service]:
    async with serving() as server:
        yield Service(
            partial(trio.open_tcp_stream, "127.0.0.1", server.port),
            lambda stream: says_something(stream, REQUEST),
        )


@asynccontextmanager
async def metrics(_: Path) -> AsyncIterator[Service]:
    listeners = open_metrics_listeners([ListenAddress.parse("127.0.0.1:0")])
    port = listeners[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_metrics, listeners, status)
        yield Service(
            partial(trio.open_tcp_stream, "127.0.0.1", port),
            lambda stream: says_something(stream, REQUEST),
        )
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def operators(directory: Path) -> AsyncIterator[Service]:
    path = directory / "control.sock"
    with open_control_socket(path) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_operators, listener, answer)
            yield Service(
                partial(trio.open_unix_socket, str(path)),
                lambda stream: says_something(stream, encode_line(OrderDrain(deadline=5.0))),
            )
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def neighbours(directory: Path) -> AsyncIterator[Service]:
    (path,) = neighbour_paths(directory / "workers", 1)
    unknown = wire.encode_neighbour_message(wire.Attach(1, "1.0.x", None, reports=False))
    async with workers(directory, 1):
        yield Service(
            partial(trio.open_unix_socket, path),
            lambda stream: says_something(stream, wire.LengthFraming().frame(unknown)),
        )


@asynccontextmanager
async def control_channel(directory: Path) -> AsyncIterator[Service]:
    async with fleet_hosts(directory, 1, 2) as (host, peer):

        async def is_served(stream: trio.SocketStream) -> None:
            end = secure_end(host, peer)
            await shake_hands(stream, end)
            await stream.send_all(end.frame(encode_state(STATE)))
            await wait_for(lambda: host.knows(peer.name) == STATE)

        yield Service(lambda: connect(host, peer.fleet.here.internal), is_served)


@asynccontextmanager
async def tcp_relay(_: Path) -> AsyncIterator[Service]:
    async with running_relay() as bench:

        async def is_served(stream: trio.SocketStream) -> None:
            packet = check_for(1)
            await stream.send_all(len(packet).to_bytes(2) + packet)
            assert (await bench.frame(1)).rows[0].payload == packet

        port = bench.listeners[0].getsockname()[1]
        yield Service(partial(trio.open_tcp_stream, "127.0.0.1", port), is_served)


Serving = Callable[[Path], AbstractAsyncContextManager[Service]]
EVERY = [signaling, metrics, operators, neighbours, control_channel, tcp_relay]


@pytest.mark.parametrize("running", EVERY)
async def test_who_has_gone_already_ends_nothing(tmp_path: Path, running: Serving) -> None:
    async with running(tmp_path) as service:
        for _ in range(20):
            async with await service.connect() as stream:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await trio.sleep(0.05)
        async with await service.connect() as stream:
            with trio.fail_after(10):
                await service.is_served(stream)


@pytest.mark.parametrize("running", EVERY)
async def test_without_descriptors_they_wait(tmp_path: Path, running: Serving) -> None:
    async with running(tmp_path) as service:
        with no_descriptors(keep=1):  # for the client's end
            stream = await service.connect()
            await trio.sleep(SHORTAGE)
        async with stream:
            with trio.fail_after(10):
                await service.is_served(stream)


@define(eq=False)
class Troubled(trio.abc.Listener[trio.SocketStream]):
    """A listener on a system that fails in one way, every other time."""

    number: int
    listener: trio.SocketListener
    attempts: int = 0
    closed: trio.Event = field(factory=trio.Event)

    async def accept(self) -> trio.SocketStream:
        self.attempts += 1
        if self.attempts % 2:
            await trio.lowlevel.checkpoint()
            raise OSError(self.number, os.strerror(self.number))
        return await self.listener.accept()

    async def aclose(self) -> None:
        self.closed.set()
        await self.listener.aclose()


async def greet(stream: trio.SocketStream) -> None:
    await stream.send_all(b"hello")


@asynccontextmanager
async def troubled(
    number: int, serve: Callable[[trio.SocketStream], Awaitable[object]] = greet
) -> AsyncIterator[tuple[Troubled, int]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    bad = Troubled(number, listener)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_connections, serve, [bad])
        yield bad, listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()
    assert bad.closed.is_set()


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_of_accept_end_nothing(name: str) -> None:
    async with troubled(getattr(errno, name)) as (bad, port):
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                with trio.fail_after(5):
                    assert await stream.receive_some(16) == b"hello"
        assert bad.attempts >= 6


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOTCONN, "not connected"),
        trio.BrokenResourceError(),
        ValueError("a bug"),
        ExceptionGroup("of a nursery", [KeyError("a bug"), OSError(errno.EINVAL, "invalid")]),
    ],
)
async def test_a_connection_that_fails_ends_alone(error: Exception) -> None:
    async def fail(_: trio.SocketStream) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async with troubled(errno.EMFILE, fail) as (_, port):
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                with trio.fail_after(5):
                    assert await stream.receive_some(16) == b""


async def test_a_socket_that_was_shut_down_is_tried_again() -> None:
    """Every attempt then says EINVAL, for ever: it must cost nothing."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.shutdown(socket.SHUT_RDWR)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_connections, greet, [listener])
        await trio.sleep(0.5)
        listener.socket.listen()
        port = listener.socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with trio.fail_after(5):
                assert await stream.receive_some(16) == b"hello"
        nursery.cancel_scope.cancel()
