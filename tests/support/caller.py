"""A client of the real appliance: WebSocket signaling and a UDP socket around ``Peer``."""

import os
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from edge.dtls.certificate import Fingerprint, Identity
from edge.dtls.context import DtlsContexts
from edge.dtls.keying import Role
from edge.ice.credentials import Credentials
from edge.machine import Address
from tests.support.peer import PAYLOAD_TYPE, Peer, PeerEvent

IDENTITY = Identity.create(os.urandom, time.time())
CONTEXTS = DtlsContexts(IDENTITY)

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF {payload_types}\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n"
    "a=sendrecv\r\na=rtcp-mux\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n"
    "a=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n"
    "{formats}"
)
OPUS: Mapping[int, str] = MappingProxyType({PAYLOAD_TYPE: "opus/48000/2"})


def make_offer(
    local: Credentials,
    setup: str = "actpass",
    formats: Mapping[int, str] = OPUS,
    attributes: str = "",
) -> str:
    """Make an offer of these formats: an rtpmap, and behind a blank an fmtp, by payload type.

    ``attributes`` are more lines of its one section.
    """
    lines = []
    for payload_type, text in formats.items():
        rtpmap, _, fmtp = text.partition(" ")
        lines.append(f"a=rtpmap:{payload_type} {rtpmap}\r\n")
        lines += [f"a=fmtp:{payload_type} {fmtp}\r\n"] if fmtp else []
    return OFFER.format(
        payload_types=" ".join(str(each) for each in formats),
        formats="".join(lines) + attributes,
        ufrag=local.ufrag,
        password=local.password,
        fingerprint=IDENTITY.fingerprint(),
        setup=setup,
    )


def new_credentials() -> Credentials:
    return Credentials(os.urandom(4).hex(), os.urandom(16).hex())


def attribute(sdp: str, name: str) -> str:
    """Return the value of the first such attribute."""
    match = re.search(rf"^a={name}:(.*)\r$", sdp, re.MULTILINE)
    assert match is not None, f"no {name} in the answer"
    return match[1]


def peer_for_answer(
    answer: str, local: Credentials, kind: type[Peer] = Peer, **options: Any
) -> Peer:
    """Make the client that fits an answer."""
    value = partial(attribute, answer)
    candidate = value("candidate").split()
    return kind(
        local,
        Credentials(value("ice-ufrag"), value("ice-pwd")),
        Address(candidate[4], int(candidate[5])),
        Role.SERVER if value("setup") == "active" else Role.CLIENT,
        CONTEXTS,
        Fingerprint.parse(value("fingerprint")),
        os.urandom,
        **options,
    )


