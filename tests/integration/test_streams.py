"""TCP clients of one relay worker, with the tests in the place of clients and transceivers."""

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any

import pytest
import trio
from attrs import define, field, frozen

from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.memory import HeldMemory
from edge.relay import Relay, RelaySettings
from edge.routing import frames
from edge.routing.framing import PacketReader
from edge.routing.limits import STRAY_CHECKS_MAX
from edge.routing.shared import table_bytes
from edge.routing.sockaddr import encode_sockaddr
from edge.routing.ufrag import RoutingKey, UfragIssuer
from edge.streams.connection import BACKLOG_BYTES_MAX
from edge.streams.settings import StreamLimits
from edge.streams.streams import SHORTAGE_PAUSE, Streams, StreamStatistics
from edge.udp import PAYLOAD_BYTES_MAX, open_udp_socket

CLUSTER = 7
RELAY = 5
KEY = RoutingKey(0, bytes(range(16)))
NOWHERE = ("255.255.255.255", 9)
"""Sending there is refused: broadcasting needs a permission."""
MEDIA = b"\x80" + bytes(171)
DTLS = b"\x16\xfe\xff" + bytes(50)


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2) + packet


def check_for(transceiver: int, *, cluster: int = CLUSTER, key: RoutingKey = KEY) -> bytes:
    ufrag = UfragIssuer(cluster, transceiver, key, os.urandom).issue(0)
    return stun.encode_request(
        local=Credentials("clnt", "p" * 24),
        remote=Credentials(ufrag, "p" * 24),
        priority=1,
        tie_breaker=1,
        use_candidate=False,
        transaction_id=os.urandom(12),
    )


@define
class Client:
    """One connection."""

    tcp: trio.socket.SocketType
    _reader: PacketReader = field(factory=lambda: PacketReader(PAYLOAD_BYTES_MAX))

    @property
    def address(self) -> bytes:
        return encode_sockaddr(*self.tcp.getsockname()[:2])

    async def send(self, *packets: bytes) -> None:
        await self.send_raw(b"".join(map(framed, packets)))

    async def send_raw(self, data: bytes) -> None:
        while data:
            data = data[await self.tcp.send(data) :]

    async def packet(self) -> bytes | None:
        """Return the next packet; None if the connection has ended."""
        with trio.fail_after(5):
            while (packet := self._reader.next_packet()) is None:
                try:
                    data = await self.tcp.recv(self._reader.room)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._reader.receive(data)
        return packet


@frozen
class Bench:
    relay: Relay
    listeners: list[socket.socket]
    public: socket.socket
    internal: socket.socket
    transceivers: list[socket.socket]
    clients: ExitStack

    @property
    def index(self) -> int:
        """What stands for the worker's TCP connections in frames."""
        return 1 + RELAY

    @property
    def statistics(self) -> StreamStatistics:
        return self.relay.streams.statistics()

    async def connect(self, listener: int = 0, port: int = 0) -> Client:
        there = self.listeners[listener]
        tcp = trio.socket.socket(there.family, socket.SOCK_STREAM)
        self.clients.enter_context(tcp)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            await tcp.bind((there.getsockname()[0], port))
        await tcp.connect(there.getsockname()[:2])
        return Client(tcp)

    async def confirmed(self, transceiver: int = 0) -> Client:
        """Connect, check and have it confirmed."""
        client = await self.connect()
        await client.send(check_for(transceiver))
        await self.frame(transceiver)
        await self.notify(frames.CONFIRM, transceiver, client)
        return client

    async def frame(self, transceiver: int = 0) -> frames.Frame:
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(self.transceivers[transceiver])
        return frames.decode_frame(memoryview(self.transceivers[transceiver].recv(65536)))

    async def notify(
        self,
        kind: int,
        transceiver: int,
        client: Client,
        *payloads: bytes,
        index: int | None = None,
    ) -> None:
        self.send_notice(kind, transceiver, client.address, *payloads, index=index)
        await settle()

    def send_notice(
        self,
        kind: int,
        transceiver: int,
        client: bytes,
        *payloads: bytes,
        index: int | None = None,
    ) -> None:
        rows = [frames.Row(client, 0, payload) for payload in payloads or (b"",)]
        index = self.index if index is None else index
        notice = frames.encode_frame(kind, index, 0, rows)
        self.transceivers[transceiver].sendto(notice, self.internal.getsockname())

    def silent(self, transceiver: int = 0) -> bool:
        try:
            self.transceivers[transceiver].recv(65536)
        except BlockingIOError:
            return True
        return False

    async def wait(self, good: Callable[[], bool]) -> None:
        with trio.fail_after(5):
            while not good():
                await trio.sleep(0.002)


