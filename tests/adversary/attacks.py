"""What an attacker sends who can write any source address and has sessions of his own.

He also reads what his victim sends to the appliance, which is more than most attackers can, and
what the replays need.
"""

import itertools
import os
import random
from collections import Counter, deque
from collections.abc import Iterator

import trio
from attrs import define, field

from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.rtp.packet import RtpPacket, encode_rtp
from tests.support.caller import LiveCall
from tests.support.netns import Spoofer
from tests.support.peer import PAYLOAD_TYPE

PRIORITY_MAX = 0x7FFF_FFFF
SSRC = 0x0BAD_CA11
KEPT = 100
ROUND_TIME = 0.0125
"""80 rounds per second: no kind of check alone exceeds what a relay lets pass."""
ELSEWHERE = 4
"""Rounds per packet from elsewhere."""


@define
class Capture:
    """What somebody on the path has read of a call; give it to ``LiveCall.drop``."""

    ssrc: int
    checks: deque[bytes] = field(factory=lambda: deque(maxlen=KEPT))
    media: deque[bytes] = field(factory=lambda: deque(maxlen=KEPT))

    def __call__(self, data: bytes) -> bool:
        if data[:2] == b"\x00\x01":
            self.checks.append(data)
        elif data[8:12] == self.ssrc.to_bytes(4):
            self.media.append(data)
        return False


def capture(call: LiveCall) -> Capture:
    """Read a call's packets from now on."""
    call.drop = Capture(call.peer.ssrc)
    return call.drop


def own_check(call: LiveCall) -> bytes:
    """Return a fresh, authentic, nominating check of a session."""
    peer = call.peer
    return stun.encode_request(
        local=peer._local,
        remote=peer._remote,
        priority=PRIORITY_MAX,
        tie_breaker=1,
        use_candidate=True,
        transaction_id=os.urandom(12),
    )


def forged_check(ufrag: str) -> bytes:
    """Return a check for a session whose password the sender does not know."""
    return stun.encode_request(
        local=Credentials("evil", "e" * 32),
        remote=Credentials(ufrag, "e" * 32),
        priority=PRIORITY_MAX,
        tie_breaker=1,
        use_candidate=True,
        transaction_id=os.urandom(12),
    )


def own_media(call: LiveCall, numbers: Iterator[int]) -> bytes:
    """Return a packet that a session's SRTP takes."""
    assert call.peer.srtp is not None
    number = next(numbers) & 0xFFFF
    packet = RtpPacket(PAYLOAD_TYPE, False, number, number * 960, SSRC, bytes(80))
    return call.peer.srtp.protect_rtp(encode_rtp(packet))


def damaged(packet: bytes) -> bytes:
    """Return a media packet with a later sequence number and a tag that cannot fit."""
    number = int.from_bytes(packet[2:4]) + 100 & 0xFFFF
    return packet[:2] + number.to_bytes(2) + packet[4:]


def record(content_type: int, epoch: int, body: bytes, sequence: int) -> bytes:
    """Return a DTLS 1.2 record."""
    head = bytes([content_type, 0xFE, 0xFD]) + epoch.to_bytes(2) + sequence.to_bytes(6)
    return head + len(body).to_bytes(2) + body


def client_hello() -> bytes:
    """Return a ClientHello that offers TLS_NULL_WITH_NULL_NULL and nothing else."""
    body = b"\xfe\xfd" + os.urandom(32) + b"\x00\x00\x00\x02\x00\x00\x01\x00"
    size = len(body).to_bytes(3)
    return record(22, 0, b"\x01" + size + bytes(5) + size + body, random.randrange(8))


def dtls_packets() -> list[bytes]:
    """Return DTLS that would harm a session that took it for its peer's."""
    return [
        client_hello(),
        client_hello()[: random.randrange(14, 60)],  # cut short
        record(21, 0, b"\x02\x28", 3),  # fatal alert: handshake failure
        record(21, 0, b"\x01\x00", 4),  # close_notify
        record(21, 1, os.urandom(26), 5),  # an encrypted alert
        record(23, 0, b"data", 6),
        record(23, 1, os.urandom(40), 7),
    ]


@define
class Attack:
    """Everything at once, against one call. ``near`` is a session on the victim's transceiver."""

    spoofer: Spoofer
    server: tuple[str, int]
    victim: LiveCall
    victim_address: tuple[str, int]
    captured: Capture
    sessions: tuple[LiveCall, ...]
    own_addresses: list[tuple[str, int]]
    """Where he can read answers, and where nobody is."""
    sent: Counter[str] = field(factory=Counter)
    _numbers: Iterator[int] = field(factory=itertools.count)
    _rounds: Iterator[int] = field(factory=itertools.count)

    def round(self) -> None:
        """Send one of everything, now and then from elsewhere, too."""
        for session in self.sessions:
            self._send("own-check", own_check(session), self.victim_address)
            self._send("own-media", own_media(session, self._numbers), self.victim_address)
        for address in self.own_addresses if next(self._rounds) % ELSEWHERE == 0 else ():
            self._send("replayed-check", random.choice(self.captured.checks), address)
            self._send("diverted-media", random.choice(self.captured.media), address)
            self._send("forged-check", forged_check(self.victim.ufrag), address)
        self._send("forged-check", forged_check(self.victim.ufrag), self.victim_address)
        media = random.choice(self.captured.media)
        self._send("replayed-media", media, self.victim_address)
        self._send("forged-media", damaged(media), self.victim_address)
        goodbye = b"\x81\xcb\x00\x01" + media[8:12] + os.urandom(20)
        self._send("forged-rtcp", goodbye, self.victim_address)
        for packet in dtls_packets():
            self._send("forged-dtls", packet, self.victim_address)

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self.round()
            await trio.sleep(ROUND_TIME)

    def _send(self, kind: str, packet: bytes, source: tuple[str, int]) -> None:
        self.spoofer.send(packet, source, self.server)
        self.sent[kind] += 1
