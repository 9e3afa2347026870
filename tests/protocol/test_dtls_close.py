"""How an association ends."""

import pytest

from edge.dtls.transport import DtlsTransport, HandshakeCompleted, PeerClosed, Role
from edge.machine import Machine
from tests.protocol.test_dtls_handshake import (
    CLIENT,
    SERVER,
    SERVER_ADDRESS,
    both_told,
    dtls_link,
)
from tests.support.link import Endpoint, Link


def ends(link: Link, closing: Role) -> tuple[Endpoint[object], Endpoint[object]]:
    """Return the end that closes and the other one."""
    return (link.left, link.right) if closing is Role.CLIENT else (link.right, link.left)


def connected() -> Link:
    link = dtls_link()
    assert link.run(lambda: both_told(link), deadline=1.0)
    link.run(lambda: False, deadline=5.0)
    return link


def transport(machine: Machine[object]) -> DtlsTransport:
    assert isinstance(machine, DtlsTransport)
    return machine


@pytest.mark.parametrize("closing", list(Role))
def test_close_notify_reaches_the_peer(closing: Role) -> None:
    link = connected()
    end, other = ends(link, closing)
    end.machine.close(link.now)
    assert link.run(lambda: len(other.events) == 2, deadline=6.0)
    assert isinstance(other.events[0], HandshakeCompleted)
    assert other.events[1] == PeerClosed()
    assert len(end.events) == 1  # the one that closes is told nothing
    for machine in (end.machine, other.machine):
        assert not transport(machine).established
        assert machine.next_timeout() is None


def test_close_is_idempotent_and_final() -> None:
    link = connected()
    machine = transport(link.left.machine)
    machine.close(link.now)
    assert machine.next_datagram() is not None
    machine.close(link.now)
    machine.start(SERVER_ADDRESS, link.now)
    machine.receive_datagram(b"\x16junk", SERVER_ADDRESS, link.now)
    machine.handle_timeout(link.now + 100)
    assert machine.next_datagram() is None
    assert machine.next_event() is None
    assert machine.next_timeout() is None
    assert not machine.drops


def test_close_before_the_start_is_silent() -> None:
    machine = DtlsTransport(Role.CLIENT, CLIENT, [SERVER.identity.fingerprint()])
    machine.close(0.0)
    machine.start(SERVER_ADDRESS, 0.0)
    assert machine.next_datagram() is None
    assert machine.next_timeout() is None


def test_close_during_the_handshake_keeps_what_was_queued() -> None:
    machine = DtlsTransport(Role.CLIENT, CLIENT, [SERVER.identity.fingerprint()])
    machine.start(SERVER_ADDRESS, 0.0)
    machine.close(0.0)
    assert machine.next_datagram() is not None  # the ClientHello
    assert machine.next_datagram() is None
    assert machine.next_timeout() is None


def test_application_data_is_dropped_and_counted() -> None:
    link = connected()
    left = transport(link.left.machine)
    assert left._connection is not None
    left._connection.send(b"not for us")
    left._flush(left._connection)
    link.run(lambda: False, deadline=6.0)
    assert link.right.machine.drops == {"application-data": 1}
    assert len(link.right.events) == 1
