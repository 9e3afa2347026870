"""The driver with real sessions and sockets: whose address, whose crash, notices, timers."""

import math
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from attrs import define, field

from edge.dtls.keying import Role
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.machine import Address
from edge.media.punctuality import Punctuality
from edge.routing import frames
from edge.routing.sockaddr import encode_sockaddr
from edge.transceiver.bindings import BINDINGS_MAX
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.session import Ended, EndReason, Layer, LayerUp, Session, SessionLimits
from edge.udp import open_udp_socket
from tests.support.calls import make_session

LIMITS = SessionLimits(setup_timeout=15.0, consent_timeout=30.0)


def open_socket() -> socket.socket:
    return open_udp_socket("127.0.0.1", 0, receive_buffer_bytes=1 << 20, reuse_port=False)


def client(driven: "Client") -> bytes:
    return encode_sockaddr(*driven.socket.getsockname())


@define
class Client:
    """One session in the driver, and its client's socket."""

    driven: Driven
    socket: socket.socket
    server: Credentials
    local: Credentials
    reports: list[LayerUp | Ended]

    def check(self) -> bytes:
        return stun.encode_request(
            local=self.local,
            remote=self.server,
            priority=1,
            tie_breaker=1,
            use_candidate=True,
            transaction_id=random.randbytes(12),
        )

    def answered(self) -> bool:
        return any(data[0] == 1 for data in drain(self.socket))


def drain(one: socket.socket) -> list[bytes]:
    received: list[bytes] = []
    while True:
        try:
            received.append(one.recv(65536))
        except BlockingIOError:
            return received


@define
class Rig:
    driver: Driver
    relay: socket.socket
    internal: socket.socket
    clients: list[Client] = field(factory=list)

    @property
    def relay_address(self) -> tuple[str, int]:
        host, port = self.relay.getsockname()
        return host, port

    def add(self, *, limits: SessionLimits = LIMITS, now: float = 0.0) -> Client:
        session, server, local = make_session(
            Role.CLIENT, random.Random(len(self.clients)).randbytes, limits, now
        )
        number = len(self.clients)
        server = Credentials(f"{server.ufrag}{number}", server.password)
        session._ice.local = server
        reports: list[LayerUp | Ended] = []
        driven = Driven(f"s{number}", server.ufrag.encode(), session, reports.append, 0)
        one = Client(driven, open_socket(), server, local, reports)
        self.clients.append(one)
        self.driver.add(driven, now)
        return one

    def feed(
        self, payload: bytes, sender: bytes, *, flags: int = 0, now: float = 1.0, kind: int = 1
    ) -> None:
        frame = frames.encode_frame(kind, 0, 0, [frames.Row(sender, flags, payload)])
        self.driver.receive_frame(memoryview(frame), self.relay_address, now)

    def notices(self) -> list[frames.Frame]:
        return [frames.decode_frame(memoryview(data)) for data in drain(self.relay)]


@contextmanager
def make_rig() -> Iterator[Rig]:
    with open_socket() as public, open_socket() as internal, open_socket() as relay:
        host, port = relay.getsockname()
        rig = Rig(Driver([public], internal, [(host, port)], Punctuality()), relay, internal)
        try:
            yield rig
        finally:
            for one in rig.clients:
                one.socket.close()


def test_a_check_is_answered_from_the_public_socket_and_confirmed_to_the_relay() -> None:
    with make_rig() as rig:
        one = rig.add()
        rig.feed(one.check(), client(one), flags=frames.UNCONFIRMED)
        assert one.answered()
        assert rig.notices() == [
            frames.Frame(frames.CONFIRM, 0, 0, [frames.Row(client(one), 0, b"")])
        ]
        assert one.reports == [LayerUp(Layer.ICE, 1.0)]
        rig.feed(one.check(), client(one))
        assert rig.notices() == [], "only asked questions are answered"


def test_a_forged_check_is_neither_answered_nor_confirmed() -> None:
    with make_rig() as rig:
        one = rig.add()
        forged = Client(
            one.driven, one.socket, Credentials(one.server.ufrag, "x" * 32), one.local, []
        ).check()
        rig.feed(forged, client(one), flags=frames.UNCONFIRMED)
        assert not drain(one.socket)
        assert rig.notices() == []


def test_an_address_stays_with_the_session_that_authenticated_it_first() -> None:
    with make_rig() as rig:
        victim, attacker = rig.add(), rig.add()
        rig.feed(victim.check(), client(victim), flags=frames.UNCONFIRMED)
        rig.notices()
        # The attacker's own valid check, from the victim's address as a spoofer would send it.
        rig.feed(attacker.check(), client(victim), flags=frames.UNCONFIRMED)
        assert rig.notices() == []
        assert rig.driver.drops["address-conflict"] == 1
        drops = victim.driven.session.drops
        rig.feed(b"\x80\x6f" + bytes(30), client(victim))
        assert drops["media-before-keys"] == 1, "media from there is the victim's"


def test_an_address_is_free_for_who_waits_for_it_when_its_session_ends() -> None:
    with make_rig() as rig:
        first, second = rig.add(), rig.add()
        rig.feed(first.check(), client(first), flags=frames.UNCONFIRMED)
        rig.feed(second.check(), client(first), flags=frames.UNCONFIRMED)
        rig.driver.end(first.driven, EndReason.CLIENT_BYE, 2.0)
        rig.notices()
        rig.feed(second.check(), client(first), flags=frames.UNCONFIRMED, now=3.0)
        assert [notice.kind for notice in rig.notices()] == [frames.CONFIRM]
        assert list(second.driven.addresses.values()) == [client(first)]


