"""A client that calls over TCP (RFC 6544): ``LiveCall``, a connection in place of its socket."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from attrs import define, field

from edge.machine import Address
from edge.routing.framing import PacketReader
from edge.udp import PAYLOAD_BYTES_MAX
from tests.support.caller import (
    LiveCall,
    attribute,
    new_credentials,
    offer,
    peer_for_answer,
    signaling,
)

_TCP_CANDIDATE = re.compile(r"^a=candidate:\S+ 1 tcp \d+ (\S+) (\d+) typ host tcptype passive\r$")


@define(eq=False)
class PacketStream:
    """Packets over a connection (RFC 4571), with the face of a UDP socket."""

    tcp: trio.socket.SocketType
    _reader: PacketReader = field(factory=lambda: PacketReader(PAYLOAD_BYTES_MAX))

    async def sendto(self, packet: bytes, address: tuple[str, int]) -> int:  # noqa: ARG002
        """Send a packet; it is lost if the connection has ended."""
        framed = len(packet).to_bytes(2) + packet
        with suppress(OSError):
            while framed:
                framed = framed[await self.tcp.send(framed) :]
        return len(packet)

    async def recv(self, size: int) -> bytes:
        """Return the next packet; an OSError when the connection has ended."""
        while (packet := self._reader.next_packet()) is None:
            data = await self.tcp.recv(self._reader.room)
            if not data:
                await trio.sleep(0.05)
                raise ConnectionResetError
            self._reader.receive(data)
        assert len(packet) <= size
        return packet

    def close(self) -> None:
        self.tcp.close()


def tcp_candidate(answer: str) -> Address:
    """Return where an answer says that clients may connect to."""
    for line in answer.splitlines(keepends=True):
        if match := _TCP_CANDIDATE.match(line.replace("\r\n", "\r")):
            return Address(match[1], int(match[2]))
    raise AssertionError("no TCP candidate in the answer")


async def connect(server: Address) -> PacketStream:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    tcp = trio.socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await tcp.connect((server.host, server.port))
    return PacketStream(tcp)


@asynccontextmanager
async def calling_over_tcp(
    origin: str, *, setup: str = "actpass", **options: Any
) -> AsyncIterator[LiveCall]:
    """Open a session at ``origin`` and start a client for it. ``options`` are ``Peer``'s."""
    local = new_credentials()
    async with signaling(origin) as websocket:
        offered_at = trio.current_time()
        answer = await offer(websocket, local, setup)
        assert answer["type"] == "answer", answer
        peer = peer_for_answer(answer["sdp"], local, **options)
        peer.server = tcp_candidate(answer["sdp"])
        call = LiveCall(
            peer,
            await connect(peer.server),  # type: ignore[arg-type]
            websocket,
            answer["session"],
            attribute(answer["sdp"], "ice-ufrag"),
            offered_at,
        )
        peer.start(trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run_signaling)
            nursery.start_soon(call.run_media)
            yield call
            peer.close(trio.current_time())
            await call.flush()
            nursery.cancel_scope.cancel()
        call.udp.close()