async def settle() -> None:
    """Let the relay do what there is to do: it pauses for a millisecond after each turn."""
    await trio.sleep(0.02)


@asynccontextmanager
async def running_relay(*hosts: str, **limits: Any) -> AsyncIterator[Bench]:
    with ExitStack() as undo:
        public, internal, *transceivers = (
            undo.enter_context(
                open_udp_socket("127.0.0.1", 0, receive_buffer_bytes=1 << 20, reuse_port=False)
            )
            for _ in range(4)
        )
        listeners = []
        for host in hosts or ("127.0.0.1",):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = undo.enter_context(socket.create_server((host, 0), family=family))
            listeners.append(listener)
        memory = undo.enter_context(closing(HeldMemory.create("test-flows", table_bytes(100))))
        clients = undo.enter_context(ExitStack())
        settings = RelaySettings(
            index=RELAY,
            cluster=CLUSTER,
            core=None,
            public=(public,),
            internal=internal,
            transceivers=(*(one.getsockname() for one in transceivers), NOWHERE),
            keys=(KEY,),
            flows_max=100,
            flow_generation=600.0,
            flow_memory=memory,
            tcp=tuple(listeners),
            tcp_limits=StreamLimits(**limits),
        )
        relay = Relay(settings)
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            yield Bench(relay, listeners, public, internal, transceivers, clients)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_there_and_back(host: str) -> None:
    async with running_relay(host) as bench:
        client = await bench.connect()
        check = check_for(1)
        await client.send(check)
        row = frames.Row(client.address, frames.UNCONFIRMED, check)
        assert await bench.frame(1) == frames.Frame(frames.PACKETS, bench.index, RELAY, [row])
        await bench.notify(frames.DELIVER, 1, client, b"\x01\x01answer")
        assert await client.packet() == b"\x01\x01answer", "before it is confirmed"
        await bench.notify(frames.CONFIRM, 1, client)
        await client.send(DTLS, MEDIA)
        rows = [frames.Row(client.address, 0, each) for each in (DTLS, MEDIA)]
        assert (await bench.frame(1)).rows == rows
        await client.send(check)
        assert (await bench.frame(1)).rows == [frames.Row(client.address, 0, check)]
        await bench.notify(frames.DELIVER, 1, client, DTLS, MEDIA)
        assert [await client.packet() for _ in range(2)] == [DTLS, MEDIA]
        assert bench.relay.drops == {}
        assert bench.statistics == StreamStatistics(1, 0, 1, {}, {})
        totals = bench.relay.statistics()
        assert (totals.packets, totals.forwarded, totals.frames) == (4, 4, 3)
        assert totals.bytes == 2 * len(check) + len(DTLS) + len(MEDIA)


async def test_one_byte_at_a_time() -> None:
    async with running_relay() as bench:
        client = await bench.connect()
        client.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        check = check_for(0)
        for byte in framed(b"") + framed(check):
            await client.send_raw(bytes([byte]))
            await trio.sleep(0.001)
        assert [row.payload for row in (await bench.frame()).rows] == [check]


