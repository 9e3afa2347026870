"""Receive batches, frames and turns of a relay worker, on real sockets."""

import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager

import pytest
import trio
from attrs import frozen

from edge.forwarding.forwarder import COALESCE_RATE_MIN, TURN
from edge.memory import HeldMemory
from edge.relay import Relay, RelaySettings
from edge.routing import flows, frames
from edge.routing.shared import table_bytes
from edge.routing.sockaddr import encode_sockaddr
from edge.routing.ufrag import RoutingKey
from edge.udp import (
    PAYLOAD_BYTES_MAX,
    RECEIVE_ROWS,
    FrameSender,
    ReceiveBatch,
    block_for,
    open_udp_socket,
)

MEDIA = b"\x80" + bytes(171)
PLAIN = bytes(range(128, 192))
COUNTS = [1, 2, 8, 9, 64, RECEIVE_ROWS]
"""Both sides of where numpy takes over, and a full batch."""
NOWHERE = ("255.255.255.255", 9)
"""Sending there is refused: broadcasting needs a permission."""


@frozen
class Hop:
    """A batch, a sender, and sockets on both ends."""

    public: socket.socket
    clients: list[socket.socket]
    transceivers: list[socket.socket]
    batch: ReceiveBatch
    sender: FrameSender

    def deliver(self, packets: Sequence[bytes]) -> None:
        """Send packets, from each client in turn, and receive them as one batch."""
        for number, packet in enumerate(packets):
            self.clients[number % len(self.clients)].sendto(packet, self.public.getsockname())
        assert self.batch.receive() == len(packets)

    def rows(self, packets: Sequence[bytes]) -> list[frames.Row]:
        """Return what the packets of ``deliver`` look like in a frame."""
        addresses = [encode_sockaddr(*one.getsockname()[:2]) for one in self.clients]
        return [
            frames.Row(addresses[number % len(addresses)], 0, packet)
            for number, packet in enumerate(packets)
        ]

    def arrived(self, transceiver: int) -> list[frames.Frame]:
        return list(_read_frames(self.transceivers[transceiver]))


@contextmanager
def hop(
    host: str = "127.0.0.1", *, clients: int = 3, refused: tuple[tuple[str, int], ...] = ()
) -> Iterator[Hop]:
    with ExitStack() as undo:
        public, internal, first, second, *client_sockets = (
            undo.enter_context(_udp(one)) for one in (host, *["127.0.0.1"] * 3, *[host] * clients)
        )
        batch = ReceiveBatch(public.fileno(), PLAIN)
        addresses = [first.getsockname(), second.getsockname(), *refused]
        sender = FrameSender(internal.fileno(), batch, addresses, 5, 1)
        yield Hop(public, client_sockets, [first, second], batch, sender)


def _udp(host: str) -> socket.socket:
    return open_udp_socket(host, 0, receive_buffer_bytes=4 << 20, reuse_port=True)


def _read_frames(transceiver: socket.socket) -> Iterator[frames.Frame]:
    while True:
        try:
            data = transceiver.recv(65_536)
        except BlockingIOError:
            return
        yield frames.decode_frame(memoryview(data))


