"""What anybody can forge into a handshake or an association, and that it does nothing."""

import os
import random
import struct

import pytest

from edge.dtls.records import HEADER_BYTES
from edge.dtls.transport import DtlsTransport, FailureReason, HandshakeFailed
from tests.protocol.test_dtls_handshake import both_told, dtls_link, keys
from tests.support.link import Path


def record(content_type: int, body: bytes, *, epoch: int = 0, sequence: int = 7) -> bytes:
    """Encode a DTLS 1.2 record (RFC 6347 §4.1)."""
    return struct.pack("!BHHHIH", content_type, 0xFEFD, epoch, 0, sequence, len(body)) + body


FORGERIES = {
    "fatal-alert": record(21, b"\x02\x28"),
    "close-notify": record(21, b"\x01\x00"),
    "application-data": record(23, b"hello"),
    "unknown-type": record(99, b"hello"),
    "heartbeat": record(24, b"\x01\x40\x00"),
    "lying-length": record(22, b"hello")[:11] + b"\xff\xff" + b"hello",
    "bad-ccs": record(20, b"\x07"),
    "early-ccs": record(20, b"\x01"),
    "empty": record(22, b""),
    "huge-message": record(22, b"\x0b\xff\xff\xff\x00\x05\x00\x00\x00\x00\x00\x01x"),
    "sealed-junk": record(22, bytes(range(48)), epoch=1),
    "sealed-alert": record(21, bytes(range(26)), epoch=1),
    "far-epoch": record(22, bytes(range(48)), epoch=9),
    "text": b"\x16hello",
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("seed", range(5))
def test_handshake_survives_forgeries_around_every_datagram(name: str, seed: int) -> None:
    forged = FORGERIES[name]
    path = Path(alter=lambda data: [forged, data, forged, forged + data], loss=0.1)
    link = dtls_link(seed=seed, forward=path, backward=path)
    assert link.run(lambda: both_told(link), deadline=14.0)
    keys(link)


@pytest.mark.parametrize("seed", range(20))
def test_handshake_survives_random_junk(seed: int) -> None:
    chance = random.Random(seed)

    def with_junk(data: bytes) -> list[bytes]:
        junk = [
            bytes([chance.randrange(18, 26)]) + chance.randbytes(chance.randrange(200))
            for _ in range(5)
        ]
        return [*junk, data, *junk]

    path = Path(alter=with_junk)
    link = dtls_link(seed=seed, forward=path, backward=path)
    assert link.run(lambda: both_told(link), deadline=14.0)
    keys(link)


@pytest.mark.parametrize("name", FORGERIES)
def test_association_survives_forgeries(name: str) -> None:
    link = dtls_link()
    link.run(lambda: both_told(link), deadline=1.0)
    for _ in range(100):
        link.inject(FORGERIES[name], link.left.address, link.right.address)
        link.inject(FORGERIES[name], link.right.address, link.left.address)
    link.run(lambda: False, deadline=2.0)
    keys(link)  # no further event
    for end in (link.left, link.right):
        assert isinstance(end.machine, DtlsTransport)
        assert end.machine.established


def test_new_client_hello_does_not_disturb_the_association() -> None:
    link, other = dtls_link(), dtls_link()
    link.run(lambda: both_told(link), deadline=1.0)
    hello = other.left.machine.next_datagram()
    assert hello is not None
    link.inject(hello.data, link.left.address, link.right.address)
    link.run(lambda: False, deadline=2.0)
    keys(link)


def test_reflected_client_hello_does_no_harm() -> None:
    link = dtls_link()
    left, right = link.left.address, link.right.address

    def reflect(datagram: bytes) -> list[bytes]:
        if datagram[HEADER_BYTES] == 1:
            link.inject(datagram, right, left)
        return [datagram]

    link._forward = Path(alter=reflect)
    assert link.run(lambda: both_told(link), deadline=1.0)
    keys(link)
    assert link.left.machine.drops == {"record-malformed": 1}


def test_forgeries_are_counted() -> None:
    link = dtls_link()
    for name in ("fatal-alert", "application-data", "unknown-type", "lying-length", "bad-ccs"):
        link.inject(FORGERIES[name], link.left.address, link.right.address)
    link.run(lambda: both_told(link), deadline=1.0)
    assert link.right.machine.drops == {
        "plaintext-alert": 1,
        "plaintext-application-data": 1,
        "record-unknown": 1,
        "record-truncated": 1,
        "record-malformed": 1,
    }


def test_plaintext_alert_shows_in_the_reason_once_the_time_is_up() -> None:
    link = dtls_link(forward=Path(loss=1.0))
    link.inject(FORGERIES["fatal-alert"], link.right.address, link.left.address)
    assert link.run(lambda: bool(link.left.events), deadline=20.0)
    assert link.now == pytest.approx(15.0)
    assert link.left.events == [HandshakeFailed(FailureReason.ALERT_RECEIVED)]


def test_flood_of_sealed_junk_before_the_handshake_is_harmless() -> None:
    link = dtls_link(forward=Path(delay=0.1))
    for number in range(2000):
        junk = record(22, os.urandom(1000), epoch=1, sequence=number)
        link.inject(junk, link.left.address, link.right.address)
    assert link.run(lambda: both_told(link), deadline=5.0)
    keys(link)