async def test_both_listeners_are_served() -> None:
    async with running_relay("127.0.0.1", "::1") as bench:
        for listener in (0, 1):
            client = await bench.connect(listener)
            await client.send(check_for(listener))
            assert (await bench.frame(listener)).rows[0].client == client.address


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (MEDIA, "tcp-unconfirmed"),
        (DTLS, "tcp-unconfirmed"),
        (b"GET / HTTP/1.1\r\n", "not-webrtc"),
        (b"\x00\x11" + bytes(18), "tcp-unconfirmed"),  # an indication
        (b"\x00\x01" + bytes(10), "stun-truncated"),
        (check_for(0, cluster=CLUSTER + 1), "ufrag-unknown-cluster"),
        (check_for(3), "ufrag-unknown-transceiver"),
        (check_for(0, key=RoutingKey(0, b"x" * 16)), "forged"),
    ],
)
async def test_a_first_packet_that_is_no_good_check(first: bytes, reason: str) -> None:
    async with running_relay() as bench:
        client = await bench.connect()
        await client.send(first, check_for(0))
        assert await client.packet() is None
        assert bench.silent()
        assert bench.relay.drops == {reason: 1}
        assert bench.statistics.closed == {"not-a-check": 1}


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(600)]
)
async def test_what_speaks_another_protocol_is_gone_at_once(garbage: bytes) -> None:
    async with running_relay() as bench:
        client = await bench.connect()
        await client.send_raw(garbage)
        assert await client.packet() is None
        assert bench.statistics.closed == {"too-long": 1}


async def test_a_length_that_cannot_be_ends_a_call() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed()
        await client.send_raw(framed(MEDIA) + (PAYLOAD_BYTES_MAX + 1).to_bytes(2) + bytes(40))
        assert (await bench.frame()).rows == [frames.Row(client.address, 0, MEDIA)]
        row = frames.Row(client.address, 0, b"")
        assert await bench.frame() == frames.Frame(frames.CLOSED, bench.index, RELAY, [row])
        assert await client.packet() is None


async def test_the_largest_packet_passes() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed()
        packet = MEDIA + bytes(PAYLOAD_BYTES_MAX - len(MEDIA))
        await client.send(packet)
        assert (await bench.frame()).rows[0].payload == packet
        await bench.notify(frames.DELIVER, 0, client, packet)
        assert await client.packet() == packet


async def test_only_checks_pass_before_the_confirmation() -> None:
    async with running_relay() as bench:
        client = await bench.connect()
        checks = [check_for(0), check_for(0)]
        await client.send(checks[0], DTLS, MEDIA, b"\x00\x11" + bytes(18), checks[1])
        assert [row.payload for row in (await bench.frame()).rows] == checks
        assert bench.relay.drops == {"tcp-unconfirmed": 3}


async def test_a_connection_belongs_to_one_transceiver() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed(1)
        await client.send(check_for(0), MEDIA)
        assert [row.payload for row in (await bench.frame(1)).rows] == [MEDIA]
        for kind in (frames.DELIVER, frames.CONFIRM, frames.RELEASE):
            await bench.notify(kind, 0, client, b"x")
        assert bench.silent(0)
        assert bench.relay.drops == {"tcp-other-owner": 4}
        await bench.notify(frames.DELIVER, 1, client, MEDIA)
        assert await client.packet() == MEDIA


async def test_nobody_is_written_to_before_the_first_check() -> None:
    async with running_relay() as bench:
        client = await bench.connect()
        await bench.wait(lambda: bench.statistics.connections == 1)
        await bench.notify(frames.DELIVER, 0, client, MEDIA)
        assert bench.relay.drops == {"tcp-other-owner": 1}


async def test_a_released_connection_gets_what_was_for_it_and_ends() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed()
        bench.send_notice(frames.DELIVER, 0, client.address, DTLS)
        await bench.notify(frames.RELEASE, 0, client)
        assert await client.packet() == DTLS
        assert await client.packet() is None
        await settle()
        assert bench.silent(), "the transceiver knows"
        assert bench.statistics.closed == {"released": 1}
        await bench.notify(frames.DELIVER, 0, client, MEDIA)
        assert bench.relay.drops == {"tcp-no-connection": 1}


