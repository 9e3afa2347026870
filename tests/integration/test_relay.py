"""One relay worker on real sockets, with the tests in the place of clients and transceivers."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager

import pytest
import trio
from attrs import frozen

from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.memory import HeldMemory
from edge.relay import Relay, RelaySettings
from edge.routing import frames
from edge.routing.shared import table_bytes
from edge.routing.sockaddr import encode_sockaddr
from edge.routing.ufrag import RoutingKey, UfragIssuer
from edge.udp import PAYLOAD_BYTES_MAX, open_udp_socket

CLUSTER = 7
KEY = RoutingKey(0, bytes(range(16)))
MEDIA = b"\x80" + bytes(171)
DTLS = b"\x16\xfe\xff" + bytes(50)


@contextmanager
def udp_sockets(*hosts: str) -> Iterator[list[socket.socket]]:
    opened = [
        open_udp_socket(host, 0, receive_buffer_bytes=1 << 20, reuse_port=True) for host in hosts
    ]
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


@frozen
class Bench:
    """A running relay and the sockets around it."""

    relay: Relay
    public: list[socket.socket]
    internal: socket.socket
    transceivers: list[socket.socket]
    clients: list[socket.socket]

    def send(self, data: bytes, *, client: int = 0, public: int = 0) -> None:
        self.clients[client].sendto(data, self.public[public].getsockname())

    def client_address(self, client: int = 0) -> bytes:
        return encode_sockaddr(*self.clients[client].getsockname()[:2])

    async def frame(self, transceiver: int) -> frames.Frame:
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(self.transceivers[transceiver])
        return frames.decode_frame(memoryview(self.transceivers[transceiver].recv(65536)))

    async def notify(self, kind: int, transceiver: int, client: bytes, public: int = 0) -> None:
        notice = frames.encode_frame(kind, public, 0, [frames.Row(client, 0, b"")])
        self.transceivers[transceiver].sendto(notice, self.internal.getsockname())
        await settle()

    async def silent(self, transceiver: int) -> bool:
        await settle()
        try:
            self.transceivers[transceiver].recv(65536)
        except BlockingIOError:
            return True
        return False


async def settle() -> None:
    """Let the relay work off what lies in its sockets: loopback delivery is synchronous."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def running_relay(host: str = "127.0.0.1", clients: int = 2) -> AsyncIterator[Bench]:
    with (
        udp_sockets(host) as public,
        udp_sockets("127.0.0.1", "127.0.0.1", "127.0.0.1") as (internal, *transceivers),
        udp_sockets(*[host] * clients) as client_sockets,
        closing(HeldMemory.create("test-flows", table_bytes(100))) as memory,
    ):
        settings = RelaySettings(
            index=5,
            cluster=CLUSTER,
            core=None,
            public=tuple(public),
            internal=internal,
            transceivers=tuple(one.getsockname() for one in transceivers),
            keys=(KEY,),
            flows_max=100,
            flow_generation=600.0,
            flow_memory=memory,
        )
        relay = Relay(settings)
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            yield Bench(relay, public, internal, transceivers, client_sockets)
            nursery.cancel_scope.cancel()


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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_check_goes_where_its_ufrag_says_and_asks_for_confirmation(host: str) -> None:
    async with running_relay(host) as bench:
        check = check_for(1)
        bench.send(check)
        frame = await bench.frame(1)
        row = frames.Row(bench.client_address(), frames.UNCONFIRMED, check)
        assert frame == frames.Frame(frames.PACKETS, 0, 5, [row])
        assert await bench.silent(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_media_follows_the_confirmed_flow(host: str) -> None:
    async with running_relay(host) as bench:
        bench.send(check_for(1))
        await bench.frame(1)
        await bench.notify(frames.CONFIRM, 1, bench.client_address())
        bench.send(MEDIA)
        frame = await bench.frame(1)
        assert frame.rows == [frames.Row(bench.client_address(), 0, MEDIA)]
        bench.send(check_for(1))
        assert (await bench.frame(1)).rows[0].flags == 0


async def test_dtls_may_follow_a_check_before_the_confirmation() -> None:
    async with running_relay() as bench:
        bench.send(check_for(0))
        bench.send(DTLS)
        rows = (await bench.frame(0)).rows
        while len(rows) < 2:
            rows += (await bench.frame(0)).rows
        assert [row.payload for row in rows][1] == DTLS


async def test_a_valid_ufrag_of_another_does_not_move_a_confirmed_flow() -> None:
    async with running_relay() as bench:
        bench.send(check_for(1))
        await bench.frame(1)
        await bench.notify(frames.CONFIRM, 1, bench.client_address())
        poison = check_for(0)
        bench.send(poison)  # from the victim's own address, as a spoofer would
        frame = await bench.frame(0)
        assert frame.rows == [frames.Row(bench.client_address(), frames.UNCONFIRMED, poison)]
        await bench.notify(frames.CONFIRM, 0, bench.client_address())
        bench.send(MEDIA)
        assert [row.payload for row in (await bench.frame(1)).rows] == [MEDIA]
        assert await bench.silent(0)
        assert bench.relay.statistics().flows[0].conflicts == 1


async def test_a_released_flow_is_gone() -> None:
    async with running_relay() as bench:
        await bench.notify(frames.CONFIRM, 1, bench.client_address())
        bench.send(MEDIA)
        await bench.frame(1)
        await bench.notify(frames.RELEASE, 1, bench.client_address())
        bench.send(MEDIA)
        assert await bench.silent(1)
        assert bench.relay.drops == {"unknown-flow": 1}


async def test_notices_from_strangers_change_nothing() -> None:
    async with running_relay() as bench:
        notice = frames.encode_frame(
            frames.CONFIRM, 0, 0, [frames.Row(bench.client_address(), 0, b"")]
        )
        bench.clients[0].sendto(notice, bench.internal.getsockname())
        await settle()
        assert bench.relay.drops == {"notice-from-stranger": 1}
        assert bench.relay.statistics().flows[0].confirmed == 0


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "empty"),
        (MEDIA, "unknown-flow"),
        (DTLS, "unknown-flow"),
        (b"\x40" + bytes(30), "not-webrtc"),
        (b"\xff" * 30, "not-webrtc"),
        (b"\x80" + bytes(PAYLOAD_BYTES_MAX), "too-long"),
        (b"\x00\x01" + bytes(10), "stun-truncated"),
        (b"\x00\x01\x00\x00" + bytes(16), "stun-no-cookie"),
        (b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), "stun-no-username"),
        (check_for(0, cluster=CLUSTER + 1), "ufrag-unknown-cluster"),
        (check_for(2), "ufrag-unknown-transceiver"),
        (check_for(0, key=RoutingKey(0, b"x" * 16)), "forged"),
        (check_for(0, key=RoutingKey(1, bytes(range(16)))), "unknown-key"),
    ],
)
async def test_strangers_are_dropped_counted_and_never_answered(packet: bytes, reason: str) -> None:
    async with running_relay() as bench:
        bench.send(packet)
        await settle()
        assert bench.relay.drops == {reason: 1}
        for transceiver in (0, 1):
            assert await bench.silent(transceiver)
        with pytest.raises(BlockingIOError):
            bench.clients[0].recv(2048)


