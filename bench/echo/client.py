"""One session of the load client: a UDP socket, a ``Peer`` for everything but media, a stream.

A stream is what a browser sends with a microphone open: a packet of 120 payload bytes and a header
extension every 20 ms, encrypted; a nominated connectivity check every 2.5 s. Each payload carries
its number and the time it was sent, each echo is authenticated, decrypted and ticked off.
"""

import socket
import struct
import time
from array import array

from bench.echo.websocket import WebSocket
from edge.errors import SrtpError
from edge.machine import Address
from tests.support.caller import make_offer, new_credentials, peer_for_answer
from tests.support.peer import PAYLOAD_TYPE

PAYLOAD_BYTES = 120
_PACKET = struct.Struct(f"!BBHIIHH4sQq{PAYLOAD_BYTES - 16}x")
_EXTENSION = (0xBEDE, 1, bytes((0x10, 0x9E, 0, 0)))
"""One word of one-byte elements (RFC 8285): id 1, an audio level."""
_NUMBER_AND_TIME = struct.Struct("!Qq")
_RTP_HEADER_BYTES = 12
_RECEIVE_BUFFER_BYTES = 65_536
_DATAGRAM_BYTES_MAX = 2_048


class Client:
    """One session. Its life begins with the offer; the socket is non-blocking."""

    def __init__(self, origin: str, frames_max: int) -> None:
        self.websocket = WebSocket(origin)
        local = new_credentials()
        self.offered_at = time.monotonic()
        self.websocket.send({"type": "offer", "sdp": make_offer(local)})
        answer = self.websocket.receive()
        assert answer["type"] == "answer", answer
        self.answered_at = time.monotonic()
        self.checked_at = self.connected_at = self.echoed_at = 0.0
        self.peer = peer_for_answer(answer["sdp"], local, frames=0)
        self.socket = _connected_socket(self.peer.server)
        self.sent = 0
        self.counted_from = 0
        """The number of the first packet that counts."""
        self.due = 0.0
        """When the peer wants to be called."""
        self.unreadable = 0
        """Media packets that failed authentication or were nobody's echo."""
        self._echoed = bytearray(frames_max)  # 1: the packet of that number has come back
        self._round_trips: array[int] | None = None
        self.peer.start(self.answered_at)
        self.pump()

    def count_from_here(self, round_trips: "array[int]") -> None:
        """Count from the next packet on; its echoes' times, in ns, go to ``round_trips``."""
        self.counted_from = self.sent
        self._round_trips = round_trips

    @property
    def counted_sent(self) -> int:
        return self.sent - self.counted_from

    @property
    def counted_echoed(self) -> int:
        return self._echoed.count(1, self.counted_from)

    def send_frame(self) -> None:
        """Send the next packet of the stream."""
        peer, number = self.peer, self.sent
        assert peer.srtp is not None
        packet = _PACKET.pack(
            0x90,
            PAYLOAD_TYPE,
            number & 0xFFFF,
            number * 960 & 0xFFFF_FFFF,
            peer.ssrc,
            *_EXTENSION,
            number,
            time.monotonic_ns(),
        )
        self.sent = number + 1
        self._send(peer.srtp.protect_rtp(packet))

    def receive(self) -> None:
        """Take one datagram from the socket."""
        try:
            data = self.socket.recv(_DATAGRAM_BYTES_MAX)
        except (BlockingIOError, ConnectionRefusedError):
            return
        if 128 <= data[0] <= 191 and not 192 <= data[1] <= 223:
            self._receive_echo(data)
            return
        now = time.monotonic()
        self.peer.receive_datagram(data, self.peer.server, now)
        self.pump()
        if not self.checked_at and self.peer.mapped is not None:
            self.checked_at = now
        if not self.connected_at and self.peer.srtp is not None:
            self.connected_at = now

    def handle_timeout(self, now: float) -> None:
        self.peer.handle_timeout(now)
        self.pump()

    def pump(self) -> None:
        """Send what the peer has to send, and ask when it wants to be called."""
        while (transmit := self.peer.next_datagram()) is not None:
            self._send(transmit.data)
        while (event := self.peer.next_event()) is not None:
            del event  # a failure shows as an echo that never comes
        due = self.peer.next_timeout()
        self.due = float("inf") if due is None else due

    def close(self) -> None:
        """Hang up, and wait until the server has."""
        self.websocket.send({"type": "bye"})
        while self.websocket.receive()["type"] != "bye":
            pass
        self.websocket.close()
        self.socket.close()

    def _receive_echo(self, data: bytes) -> None:
        assert self.peer.srtp is not None
        try:
            packet = self.peer.srtp.unprotect_rtp(data)
        except SrtpError:
            self.unreadable += 1
            return
        number, sent_at = _NUMBER_AND_TIME.unpack_from(packet, _RTP_HEADER_BYTES)
        if number >= self.sent or self._echoed[number]:
            self.unreadable += 1
            return
        self._echoed[number] = 1
        if self._round_trips is not None and number >= self.counted_from:
            self._round_trips.append(time.monotonic_ns() - sent_at)
        elif not self.echoed_at:
            self.echoed_at = time.monotonic()

    def _send(self, data: bytes) -> None:
        try:
            self.socket.send(data)
        except (BlockingIOError, ConnectionRefusedError):
            return  # lost: it shows in the count


def _connected_socket(server: Address) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    opened.connect((server.host, server.port))
    return opened