@pytest.mark.parametrize("reset", [False, True])
async def test_the_transceiver_is_told_when_the_client_leaves(reset: bool) -> None:
    async with running_relay() as bench:
        client = await bench.confirmed(1)
        address = client.address
        if reset:
            client.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.tcp.close()
        row = frames.Row(address, 0, b"")
        assert await bench.frame(1) == frames.Frame(frames.CLOSED, bench.index, RELAY, [row])
        assert bench.statistics == StreamStatistics(0, 0, 1, {}, {"client": 1})


async def test_notices_for_other_sockets_and_udp_frames_do_nothing_here() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed()
        await bench.notify(frames.RELEASE, 0, client, index=bench.index - 1)
        await bench.notify(frames.RELEASE, 0, client, index=0)
        await bench.notify(frames.DELIVER, 0, client, MEDIA, index=0)
        await client.send(MEDIA)
        assert (await bench.frame()).rows[0].payload == MEDIA
        assert bench.relay.drops == {"notice-unknown-socket": 1, "notice-unexpected": 1}


async def test_checks_are_limited_as_they_are_over_udp() -> None:
    async with running_relay() as bench:
        client = await bench.connect()
        check = check_for(0)
        await client.send(*[check] * (STRAY_CHECKS_MAX + 20))
        await bench.wait(lambda: bench.relay.drops["too-many-checks"] >= 20)
        assert bench.statistics.half_open == 1


async def test_without_proof_a_connection_ends() -> None:
    async with running_relay(proof_time=0.3) as bench:
        silent, stranger = await bench.connect(), await bench.connect()
        await stranger.send(check_for(1))
        await bench.frame(1)
        assert await silent.packet() is None
        assert await stranger.packet() is None
        assert bench.statistics.closed == {"no-check": 1, "not-confirmed": 1}
        assert (await bench.frame(1)).kind == frames.CLOSED


async def test_a_confirmed_connection_needs_no_more_proof() -> None:
    async with running_relay(proof_time=0.1) as bench:
        client = await bench.confirmed()
        await trio.sleep(0.8)
        await bench.notify(frames.DELIVER, 0, client, MEDIA)
        assert await client.packet() == MEDIA


async def test_a_client_that_says_nothing_for_long_is_gone() -> None:
    async with running_relay(silence_time=0.2) as bench:
        client = await bench.confirmed()
        assert await client.packet() is None
        assert bench.statistics.closed == {"silent": 1}


async def test_a_new_connection_displaces_the_oldest_half_open_one() -> None:
    async with running_relay(half_open=3) as bench:
        good = await bench.confirmed()
        idle = [await bench.connect() for _ in range(3)]
        await bench.wait(lambda: bench.statistics.half_open == 3)
        late = await bench.connect()
        await late.send(check_for(1))
        await bench.frame(1)
        assert await idle[0].packet() is None
        assert bench.statistics.closed == {"displaced": 1}
        await good.send(MEDIA)
        assert (await bench.frame()).rows[0].payload == MEDIA


async def test_a_full_worker_prefers_new_connections_to_half_open_ones_only() -> None:
    async with running_relay(connections=3) as bench:
        good = [await bench.confirmed() for _ in range(2)]
        idle = await bench.connect()
        await bench.wait(lambda: bench.statistics.half_open == 1)
        good.append(await bench.confirmed())
        assert await idle.packet() is None
        refused = await bench.connect()
        assert await refused.packet() is None
        assert bench.statistics.refused == {"full": 1}
        for client in good:
            await bench.notify(frames.DELIVER, 0, client, MEDIA)
            assert await client.packet() == MEDIA


async def test_one_source_has_its_share() -> None:
    async with running_relay("127.0.0.1", "::1", per_source=2) as bench:
        first = [await bench.connect() for _ in range(2)]
        refused = await bench.connect()
        assert await refused.packet() is None
        assert bench.statistics.refused == {"source-limit": 1}
        other = await bench.connect(1)
        await other.send(check_for(0))
        await bench.frame()
        first[0].tcp.close()
        await bench.wait(lambda: bench.statistics.connections == 2)
        again = await bench.connect()
        await again.send(check_for(0))
        await bench.frame()