def _packets(count: int) -> list[bytes]:
    return [b"\x80" + number.to_bytes(2) + bytes(number * 7 % 500) for number in range(count)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("count", COUNTS)
def test_a_batch_becomes_one_frame(host: str, count: int) -> None:
    packets = _packets(count)
    with hop(host) as here:
        here.deliver(packets)
        assert here.batch.seal(count)
        assert here.sender.send_all(1, count) == sum(map(len, packets))
        assert here.batch.payload_bytes(count) == sum(map(len, packets))
        assert here.arrived(1) == [frames.Frame(frames.PACKETS, 1, 5, here.rows(packets))]
        assert here.batch.clients(count) == [row.client for row in here.rows(packets)]
        assert here.sender.frames == 1


@pytest.mark.parametrize("count", COUNTS)
def test_a_batch_after_another_carries_nothing_over(count: int) -> None:
    with hop() as here:
        here.deliver([MEDIA] * RECEIVE_ROWS)
        here.batch.seal(RECEIVE_ROWS)
        here.batch.flag(0, frames.UNCONFIRMED)
        here.batch.clear(RECEIVE_ROWS)
        packets = _packets(count)
        here.deliver(packets)
        assert here.batch.seal(count)
        here.sender.send_all(0, count)
        assert here.arrived(0)[0].rows == here.rows(packets)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    "packet", [b"", b"\x00\x01", b"\x16\xfe", b"\x80" + bytes(PAYLOAD_BYTES_MAX)]
)
def test_a_row_that_needs_thought_is_found(count: int, packet: bytes) -> None:
    for place in {0, count - 1}:
        with hop() as here:
            here.deliver([MEDIA] * count)
            here.batch.seal(count)
            here.batch.clear(count)
            packets = [MEDIA] * count
            packets[place] = packet
            here.deliver(packets)
            assert not here.batch.seal(count)
            assert here.batch.odd_rows(count) == [place]
            assert here.batch.is_truncated(place) == (len(packet) > PAYLOAD_BYTES_MAX)
            assert bytes(here.batch.payload(place)) == packet[:PAYLOAD_BYTES_MAX]


@pytest.mark.parametrize("count", COUNTS)
def test_a_flag_reaches_its_row_only(count: int) -> None:
    with hop() as here:
        here.deliver([MEDIA] * count)
        here.batch.seal(count)
        here.batch.flag(count - 1, frames.UNCONFIRMED)
        here.sender.send_all(0, count)
        flags = [row.flags for row in here.arrived(0)[0].rows]
        assert flags == [0] * (count - 1) + [frames.UNCONFIRMED]


@pytest.mark.parametrize("count", COUNTS)
def test_rows_for_two_transceivers_keep_their_order(count: int) -> None:
    packets = _packets(count)
    owners = bytes(number % 3 % 2 for number in range(count))
    with hop() as here:
        here.deliver(packets)
        here.batch.seal(count)
        assert here.sender.send_each(owners) == count
        rows = here.rows(packets)
        for owner in set(owners):
            [frame] = here.arrived(owner)
            assert frame.rows == [
                row for row, mine in zip(rows, owners, strict=True) if mine == owner
            ]


def test_rows_can_be_left_out() -> None:
    packets = _packets(20)
    with hop() as here:
        here.deliver(packets)
        here.batch.seal(20)
        assert here.sender.send_each(bytes([1, 0, 1]), [3, 9, 17]) == 3
        rows = here.rows(packets)
        assert here.arrived(0)[0].rows == [rows[9]]
        assert here.arrived(1)[0].rows == [rows[3], rows[17]]
        assert here.sender.send_each(b"", []) == 0