async def test_a_batch_for_two_transceivers_keeps_order_and_loses_nothing() -> None:
    async with running_relay(clients=4) as bench:
        for client in range(4):
            await bench.notify(frames.CONFIRM, client % 2, bench.client_address(client))
        sent: dict[bytes, list[bytes]] = {bench.client_address(n): [] for n in range(4)}
        for number in range(200):
            packet = b"\x80" + number.to_bytes(2) + bytes(number)
            bench.send(packet, client=number % 4)
            sent[bench.client_address(number % 4)].append(packet)
        got: dict[bytes, list[bytes]] = {client: [] for client in sent}
        for transceiver in (0, 1):
            rows: list[frames.Row] = []
            while len(rows) < 100:
                rows += (await bench.frame(transceiver)).rows
            for row in rows:
                got[row.client].append(row.payload)
        assert got == sent
        statistics = bench.relay.statistics()
        assert statistics.forwarded == 200
        assert statistics.frames <= 20, "packets of one batch travel in one frame per transceiver"


async def test_full_size_packets_are_split_over_frames() -> None:
    async with running_relay() as bench:
        await bench.notify(frames.CONFIRM, 0, bench.client_address())
        packet = b"\x80" + bytes(PAYLOAD_BYTES_MAX - 1)
        for _ in range(64):
            bench.send(packet)
        rows = 0
        while rows < 64:
            frame = await bench.frame(0)
            assert all(row.payload == packet for row in frame.rows)
            rows += len(frame.rows)


async def test_a_stuck_transceiver_does_not_hold_up_the_other() -> None:
    async with running_relay() as bench:
        for transceiver in (0, 1):
            await bench.notify(frames.CONFIRM, transceiver, bench.client_address(transceiver))
        bench.transceivers[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for _ in range(100):
            for client in (0, 1):
                bench.send(MEDIA, client=client)
            await settle()
        rows = 0
        while rows < 100:
            rows += len((await bench.frame(1)).rows)


async def test_a_dead_transceiver_does_not_hold_up_the_other() -> None:
    """Its port answers ECONNREFUSED, as ICMP, to every frame."""
    async with running_relay() as bench:
        for transceiver in (0, 1):
            await bench.notify(frames.CONFIRM, transceiver, bench.client_address(transceiver))
        bench.transceivers[0].close()
        for _ in range(20):
            for client in (0, 1):
                bench.send(MEDIA, client=client)
            await settle()
        rows = 0
        while rows < 20:
            rows += len((await bench.frame(1)).rows)
        await bench.notify(frames.RELEASE, 1, bench.client_address(1))
        bench.send(MEDIA, client=1)
        assert await bench.silent(1), "notices are still taken"
