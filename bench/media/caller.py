"""One session of the load client: a caller who speaks without pause and counts what comes back."""

import struct
import time
from array import array

from bench.echo.client import Client
from edge.errors import SrtpError
from tests.support.listening.stream import make_stream
from tests.support.peer import PAYLOAD_TYPE

VOICE_SECONDS = 10.0
SOUND_BYTES_MIN = 50
"""Shorter packets are signs of silence or reports, and no sound of the backend."""
VERIFIED = 8
"""One packet of so many is authenticated and decrypted: nothing else here costs as much."""

_HEADER = struct.Struct("!BBHII")
_SENT_AT = struct.Struct("!q72x")


class Caller(Client):
    """Sends a voice in Opus."""

    def __init__(self, origin: str) -> None:
        self.heard = 0
        """Packets with sound that came."""
        self.answers: array[int] = array("q")
        """Round trips in ns, if the other end echoes."""
        self._payloads = [
            sent.packet.payload for sent in make_stream(VOICE_SECONDS, expected_loss=0.0).packets
        ]
        super().__init__(origin, 0)

    def send_frame(self) -> None:
        number = self.sent
        self.sent = number + 1
        peer = self.peer
        assert peer.srtp is not None
        header = _HEADER.pack(
            0x80, PAYLOAD_TYPE, number & 0xFFFF, number * 960 & 0xFFFF_FFFF, peer.ssrc
        )
        self._send(peer.srtp.protect_rtp(header + self._payload(number)))

    def _payload(self, number: int) -> bytes:
        return self._payloads[number % len(self._payloads)]

    def _receive_echo(self, data: bytes) -> None:
        if len(data) < SOUND_BYTES_MIN:
            return
        self.heard += 1
        if not self.echoed_at:
            self.echoed_at = time.monotonic()
        if self.heard % VERIFIED:
            return
        assert self.peer.srtp is not None
        try:
            self._take(self.peer.srtp.unprotect_rtp(data))
        except SrtpError:
            self.unreadable += 1

    def _take(self, packet: bytes) -> None:
        """Look into a packet of sound."""


class EchoCaller(Caller):
    """Sends the time instead of a voice, and notes when it comes back."""

    def _payload(self, number: int) -> bytes:  # noqa: ARG002 - as every caller's
        return _SENT_AT.pack(time.monotonic_ns())

    def _take(self, packet: bytes) -> None:
        (sent_at,) = _SENT_AT.unpack_from(packet, _HEADER.size)
        self.answers.append(time.monotonic_ns() - sent_at)
