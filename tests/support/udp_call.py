"""Media of a call whose signaling is somebody else's: a UDP socket around a ``Peer``."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.support.peer import Peer
from tests.support.tcp_client import PacketStream

RECEIVE_BUFFER_BYTES = 1 << 20


@asynccontextmanager
async def running_media(peer: Peer, bound: socket.socket | None = None) -> AsyncIterator[None]:
    """Let a peer connect and send for as long as the context lasts.

    ``bound`` is the socket to do it with, if not one on loopback.
    """
    if bound is None:
        family = socket.AF_INET6 if ":" in peer.server.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM)
        bound.bind(("::1" if ":" in peer.server.host else "127.0.0.1", 0))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    with trio.socket.from_stdlib_socket(bound) as udp:
        peer.start(trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_media, peer, udp)
            yield
            peer.close(trio.current_time())
            await _flush(peer, udp)
            nursery.cancel_scope.cancel()


async def run_media(peer: Peer, udp: trio.socket.SocketType | PacketStream) -> None:
    """Let a peer that was started go on until cancelled."""
    while True:
        await _flush(peer, udp)
        due = peer.next_timeout()
        data = None
        with trio.move_on_at(due if due is not None else float("inf")):
            data = await udp.recv(2048)
        now = trio.current_time()
        if data is not None:
            peer.receive_datagram(data, peer.server, now)
        peer.handle_timeout(now)


async def _flush(peer: Peer, udp: trio.socket.SocketType | PacketStream) -> None:
    while (transmit := peer.next_datagram()) is not None:
        await udp.sendto(transmit.data, (transmit.destination.host, transmit.destination.port))
    while peer.next_event() is not None:
        pass