@define
class LiveCall:
    """A call over real sockets."""

    peer: Peer
    udp: trio.socket.SocketType
    websocket: WebSocketConnection
    session: str
    ufrag: str
    """The server's."""
    offered_at: float
    messages: list[dict[str, Any]] = field(factory=list)
    events: list[PeerEvent] = field(factory=list)
    drop: Callable[[bytes], bool] = field(default=lambda _: False)
    """Decides per datagram, either way, whether the network loses it."""
    secret: str = ""
    """For ``resume``."""
    sdp: str = ""
    """Of the answer."""

    async def wait(self, predicate: Callable[[], bool], timeout: float = 10.0) -> None:
        with trio.fail_after(timeout):
            while not predicate():
                await trio.sleep(0.01)

    async def wait_echo(self, count: int = 1, timeout: float = 10.0) -> None:
        await self.wait(lambda: self.peer.record.echoed >= count, timeout)

    async def wait_sent(self, count: int, timeout: float = 10.0) -> None:
        await self.wait(lambda: self.peer.record.sent >= count, timeout)

    async def wait_message(self, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Wait for a signaling message with these fields."""
        with trio.fail_after(timeout):
            while True:
                for message in self.messages:
                    if fields.items() <= message.items():
                        return message
                await trio.sleep(0.01)

    async def send(self, message: dict[str, Any]) -> None:
        await self.websocket.send_message(msgspec.json.encode(message).decode())

    async def restart_ice(self, formats: Mapping[int, str] = OPUS) -> dict[str, Any]:
        """Restart ICE over the WebSocket; return the answer. Checks go on with what it says."""
        local = new_credentials()
        known = len(self.messages)
        await self.send({"type": "offer", "sdp": make_offer(local, formats=formats)})
        await self.wait(lambda: any("sdp" in each for each in self.messages[known:]))
        answer = next(each for each in self.messages[known:] if "sdp" in each)
        remote = Credentials(
            attribute(answer["sdp"], "ice-ufrag"), attribute(answer["sdp"], "ice-pwd")
        )
        self.peer.restart(local, remote, trio.current_time())
        return answer

    async def cut_signaling(self) -> None:
        """Break the WebSocket's connection without a word."""
        stream = self.websocket._stream
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)

    async def rebind(self) -> None:
        """Go on from another local port, as a client behind a new NAT mapping does."""
        old, self.udp = self.udp, await _open_udp(self.peer.server.host)
        old.close()

    async def flush(self) -> None:
        while (transmit := self.peer.next_datagram()) is not None:
            if not self.drop(transmit.data):
                # What the host cannot send, as when it has just lost its address, is lost.
                with trio.move_on_after(1), suppress(OSError):
                    await self.udp.sendto(
                        transmit.data, (transmit.destination.host, transmit.destination.port)
                    )
        while (event := self.peer.next_event()) is not None:
            self.events.append(event)

    async def run_media(self) -> None:
        """Feed the peer and its timers until cancelled."""
        while True:
            await self.flush()
            due = self.peer.next_timeout()
            data = None
            udp = self.udp
            with trio.move_on_at(due if due is not None else float("inf")):
                try:
                    data = await udp.recv(2048)
                except (OSError, trio.ClosedResourceError):
                    await trio.lowlevel.checkpoint()
            now = trio.current_time()
            if data is not None and not self.drop(data):
                self.peer.receive_datagram(data, self.peer.server, now)
            self.peer.handle_timeout(now)

    async def run_signaling(self) -> None:
        while True:
            try:
                self.messages.append(msgspec.json.decode(await self.websocket.get_message()))
            except ConnectionClosed:
                return


@asynccontextmanager
async def signaling(origin: str) -> AsyncIterator[WebSocketConnection]:
    """Connect to the signaling endpoint at ``origin``."""
    host, _, port = origin.rpartition(":")
    stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(10):
                websocket = await wrap_client_stream(
                    nursery, stream, origin, "/v1/session", subprotocols=["edge.v1"]
                )
            yield websocket
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


async def offer(
    websocket: WebSocketConnection,
    local: Credentials,
    setup: str = "actpass",
    formats: Mapping[int, str] = OPUS,
    attributes: str = "",
    **fields: Any,
) -> Any:
    """Send an offer with more ``fields`` and return the server's first message."""
    sdp = make_offer(local, setup, formats, attributes)
    message = {"type": "offer", "sdp": sdp, **fields}
    await websocket.send_message(msgspec.json.encode(message).decode())
    with trio.fail_after(10):
        return msgspec.json.decode(await websocket.get_message())


@asynccontextmanager
async def calling(
    origin: str,
    *,
    setup: str = "actpass",
    formats: Mapping[int, str] = OPUS,
    attributes: str = "",
    route: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    drop: Callable[[bytes], bool] | None = None,
    port: int = 0,
    **options: Any,
) -> AsyncIterator[LiveCall]:
    """Open a session at ``origin`` and start a client for it, from a UDP ``port`` if one is given.

    ``formats`` and ``attributes`` are ``make_offer``'s, ``options`` ``peer_for_answer``'s.
    """
    local = new_credentials()
    async with signaling(origin) as websocket:
        offered_at = trio.current_time()
        answer = await offer(
            websocket, local, setup, formats, attributes, route=route, metadata=metadata
        )
        assert answer["type"] == "answer", answer
        peer = peer_for_answer(answer["sdp"], local, **options)
        udp = await _open_udp(peer.server.host, port)
        call = LiveCall(
            peer,
            udp,
            websocket,
            answer["session"],
            attribute(answer["sdp"], "ice-ufrag"),
            offered_at,
            secret=answer["secret"],
            sdp=answer["sdp"],
        )
        if drop is not None:
            call.drop = drop
        peer.start(trio.current_time())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call.run_signaling)
                nursery.start_soon(call.run_media)
                yield call
                peer.close(trio.current_time())
                await call.flush()
                nursery.cancel_scope.cancel()
        finally:
            call.udp.close()


async def _open_udp(host: str, port: int = 0) -> trio.socket.SocketType:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = trio.socket.socket(family, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    await udp.bind(("::1" if ":" in host else "127.0.0.1", port))
    return udp
