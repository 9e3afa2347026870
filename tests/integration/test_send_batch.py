"""Sending in batches over a real socket: what the kernel refuses must not stop the rest."""

import socket
from collections.abc import Iterator

import pytest

from edge.routing.sockaddr import encode_sockaddr
from edge.udp import BATCH_ROWS, SendBatch, open_udp_socket
from edge.udp.system import ROW_STRIDE

HOSTS = ["127.0.0.1", "::1"]


@pytest.fixture(params=HOSTS)
def sockets(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a sender and a receiver."""
    with (
        open_udp_socket(request.param, 0, receive_buffer_bytes=1 << 20, reuse_port=False) as sender,
        open_udp_socket(
            request.param, 0, receive_buffer_bytes=1 << 20, reuse_port=False
        ) as receiver,
    ):
        yield sender, receiver


def received(receiver: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(receiver.recv(65536))
        except BlockingIOError:
            return found


def test_everything_queued_goes_out_in_order(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = sockets
    batch = SendBatch(sender.fileno(), sender.family)
    client = encode_sockaddr(*receiver.getsockname()[:2])
    payloads = [bytes([number % 256]) * (number % 100) for number in range(2 * BATCH_ROWS + 5)]
    for payload in payloads:
        batch.add(payload, client)
    batch.flush()
    batch.flush()
    assert received(receiver) == payloads
    assert not batch.drops


def test_a_refused_datagram_is_counted_and_the_others_go(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """sendmmsg stops early at an error and tells it only when it is called again."""
    sender, receiver = sockets
    batch = SendBatch(sender.fileno(), sender.family)
    host, port = receiver.getsockname()[:2]
    good, nowhere = encode_sockaddr(host, port), encode_sockaddr(host, 0)
    for payload, client in ((b"1", good), (b"x", nowhere), (b"2", good), (b"y", nowhere)):
        batch.add(payload, client)
    batch.flush()
    assert received(receiver) == [b"1", b"2"]
    assert batch.drops == {"send-refused": 2}


def test_an_oversized_datagram_is_not_queued(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = sockets
    batch = SendBatch(sender.fileno(), sender.family)
    client = encode_sockaddr(*receiver.getsockname()[:2])
    batch.add(bytes(ROW_STRIDE + 1), client)
    batch.add(bytes(ROW_STRIDE), client)
    batch.flush()
    assert [len(one) for one in received(receiver)] == [ROW_STRIDE]
    assert batch.drops == {"send-too-long": 1}


def test_a_full_send_buffer_drops_the_rest_and_does_not_wait(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback never fills a send buffer, so the system call's answer is put in its place."""
    sender, receiver = sockets
    batch = SendBatch(sender.fileno(), sender.family)
    client = encode_sockaddr(*receiver.getsockname()[:2])
    for _ in range(3):
        batch.add(b"x", client)
    with monkeypatch.context() as patch:
        patch.setattr("edge.udp.send.sendmmsg", lambda *_: -1)
        patch.setattr("ctypes.get_errno", lambda: 11)  # EAGAIN
        batch.flush()
    assert batch.drops == {"send-buffer-full": 3}
    batch.add(b"later", client)
    batch.flush()
    assert received(receiver) == [b"later"]
