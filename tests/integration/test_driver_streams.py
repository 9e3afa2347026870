"""The driver and clients that come over TCP, with two relays in the test's hands."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from attrs import define, field

from edge.dtls.keying import Role
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.machine import Address
from edge.media.punctuality import Punctuality
from edge.routing import frames
from edge.routing.sockaddr import encode_sockaddr
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.returning import ROWS_MAX, StreamBatch
from edge.transceiver.session import EndReason
from edge.udp import open_udp_socket
from tests.support.calls import make_session

CLIENT = encode_sockaddr("192.0.2.1", 50_000)
OTHER = encode_sockaddr("192.0.2.2", 50_000)
TCP = (1, 2)
"""What stands for the relays' TCP clients, as there is one public socket."""


@define
class Rig:
    driver: Driver
    public: socket.socket
    internal: socket.socket
    relays: list[socket.socket]
    remotes: dict[Driven, tuple[Credentials, Credentials]] = field(factory=dict)

    def add(self) -> Driven:
        number = len(self.remotes)
        session, server, local = make_session(Role.CLIENT, random.Random(number).randbytes)
        server = Credentials(f"{server.ufrag}{number}", server.password)
        session._ice.local = server
        driven = Driven(f"s{number}", server.ufrag.encode(), session, lambda _: None, 0)
        self.remotes[driven] = server, local
        self.driver.add(driven, 0.0)
        return driven

    def check(self, driven: Driven) -> bytes:
        server, local = self.remotes[driven]
        return stun.encode_request(
            local=local,
            remote=server,
            priority=1,
            tie_breaker=1,
            use_candidate=True,
            transaction_id=random.randbytes(12),
        )

    def feed(
        self,
        payload: bytes,
        client: bytes = CLIENT,
        *,
        relay: int = 0,
        index: int | None = None,
        kind: int = frames.PACKETS,
        flags: int = frames.UNCONFIRMED,
        now: float = 1.0,
    ) -> None:
        index = TCP[relay] if index is None else index
        frame = frames.encode_frame(kind, index, relay, [frames.Row(client, flags, payload)])
        source = address(self.relays[relay])
        self.driver.receive_frame(memoryview(frame), source, now)

    def got(self, relay: int = 0) -> list[frames.Frame]:
        """Return what a relay has been sent since the last time."""
        found: list[frames.Frame] = []
        while True:
            try:
                found.append(frames.decode_frame(memoryview(self.relays[relay].recv(65536))))
            except BlockingIOError:
                return found


def address(one: socket.socket) -> tuple[str, int]:
    host, port = one.getsockname()
    return host, port


def closed(client: bytes = CLIENT) -> list[frames.Row]:
    return [frames.Row(client, 0, b"")]


@contextmanager
def make_rig() -> Iterator[Rig]:
    with ExitStack() as undo:
        public, internal, *relays = (
            undo.enter_context(
                open_udp_socket("127.0.0.1", 0, receive_buffer_bytes=1 << 20, reuse_port=False)
            )
            for _ in range(4)
        )
        driver = Driver([public], internal, map(address, relays[:2]), Punctuality())
        yield Rig(driver, public, internal, relays)


def test_a_check_is_confirmed_and_answered_through_its_relay() -> None:
    with make_rig() as rig:
        driven = rig.add()
        rig.feed(rig.check(driven), relay=1)
        confirm, deliver = rig.got(1)
        assert confirm == frames.Frame(frames.CONFIRM, TCP[1], 0, closed())
        assert (deliver.kind, deliver.socket) == (frames.DELIVER, TCP[1])
        assert [row.client for row in deliver.rows] == [CLIENT] * len(deliver.rows)
        assert [row.payload[0] for row in deliver.rows] == [1, 22], "the answer, a ClientHello"
        assert driven.session.valid(Address("192.0.2.1", 50_000, TCP[1]))
        assert rig.got(0) == []


def test_the_same_address_at_two_relays_is_two_clients() -> None:
    with make_rig() as rig:
        first, second = rig.add(), rig.add()
        rig.feed(rig.check(first), relay=0)
        rig.feed(rig.check(second), relay=1)
        assert [frame.kind for frame in rig.got(0)] == [frames.CONFIRM, frames.DELIVER]
        assert [frame.kind for frame in rig.got(1)] == [frames.CONFIRM, frames.DELIVER]
        assert rig.driver.drops == {}


def test_the_end_of_a_session_is_told_to_the_relay_behind_its_last_words() -> None:
    with make_rig() as rig:
        driven = rig.add()
        rig.feed(rig.check(driven), relay=1)
        rig.got(1)
        rig.driver.end(driven, EndReason.CLIENT_BYE, 2.0)
        kinds = [frame.kind for frame in rig.got(1)]
        assert kinds[-1] == frames.RELEASE
        assert rig.got(0) == []


def test_media_of_a_client_that_is_nobodys_has_its_connection_released() -> None:
    with make_rig() as rig:
        rig.feed(b"\x80" + bytes(30), flags=0)
        assert rig.got() == [frames.Frame(frames.RELEASE, TCP[0], 0, closed())]