@pytest.mark.parametrize("small", [0, 1, RECEIVE_ROWS - 1])
def test_what_does_not_fit_one_datagram_is_split(small: int) -> None:
    packets = [b"\x80" + bytes(PAYLOAD_BYTES_MAX - 1)] * RECEIVE_ROWS
    packets[small:] = [MEDIA] * len(packets[small:]) if small else packets
    with hop() as here:
        here.deliver(packets)
        here.batch.seal(RECEIVE_ROWS)
        if small != 1:
            assert here.sender.send_all(0, RECEIVE_ROWS) == 0
        assert here.sender.send_each(bytes(RECEIVE_ROWS)) == RECEIVE_ROWS
        arrived = here.arrived(0)
        assert [row for frame in arrived for row in frame.rows] == here.rows(packets)
        least = -(-sum(len(packet) + 32 for packet in packets) // frames.FRAME_BYTES_MAX)
        assert least <= len(arrived) <= least + 2


def test_a_refused_frame_costs_its_own_rows_only() -> None:
    packets = _packets(12)
    with hop(refused=(NOWHERE,)) as here:
        here.deliver(packets)
        here.batch.seal(12)
        assert here.sender.send_all(2, 12) == 0
        assert here.sender.send_each(bytes([0, 2, 1] * 4)) == 8
        assert [row.payload for row in here.arrived(0)[0].rows] == packets[0::3]
        assert [row.payload for row in here.arrived(1)[0].rows] == packets[2::3]


def test_waiting_ends_with_a_packet_or_with_the_time() -> None:
    with hop() as here:
        block_for(here.public, milliseconds=20)
        start = time.monotonic()
        assert here.batch.wait() == 0
        assert 0.015 < time.monotonic() - start < 5
        sender = threading.Timer(0.001, here.clients[0].sendto, (MEDIA, here.public.getsockname()))
        block_for(here.public, milliseconds=900)
        sender.start()
        assert here.batch.wait() == 1
        sender.join()


@frozen
class Bench:
    relay: Relay
    public: list[socket.socket]
    internal: socket.socket
    transceiver: socket.socket
    clients: list[socket.socket]

    def confirm(self, client: int, public: int = 0) -> None:
        address = encode_sockaddr(*self.clients[client].getsockname()[:2])
        notice = frames.encode_frame(frames.CONFIRM, public, 0, [frames.Row(address, 0, b"")])
        self.transceiver.sendto(notice, self.internal.getsockname())

    async def frame(self) -> frames.Frame:
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(self.transceiver)
        return frames.decode_frame(memoryview(self.transceiver.recv(65_536)))

    async def wait_confirmed(self, count: int) -> None:
        with trio.fail_after(5):
            while sum(each.confirmed for each in self.relay.statistics().flows) < count:
                await trio.lowlevel.checkpoint()


@asynccontextmanager
async def running_relay(
    *hosts: str, coalesce: float = 0.0, refused: tuple[tuple[str, int], ...] = ()
) -> AsyncIterator[Bench]:
    """Run a relay with a public socket and two clients on each host."""
    with ExitStack() as undo:
        internal, transceiver = (undo.enter_context(_udp("127.0.0.1")) for _ in range(2))
        public = [undo.enter_context(_udp(host)) for host in hosts]
        clients = [undo.enter_context(_udp(host)) for host in hosts for _ in range(2)]
        memory = undo.enter_context(closing(HeldMemory.create("test-flows", table_bytes(100))))
        settings = RelaySettings(
            index=0,
            cluster=1,
            core=None,
            public=tuple(public),
            internal=internal,
            transceivers=(transceiver.getsockname(), *refused),
            keys=(RoutingKey(0, bytes(16)),),
            flows_max=100,
            flow_generation=600.0,
            flow_memory=memory,
            coalesce=coalesce,
        )
        relay = Relay(settings)
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            yield Bench(relay, public, internal, transceiver, clients)
            nursery.cancel_scope.cancel()


async def test_each_public_socket_is_served() -> None:
    async with running_relay("127.0.0.1", "::1") as bench:
        for public, client in ((0, 0), (1, 2)):
            bench.confirm(client, public)
            await bench.wait_confirmed(public + 1)
            bench.clients[client].sendto(MEDIA, bench.public[public].getsockname())
            frame = await bench.frame()
            assert (frame.socket, [row.payload for row in frame.rows]) == (public, [MEDIA])


async def test_notices_are_taken_while_packets_keep_coming() -> None:
    async with running_relay("127.0.0.1") as bench:
        bench.confirm(0)
        await bench.wait_confirmed(1)
        stop = threading.Event()

        def flood() -> None:
            while not stop.wait(0.0005):
                bench.clients[0].sendto(MEDIA, bench.public[0].getsockname())

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            await bench.frame()
            bench.confirm(1)
            await bench.wait_confirmed(2)
        finally:
            stop.set()
            thread.join()
        assert bench.relay.drops == {}


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "::1")])
async def test_a_quiet_relay_adds_no_delay(hosts: tuple[str, ...]) -> None:
    async with running_relay(*hosts, coalesce=2.0) as bench:
        bench.confirm(0)
        await bench.wait_confirmed(1)
        start = time.monotonic()
        for _ in range(10):
            bench.clients[0].sendto(MEDIA, bench.public[0].getsockname())
            await bench.frame()
        assert time.monotonic() - start < 2.0


