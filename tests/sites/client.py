"""The Python client on a host of the scene: its signaling, with a test client's media."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from attrs import frozen

from edge.client import Call, open_call
from tests.support.caller import (
    LiveCall,
    attribute,
    make_offer,
    new_credentials,
    peer_for_answer,
)
from tests.support.netns import Namespace


@frozen
class _Factory(trio.abc.SocketFactory):
    host: Namespace

    def socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,  # noqa: A002 - Trio's name
        proto: int = 0,
    ) -> trio.socket.SocketType:
        return trio.socket.from_stdlib_socket(self.host.open(family, type, proto))


@contextmanager
def at_host(host: Namespace) -> Iterator[None]:
    """Have all sockets that Trio makes in this test belong to a host."""
    former = trio.socket.set_custom_socket_factory(_Factory(host))
    try:
        yield
    finally:
        trio.socket.set_custom_socket_factory(former)


@asynccontextmanager
async def calling_by_client(
    host: Namespace, url: str, *, ping_interval: float
) -> AsyncIterator[tuple[Call, LiveCall]]:
    """Open a call from a host, and wait until it hears an echo."""
    local = new_credentials()
    with at_host(host):
        async with open_call(url, ping_interval=ping_interval) as call:
            offered_at = trio.current_time()
            sdp = await call.offer(make_offer(local))
            assert call.session is not None
            assert call._websocket is not None
            media = LiveCall(
                peer_for_answer(sdp, local),
                trio.socket.from_stdlib_socket(host.udp()),
                call._websocket,
                call.session,
                attribute(sdp, "ice-ufrag"),
                offered_at,
            )
            with media.udp:
                media.peer.start(trio.current_time())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(media.run_media)
                    await media.wait_echo()
                    yield call, media
                    nursery.cancel_scope.cancel()
