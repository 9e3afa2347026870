"""DtlsTransport keeps the laws of edge.machine; law 5 has OpenSSL as its known exception."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.dtls.transport import DtlsTransport, HandshakeFailed, PeerClosed, Role
from tests.protocol.test_dtls_handshake import (
    CLIENT,
    CLIENT_ADDRESS,
    SERVER,
    both_told,
    dtls_link,
)
from tests.support.machine_laws import Call, Close, Datagram, Step, Wait, check_machine_laws

Factory = Callable[[], DtlsTransport]


def new_client() -> DtlsTransport:
    return DtlsTransport(Role.CLIENT, CLIENT, [SERVER.identity.fingerprint()])


def new_server() -> DtlsTransport:
    return DtlsTransport(Role.SERVER, SERVER, [CLIENT.identity.fingerprint()])


def established(role: Role) -> DtlsTransport:
    link = dtls_link()
    assert link.run(lambda: both_told(link), deadline=1.0)
    machine = (link.left if role is Role.CLIENT else link.right).machine
    assert isinstance(machine, DtlsTransport)
    return machine


def established_client() -> DtlsTransport:
    return established(Role.CLIENT)


def established_server() -> DtlsTransport:
    return established(Role.SERVER)


def start_once(machine: DtlsTransport, now: float) -> None:
    if machine.destination is None:
        machine.start(CLIENT_ADDRESS, now)


def record(content_type: int, epoch: int, body: bytes) -> bytes:
    head = bytes([content_type]) + b"\xfe\xfd" + epoch.to_bytes(2) + bytes(5) + b"\x05"
    return head + len(body).to_bytes(2) + body


def hello() -> bytes:
    client = new_client()
    client.start(CLIENT_ADDRESS, 0.0)
    transmit = client.next_datagram()
    assert transmit is not None
    return transmit.data


HELLO = hello()

JUNK = st.sampled_from(
    [
        record(21, 0, b"\x02\x28"),
        record(23, 0, b"data"),
        record(20, 0, b"\x02"),
        record(22, 0, b"short"),
        record(24, 0, b""),
        b"\x16",
    ]
)
NOISE = st.binary(max_size=100) | st.builds(
    record, st.integers(20, 23), st.integers(0, 2), st.binary(max_size=60)
)

STEPS: st.SearchStrategy[Step[DtlsTransport]] = st.one_of(
    st.just(Call(start_once)),
    st.floats(0.0, 20.0).map(Wait),
    st.floats(0.0, 20.0).map(lambda seconds: Wait(seconds, late=True)),
    JUNK.map(lambda data: Datagram(data, CLIENT_ADDRESS, junk=True)),
    NOISE.map(lambda data: Datagram(data, CLIENT_ADDRESS)),
    st.just(Datagram(HELLO, CLIENT_ADDRESS)),
    st.just(Close()),
)


@pytest.mark.parametrize(
    "factory", [new_client, new_server, established_client, established_server]
)
@settings(max_examples=50, deadline=None)
@given(steps=st.lists(STEPS, max_size=12))
def test_laws(factory: Factory, steps: list[Step[DtlsTransport]]) -> None:
    check_machine_laws(
        factory, steps, final_events=(HandshakeFailed, PeerClosed), deterministic=False
    )