def test_an_address_that_makes_room_is_released_to_the_relays() -> None:
    with make_rig() as rig:
        one = rig.add()
        addresses = [encode_sockaddr("192.0.2.1", port) for port in range(1, BINDINGS_MAX + 3)]
        for address in addresses:
            rig.feed(one.check(), address, flags=frames.UNCONFIRMED)
        released = [
            row.client
            for notice in rig.notices()
            if notice.kind == frames.RELEASE
            for row in notice.rows
        ]
        assert released == addresses[:2]
        assert list(one.driven.addresses.values()) == addresses[2:]


def test_an_ended_session_releases_its_addresses_to_the_relays() -> None:
    with make_rig() as rig:
        one = rig.add()
        rig.feed(one.check(), client(one))
        rig.driver.end(one.driven, EndReason.CLIENT_BYE, 2.0)
        assert rig.notices() == [
            frames.Frame(frames.RELEASE, 0, 0, [frames.Row(client(one), 0, b"")])
        ]
        assert one.reports[-1] == Ended(EndReason.CLIENT_BYE)
        assert len(rig.driver) == 0
        assert rig.driver.empty.is_set()
        rig.feed(one.check(), client(one))
        assert rig.driver.drops["unknown-session"] == 1
        assert rig.notices() == []
        rig.feed(b"\x80\x6f" + bytes(30), client(one))
        assert rig.driver.drops["unbound-address"] == 1
        assert [notice.kind for notice in rig.notices()] == [frames.RELEASE], "once more, as asked"
        rig.driver.end(one.driven, EndReason.CRASHED, 3.0)
        assert rig.driver.ended == {"client-bye": 1}


def test_a_crash_ends_one_session_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with make_rig() as rig:
        broken, sound = rig.add(), rig.add()
        for one in (broken, sound):
            rig.feed(one.check(), client(one))

        def fail(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(broken.driven.session._ice, "receive_datagram", fail)
        rows = [frames.Row(client(one), 0, one.check()) for one in (broken, sound)]
        frame = frames.encode_frame(frames.PACKETS, 0, 0, rows)
        drain(sound.socket)
        rig.driver.receive_frame(memoryview(frame), rig.relay_address, 2.0)
        assert broken.reports[-1] == Ended(EndReason.CRASHED)
        assert rig.driver.ended == {"crashed": 1}
        assert len(rig.driver) == 1
        assert sound.answered()
        assert "session s0 crashed" in caplog.text


@pytest.mark.parametrize("verb", ["handle_timeout", "next_timeout", "next_datagram", "end"])
def test_a_crash_anywhere_in_a_session_removes_it(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_rig() as rig:
        one = rig.add()
        rig.feed(one.check(), client(one))

        def fail(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(Session, verb, fail)
        rig.driver.end_all(EndReason.GOING_AWAY, 2.0)
        rig.driver.fire(1000.0)
        assert len(rig.driver) == 0
        assert [type(report) for report in one.reports[1:]] == [Ended]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "short-frame"),
        (b"junk" * 10, "not-a-frame"),
        (frames.encode_frame(frames.CONFIRM, 0, 0, []), "unexpected-frame"),
        (frames.encode_frame(frames.PACKETS, 9, 0, []), "unexpected-frame"),
    ],
)
def test_damaged_frames_are_dropped_and_counted(data: bytes, reason: str) -> None:
    with make_rig() as rig:
        rig.driver.receive_frame(memoryview(data), rig.relay_address, 0.0)
        assert rig.driver.drops == {reason: 1}


def test_frames_are_taken_from_relays_only() -> None:
    with make_rig() as rig:
        one = rig.add()
        frame = frames.encode_frame(frames.PACKETS, 0, 0, [frames.Row(client(one), 0, one.check())])
        rig.driver.receive_frame(memoryview(frame), ("127.0.0.1", 9), 0.0)
        assert rig.driver.drops == {"frame-from-stranger": 1}
        assert not drain(one.socket)


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x01", b"\x00\x01" + bytes(30), b"\x40"])
def test_odd_rows_are_nobodys(payload: bytes) -> None:
    with make_rig() as rig:
        one = rig.add()
        rig.feed(payload, client(one))
        assert rig.driver.drops.total() == 1
        assert not one.reports


async def test_timers_fire_in_order_even_when_an_earlier_one_is_added_later(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - pytest-trio finds it by being asked for
) -> None:
    with make_rig() as rig:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.driver.run_timers)
            now = trio.current_time()
            slow = rig.add(limits=SessionLimits(20.0, 30.0), now=now)
            await trio.sleep(1)
            quick = rig.add(limits=SessionLimits(5.0, 30.0), now=trio.current_time())
            await trio.sleep(5.5)
            assert quick.reports == [Ended(EndReason.ICE_TIMEOUT)]
            assert slow.reports == []
            await trio.sleep(15)
            assert slow.reports == [Ended(EndReason.ICE_TIMEOUT)]
            assert slow.driven.wakes_at == math.inf
            nursery.cancel_scope.cancel()


def test_v4_mapped_clients_are_answered_where_they_are() -> None:
    """An address object made from a row leads back to the same 28 bytes."""
    with make_rig() as rig:
        one = rig.add()
        rig.feed(one.check(), client(one))
        assert list(one.driven.addresses.values()) == [client(one)]
        assert list(one.driven.addresses) == [Address(*one.socket.getsockname())]