async def test_an_address_can_be_here_once() -> None:
    async with running_relay("127.0.0.1", "127.0.0.1") as bench:
        client = await bench.confirmed()
        second = await bench.connect(1, port=client.tcp.getsockname()[1])
        assert await second.packet() is None
        assert bench.statistics.refused == {"address-taken": 1}
        await bench.notify(frames.DELIVER, 0, client, MEDIA)
        assert await client.packet() == MEDIA


async def test_a_slow_reader_loses_sound_and_then_the_connection() -> None:
    async with running_relay(slow_time=0.8) as bench:
        slow, good = await bench.confirmed(), await bench.confirmed()
        slow.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        with trio.fail_after(20):
            for number in range(100_000):
                packet = MEDIA + number.to_bytes(4) + bytes(900)
                bench.send_notice(frames.DELIVER, 0, slow.address, packet)
                if number % 20 == 0:
                    await trio.sleep(0.002)
                if bench.statistics.closed:
                    break
                for one in bench.relay.streams._connections.values():
                    assert len(one._writer) <= BACKLOG_BYTES_MAX
        assert bench.statistics.closed == {"slow": 1}
        assert bench.relay.drops["tcp-stale"] + bench.relay.drops["tcp-backlog-full"] > 100
        assert (await bench.frame()).kind == frames.CLOSED
        await bench.notify(frames.DELIVER, 0, good, MEDIA)
        assert await good.packet() == MEDIA


async def test_a_stalled_reader_that_goes_on_gets_whole_packets() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed()
        client.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for number in range(2000):
            packet = MEDIA + number.to_bytes(4) + bytes(1000)
            bench.send_notice(frames.DELIVER, 0, client.address, packet)
            if number % 20 == 0:
                await trio.sleep(0.001)
        await settle()
        bench.send_notice(frames.DELIVER, 0, client.address, DTLS)
        numbers: list[int] = []
        while (packet := await client.packet() or b"") != DTLS:
            assert packet.startswith(MEDIA)
            numbers.append(int.from_bytes(packet[len(MEDIA) :][:4]))
        assert numbers == sorted(set(numbers))
        dropped = bench.relay.drops
        assert len(numbers) + dropped["tcp-stale"] + dropped["tcp-backlog-full"] == 2000
        assert len(numbers) < 2000


async def test_a_client_that_floods_is_read_slowly() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed()
        with trio.move_on_after(0.5):
            while True:
                await client.send(MEDIA)
                while not bench.silent():
                    pass
        got = bench.relay.streams.bytes
        print(f"{got} bytes read in 0.5 s")
        assert 60_000 < got < 300_000


async def test_a_transceiver_that_takes_nothing_costs_packets_only() -> None:
    async with running_relay() as bench:
        client = await bench.connect()
        await client.send(check_for(2))
        other = await bench.confirmed(1)
        await other.send(MEDIA)
        assert (await bench.frame(1)).rows[0].payload == MEDIA
        assert bench.relay.drops == {"transceiver-not-taking": 1}
        assert bench.relay.streams.forwarded == 2


async def test_a_worker_that_ends_closes_everything_and_says_so() -> None:
    async with running_relay() as bench:
        client = await bench.confirmed()
        bench.relay.streams.end()
        assert await client.packet() is None
        assert (await bench.frame()).kind == frames.CLOSED


async def test_a_listener_that_was_shut_is_left_alone() -> None:
    async with running_relay("127.0.0.1", "::1") as bench:
        client = await bench.confirmed()
        bench.listeners[1].shutdown(socket.SHUT_RDWR)
        await settle()
        await client.send(MEDIA)
        assert (await bench.frame()).rows[0].payload == MEDIA
        with pytest.raises(ConnectionRefusedError):
            await bench.connect(1)


async def test_a_listener_that_listens_again_is_served_again() -> None:
    async with running_relay() as bench:
        bench.listeners[0].shutdown(socket.SHUT_RDWR)
        await bench.wait(lambda: bench.statistics.refused.get("not-acceptable") == 1)
        bench.listeners[0].listen()
        client = await bench.connect()
        await client.send(check_for(0))
        with trio.fail_after(5):
            assert (await bench.frame()).rows[0].client == client.address


