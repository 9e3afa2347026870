"""Handshakes between two DtlsTransports over a clean network, and the helpers of this folder's
other DTLS tests.

OpenSSL's own timer follows the real clock and the Link's does not, so in these tests it never
fires: every repetition here is DtlsTransport's own (test_dtls_openssl_timer.py has the other).
"""

import os
import time

import pytest

from edge.dtls.certificate import Fingerprint, Identity
from edge.dtls.context import DtlsContexts
from edge.dtls.transport import (
    DtlsTransport,
    FailureReason,
    HandshakeCompleted,
    HandshakeFailed,
    Role,
)
from edge.errors import LocalProtocolError
from edge.machine import Address
from edge.srtp.profile import PREFERENCE, SrtpKeying, SrtpProfile
from edge.srtp.session import SrtpSession
from tests.support.link import Endpoint, Link, Path

CLIENT_ADDRESS = Address("192.0.2.1", 40000)
SERVER_ADDRESS = Address("198.51.100.1", 3478)

CLIENT = DtlsContexts(Identity.create(os.urandom, time.time()))
SERVER = DtlsContexts(Identity.create(os.urandom, time.time()))


def dtls_link(
    *,
    client: DtlsContexts = CLIENT,
    server: DtlsContexts = SERVER,
    client_expects: Fingerprint | None = None,
    server_expects: Fingerprint | None = None,
    seed: int = 0,
    forward: Path | None = None,
    backward: Path | None = None,
) -> Link:
    """Return a started client (left) and server (right); each expects the other's certificate."""
    left = DtlsTransport(Role.CLIENT, client, [client_expects or server.identity.fingerprint()])
    right = DtlsTransport(Role.SERVER, server, [server_expects or client.identity.fingerprint()])
    link = Link(
        Endpoint(left, CLIENT_ADDRESS),
        Endpoint(right, SERVER_ADDRESS),
        seed=seed,
        forward=forward,
        backward=backward,
    )
    right.start(CLIENT_ADDRESS, link.now)
    left.start(SERVER_ADDRESS, link.now)
    return link


def both_told(link: Link) -> bool:
    return bool(link.left.events and link.right.events)


def keys(link: Link) -> tuple[SrtpKeying, SrtpKeying]:
    """Return what both ends completed with, and assert that they fit together."""
    (left,), (right,) = link.left.events, link.right.events
    assert isinstance(left, HandshakeCompleted)
    assert isinstance(right, HandshakeCompleted)
    assert left.keying.profile is right.keying.profile
    assert left.keying.local == right.keying.remote != b""
    assert left.keying.remote == right.keying.local != left.keying.local
    return left.keying, right.keying


def test_handshake_takes_two_round_trips() -> None:
    link = dtls_link(forward=Path(delay=0.05), backward=Path(delay=0.05))
    assert link.run(lambda: both_told(link), deadline=1.0)
    assert link.now == pytest.approx(0.2)
    left, _ = keys(link)
    assert left.profile is SrtpProfile.AEAD_AES_128_GCM


def test_media_flows_with_the_negotiated_keys() -> None:
    link = dtls_link()
    link.run(lambda: both_told(link), deadline=1.0)
    left, right = keys(link)
    packet = b"\x80\x6f\x00\x01" + bytes(8) + b"voice"
    assert SrtpSession(right).unprotect_rtp(SrtpSession(left).protect_rtp(packet)) == packet


@pytest.mark.parametrize("profile", list(SrtpProfile))
@pytest.mark.parametrize("restricted", [Role.CLIENT, Role.SERVER])
def test_a_peer_with_one_profile_gets_it(profile: SrtpProfile, restricted: Role) -> None:
    if restricted is Role.CLIENT:
        link = dtls_link(client=DtlsContexts(CLIENT.identity, (profile,)))
    else:
        link = dtls_link(server=DtlsContexts(SERVER.identity, (profile,)))
    assert link.run(lambda: both_told(link), deadline=1.0)
    assert keys(link)[0].profile is profile


def test_gcm_is_preferred_by_the_server_whatever_the_client_prefers() -> None:
    link = dtls_link(client=DtlsContexts(CLIENT.identity, PREFERENCE[::-1]))
    assert link.run(lambda: both_told(link), deadline=1.0)
    assert keys(link)[0].profile is SrtpProfile.AEAD_AES_128_GCM


def test_every_datagram_fits_the_mtu() -> None:
    link = dtls_link(forward=Path(mtu=1200), backward=Path(mtu=1200))
    assert link.run(lambda: both_told(link), deadline=1.0)
    assert link.counts["too-long"] == 0


def test_server_may_start_late() -> None:
    left = DtlsTransport(Role.CLIENT, CLIENT, [SERVER.identity.fingerprint()])
    right = DtlsTransport(Role.SERVER, SERVER, [CLIENT.identity.fingerprint()])
    link = Link(Endpoint(left, CLIENT_ADDRESS), Endpoint(right, SERVER_ADDRESS))
    left.start(SERVER_ADDRESS, link.now)
    link.run(lambda: False, deadline=0.05)
    assert right.drops == {"not-started": 1}
    right.start(CLIENT_ADDRESS, link.now)
    assert link.run(lambda: both_told(link), deadline=1.0)
    keys(link)


def test_destination_may_move_during_the_handshake() -> None:
    link = dtls_link()
    link.run(lambda: link.counts["delivered"] == 1, deadline=1.0)
    moved = Address("203.0.113.5", 50000)
    link.left.address = moved
    assert isinstance(link.right.machine, DtlsTransport)
    link.right.machine.destination = moved
    assert link.run(lambda: both_told(link), deadline=2.0)
    keys(link)


@pytest.mark.parametrize("role", list(Role))
def test_silent_peer_times_out(role: Role) -> None:
    transport = DtlsTransport(role, CLIENT, [SERVER.identity.fingerprint()], handshake_timeout=3.0)
    other = DtlsTransport(Role.SERVER, SERVER, [CLIENT.identity.fingerprint()])
    link = Link(Endpoint(transport, CLIENT_ADDRESS), Endpoint(other, SERVER_ADDRESS))
    transport.start(SERVER_ADDRESS, link.now)
    assert link.run(lambda: bool(link.left.events), deadline=10.0)
    assert link.now == pytest.approx(3.0)
    assert link.left.events == [HandshakeFailed(FailureReason.TIMEOUT)]
    assert transport.next_timeout() is None


def test_repetitions_are_bounded() -> None:
    link = dtls_link(forward=Path(loss=1.0))
    assert link.run(lambda: both_told(link), deadline=30.0)
    assert link.now == pytest.approx(15.0)
    assert 15 <= link.counts["sent"] <= 21  # one ClientHello and at most 20 repetitions
    assert link.left.events == [HandshakeFailed(FailureReason.TIMEOUT)]


def test_misuse_is_told() -> None:
    with pytest.raises(LocalProtocolError):
        DtlsTransport(Role.CLIENT, CLIENT, [])
    transport = DtlsTransport(Role.CLIENT, CLIENT, [SERVER.identity.fingerprint()])
    transport.start(SERVER_ADDRESS, 0.0)
    with pytest.raises(LocalProtocolError):
        transport.start(SERVER_ADDRESS, 0.0)