def test_a_closed_connection_is_forgotten() -> None:
    with make_rig() as rig:
        first, second = rig.add(), rig.add()
        rig.feed(rig.check(first))
        rig.got()
        rig.feed(b"", kind=frames.CLOSED)
        assert first.addresses == {}
        rig.feed(b"", kind=frames.CLOSED)
        rig.feed(b"", OTHER, kind=frames.CLOSED)
        assert rig.driver.drops == {}
        assert len(rig.driver) == 2, "their clients may have other ways"
        rig.driver.end(first, EndReason.CLIENT_BYE, 2.0)
        assert all(frame.kind == frames.DELIVER for frame in rig.got()), "nothing to release"
        rig.feed(rig.check(second))
        assert rig.got()[0].kind == frames.CONFIRM


def test_a_session_goes_on_over_another_way() -> None:
    with make_rig() as rig:
        driven = rig.add()
        rig.feed(rig.check(driven))
        rig.feed(b"", kind=frames.CLOSED)
        with open_udp_socket(
            "127.0.0.1", 0, receive_buffer_bytes=1 << 16, reuse_port=False
        ) as client:
            udp = encode_sockaddr(*address(client))
            rig.feed(rig.check(driven), udp, index=0, now=2.5)
            assert driven.session.destination == Address(*address(client))
            assert client.recv(2048)[0] == 1
        assert list(driven.addresses.values()) == [udp]


def test_media_leaves_a_closed_connection_at_once() -> None:
    with make_rig() as rig:
        driven = rig.add()
        with open_udp_socket(
            "127.0.0.1", 0, receive_buffer_bytes=1 << 16, reuse_port=False
        ) as client:
            rig.feed(rig.check(driven), encode_sockaddr(*address(client)), index=0)
            rig.feed(rig.check(driven), now=2.5)  # nominated as well, and heard last
            assert driven.session.destination != Address(*address(client))
            rig.feed(b"", kind=frames.CLOSED, now=2.6)
            assert driven.session.destination == Address(*address(client))


@pytest.mark.parametrize(
    ("kind", "relay", "index"),
    [
        pytest.param(frames.PACKETS, 0, TCP[1], id="in another relay's name"),
        pytest.param(frames.CLOSED, 1, TCP[0], id="the end of another relay's connection"),
        pytest.param(frames.CLOSED, 0, 0, id="the end of what has none"),
        pytest.param(frames.DELIVER, 0, TCP[0], id="what goes the other way"),
        pytest.param(frames.CONFIRM, 0, TCP[0], id="a notice of ours"),
        pytest.param(frames.PACKETS, 0, 3, id="a relay that is not there"),
    ],
)
def test_frames_that_no_relay_sends(kind: int, relay: int, index: int) -> None:
    with make_rig() as rig:
        driven = rig.add()
        for one in (0, 1):
            rig.feed(rig.check(driven), relay=one)
            rig.got(one)
        bound = dict(driven.addresses)
        rig.feed(rig.check(driven), relay=relay, index=index, kind=kind)
        assert rig.driver.drops == {"unexpected-frame": 1}
        assert driven.addresses == bound
        assert rig.got(0) == rig.got(1) == []


def test_a_relay_that_comes_later_and_one_that_comes_back_elsewhere() -> None:
    with make_rig() as rig:
        driven = rig.add()
        first, second = (address(one) for one in rig.relays)
        extra = rig.internal  # any socket will do
        rig.driver.trust([first, second, address(extra)])
        frame = frames.encode_frame(
            frames.PACKETS, 3, 2, [frames.Row(CLIENT, frames.UNCONFIRMED, rig.check(driven))]
        )
        rig.driver.receive_frame(memoryview(frame), address(extra), 1.0)
        assert frames.decode_frame(memoryview(extra.recv(65536))).kind == frames.CONFIRM
        rig.driver.trust([second, first])
        rig.relays.reverse()
        rig.feed(rig.check(driven), relay=0)
        assert [frame.kind for frame in rig.got(0)] == [frames.CONFIRM, frames.DELIVER]


def test_there_are_no_more_places_than_a_frame_can_name() -> None:
    with make_rig() as rig:
        many = [("127.0.0.1", 1000 + number) for number in range(300)]
        rig.driver.trust(many)
        frame = frames.encode_frame(frames.PACKETS, 255, 254, [frames.Row(CLIENT, 0, b"\x80")])
        rig.driver.receive_frame(memoryview(frame), many[254], 1.0)
        assert rig.driver.drops["unbound-address"] == 1
        assert len(rig.driver._sender._batches) == frames.SOCKETS_MAX


def test_deliveries_are_batched_and_bounded() -> None:
    with make_rig() as rig:
        batch = StreamBatch(rig.internal, address(rig.relays[0]), TCP[0])
        packet = b"\x80" + bytes(1400)
        for number in range(100):
            batch.add(packet + bytes([number]), CLIENT)
        batch.flush()
        batch.flush()
        got = rig.got()
        assert max(len(frame.rows) for frame in got) <= ROWS_MAX
        assert [row.payload[-1] for frame in got for row in frame.rows] == list(range(100))
        assert len(got) == 3
        assert batch.drops == {}


def test_what_the_internal_hop_does_not_take_is_counted() -> None:
    with make_rig() as rig:
        batch = StreamBatch(rig.internal, ("255.255.255.255", 9), TCP[0])
        for _ in range(3):
            batch.add(b"\x80", CLIENT)
        batch.flush()
        assert batch.drops == {"relay-not-taking": 3}