class Listener(socket.socket):
    """A listener on a system that says these things, and then that there is nobody."""

    says: tuple[OSError | socket.socket, ...] = ()

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.says:
            raise BlockingIOError
        word, *rest = self.says
        self.says = tuple(rest)
        if isinstance(word, OSError):
            raise word
        return word, ("192.0.2.1", 5)


async def test_errors_of_accept_and_of_what_was_accepted_end_nothing() -> None:
    async with running_relay() as bench:
        streams, closed = bench.relay.streams, socket.socket()
        closed.close()
        with Listener() as listener:
            for number in (errno.EMFILE, errno.ENFILE, errno.EINVAL, errno.ENOTCONN):
                listener.says = (OSError(number, "no"),)
                assert streams.accept(listener, 7.0) == 7.0 + SHORTAGE_PAUSE
            listener.says = (ConnectionAbortedError(), closed, closed)
            assert streams.accept(listener, 7.0) is None
        assert bench.statistics.refused == {"system-limit": 2, "not-acceptable": 4}
        assert bench.statistics.connections == bench.statistics.half_open == 0
        await bench.confirmed()


async def test_busy_tcp_connections_do_not_hold_up_udp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A UDP packet that comes in the middle of their turn is forwarded in the middle of it."""
    async with running_relay() as bench:
        clients = [await bench.confirmed() for _ in range(40)]
        udp = open_udp_socket("127.0.0.1", 0, receive_buffer_bytes=1 << 16, reuse_port=False)
        bench.clients.enter_context(udp)
        bench.send_notice(frames.CONFIRM, 0, encode_sockaddr(*udp.getsockname()), index=0)
        await settle()
        take = Streams.take
        taken = 0

        def take_long(streams: Streams, *arguments: Any) -> None:
            nonlocal taken
            if not taken:
                udp.sendto(MEDIA, bench.public.getsockname())
            taken += 1
            time.sleep(0.0005)
            take(streams, *arguments)

        monkeypatch.setattr(Streams, "take", take_long)
        for client in clients:
            client.tcp._sock.send(framed(DTLS))  # type: ignore[attr-defined]
        order: list[int] = []
        while len(order) <= len(clients):
            order.append((await bench.frame()).socket)
        assert order.index(0) <= 5


@pytest.mark.parametrize("rate", [0, 50, 2000, 20_000])
async def test_udp_does_not_hold_up_tcp(rate: int) -> None:
    """One UDP packet makes the loop of a lone socket wait in the kernel for more.

    The client, the transceiver and those who send UDP are threads, as the relay blocks this one.
    """
    async with running_relay() as bench:
        client = await bench.confirmed()
        bench.transceivers[0].setblocking(True)
        tcp = socket.socket(fileno=os.dup(client.tcp.fileno()))
        bench.clients.enter_context(tcp)
        tcp.setblocking(True)
        times: list[tuple[float, float]] = []
        stop = threading.Event()

        def talk() -> None:
            for number in range(100):
                packet = MEDIA + number.to_bytes(2)
                start = time.monotonic()
                tcp.sendall(framed(packet))
                assert bench.transceivers[0].recv(65536).endswith(packet)
                there = time.monotonic()
                bench.send_notice(frames.DELIVER, 0, client.address, packet)
                assert tcp.recv(2048) == framed(packet)
                times.append((there - start, time.monotonic() - there))
                time.sleep(0.003)
            stop.set()

        def flood() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                burst = max(1, rate // 1000)
                while rate and not stop.wait(burst / rate):
                    for _ in range(burst):
                        udp.sendto(MEDIA, bench.public.getsockname())

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for each in (talk, flood):
                    nursery.start_soon(trio.to_thread.run_sync, each)
        for way, name in enumerate(("to the transceiver", "back")):
            one = sorted(each[way] * 1000 for each in times)
            print(f"{rate}/s, {name}: median {one[50]:.2f} ms, 95 % {one[95]:.2f}")
            assert one[50] < 5