async def test_packets_gather_only_while_there_are_many() -> None:
    async with running_relay("127.0.0.1", coalesce=0.0002) as bench:
        [forwarder] = bench.relay._forwarders
        now = time.monotonic() + 1
        forwarder._measure(now)
        for share, busy in ((1.1, True), (0.9, False), (1.1, True), (0.0, False)):
            forwarder.packets += round(COALESCE_RATE_MIN * TURN * 2 * share)
            forwarder._measure(now + TURN / 2)
            assert forwarder._busy != busy, "too early to tell"
            now += 2 * TURN
            forwarder._measure(now)
            assert forwarder._busy == busy


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "::1")])
async def test_packets_that_gather_all_arrive(hosts: tuple[str, ...]) -> None:
    async with running_relay(*hosts, coalesce=0.0005) as bench:
        bench.confirm(0)
        await bench.wait_confirmed(1)

        def flood() -> None:
            for number in range(3_000):
                packet = b"\x80" + number.to_bytes(2)
                bench.clients[0].sendto(packet, bench.public[0].getsockname())

        thread = threading.Thread(target=flood)
        thread.start()
        arrived: list[int] = []
        while len(arrived) < 3_000:
            arrived += [int.from_bytes(row.payload[1:]) for row in (await bench.frame()).rows]
        thread.join()
        assert arrived == list(range(3_000))


async def test_an_unreachable_transceiver_is_counted_and_holds_up_nobody() -> None:
    async with running_relay("127.0.0.1", refused=(NOWHERE,)) as bench:
        bench.confirm(0)
        await bench.wait_confirmed(1)
        refused = encode_sockaddr(*bench.clients[1].getsockname())
        bench.relay._forwarders[0].flows.confirm(refused, 1)
        for number in range(6):
            bench.clients[number % 2].sendto(MEDIA, bench.public[0].getsockname())
        rows = 0
        while rows < 3:
            rows += len((await bench.frame()).rows)
        with trio.fail_after(5):
            while bench.relay.statistics().packets < 6:
                await trio.lowlevel.checkpoint()
        statistics = bench.relay.statistics()
        assert statistics.drops == {"transceiver-not-taking": 3}
        assert (statistics.forwarded, statistics.bytes) == (3, 6 * len(MEDIA))


async def test_counters_agree_with_what_was_sent() -> None:
    async with running_relay("127.0.0.1") as bench:
        bench.confirm(0)
        await bench.wait_confirmed(1)
        packets = [b"\x80" + os.urandom(size) for size in range(1, 200)]
        for packet in packets:
            bench.clients[0].sendto(packet, bench.public[0].getsockname())
            bench.clients[1].sendto(packet, bench.public[0].getsockname())
        arrived = 0
        frames_seen = 0
        while arrived < len(packets):
            arrived += len((await bench.frame()).rows)
            frames_seen += 1
        with trio.fail_after(5):
            while bench.relay.statistics().packets < 2 * len(packets):
                await trio.lowlevel.checkpoint()
        statistics = bench.relay.statistics()
        assert statistics.bytes == 2 * sum(map(len, packets))
        assert (statistics.forwarded, statistics.frames) == (len(packets), frames_seen)
        assert statistics.drops == {"unknown-flow": len(packets)}
        assert flows.UNKNOWN not in bench.relay._forwarders[0].flows.current.values()
