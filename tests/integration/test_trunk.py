"""Calls through relays of other hosts: real relay processes, a real transceiver, real sockets."""

import socket
import time
from collections import Counter
from contextlib import ExitStack

import pytest
import trio
from attrs import define, field

from edge.fleet.map import FleetKey
from edge.fleet.seal import (
    FRESH,
    SEALED_BYTES_MAX,
    FrameOpener,
    KeyRing,
    Place,
    entrance_id,
)
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.routing import frames
from edge.routing.numbers import transceiver_number
from edge.routing.sockaddr import encode_sockaddr
from edge.routing.ufrag import UfragIssuer
from edge.rtp.rtcp import Goodbye
from edge.transceiver.session import EndReason
from edge.trunk import answering
from edge.trunk.answering import FIRST_ENTRANCE
from edge.trunk.relaying import RelayTrunk
from edge.trunk.settings import PACKET_BYTES_MAX, TrunkSettings
from tests.support.peer import Peer
from tests.support.tcp_client import connect
from tests.support.trunk import (
    CLUSTER,
    FLEET_KEY,
    HOST_NUMBER,
    NEXT_KEY,
    ROUTING_KEY,
    SLOT,
    Insider,
    TransceiverHost,
    flow_memory,
    make_fleet,
    running_relay_host,
    running_transceiver_host,
    udp,
    wait_for,
)
from tests.support.udp_call import run_media, running_media

RELAY, SECOND_RELAY, TRANSCEIVER = "127.0.0.2", "127.0.0.4", "127.0.0.3"
NUMBER = transceiver_number(HOST_NUMBER, SLOT)
CLIENT = encode_sockaddr("192.0.2.1", 40_000)
ENTRANCE = entrance_id("203.0.113.5", 3478)


def check_for(cluster: int = CLUSTER, number: int = NUMBER) -> bytes:
    ufrag = UfragIssuer(cluster, number, ROUTING_KEY, bytes).issue(0)
    return stun.encode_request(
        local=Credentials("clnt", "p" * 24),
        remote=Credentials(ufrag, "p" * 24),
        priority=1,
        tie_breaker=1,
        use_candidate=False,
        transaction_id=bytes(12),
    )


def first_check(peer: Peer) -> bytes:
    peer.start(trio.current_time())
    transmit = peer.next_datagram()
    assert transmit is not None
    return transmit.data


def packets_frame(*rows: frames.Row) -> bytes:
    return frames.encode_frame(frames.PACKETS, 0, 0, rows)


async def next_frame(
    opener: FrameOpener, one: socket.socket, source: Place
) -> tuple[frames.Frame, int]:
    """Return the next frame that comes to a socket, and the length of its datagram."""
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(one)
    data, sender = one.recvfrom(65536)
    assert sender == source
    opened = opener.open(memoryview(data), source, time.time())
    return frames.decode_frame(opened.frame), len(data)


@define
class Ends:
    """A client as it comes in by an insider's relay; the test carries its packets."""

    host: TransceiverHost
    peer: Peer
    relay: socket.socket
    entrance: bytes = ENTRANCE
    client: bytes = CLIENT
    first: bytes = b""
    """The first packet that was sent."""
    opener: FrameOpener = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.opener = FrameOpener(KeyRing((FLEET_KEY,)), self.relay.getsockname())

    def send(self, packet: bytes) -> None:
        self.first = self.first or packet
        frame = packets_frame(frames.Row(self.client, 0, packet))
        data = Insider(self.relay).seal(frame, self.host.place, entrance=self.entrance)
        self.relay.sendto(data, self.host.place)

    def arrived(self) -> list[bytes]:
        """Return the packets for the client that have come."""
        found: list[bytes] = []
        while True:
            try:
                data = self.relay.recv(65536)
            except BlockingIOError:
                return found
            opened = self.opener.open(memoryview(data), self.host.place, time.time())
            frame = frames.decode_frame(opened.frame)
            if frame.kind == frames.DELIVER:
                assert {row.client for row in frame.rows} == {self.client}
                found += [row.payload for row in frame.rows]

    async def connect(self) -> None:
        """Have the client connect, and check no more."""
        self.peer.start(trio.current_time())
        with trio.fail_after(5):
            while self.peer.srtp is None or len(self.host.reports) < 2:
                while (transmit := self.peer.next_datagram()) is not None:
                    self.send(transmit.data)
                await trio.sleep(0.01)
                for packet in self.arrived():
                    self.peer.receive_datagram(packet, self.peer.server, trio.current_time())
        while self.peer.next_datagram() is not None:
            pass

    def media(self) -> bytes:
        """Return the client's next packet of media."""
        self.peer.send_frame(trio.current_time())
        transmit = self.peer.next_datagram()
        assert transmit is not None
        return transmit.data

    async def wait_delivered(self) -> None:
        """Wait for something for the client."""
        await wait_for(lambda: bool(self.arrived()))


@define
class OwnEnds(Ends):
    """A client as it comes in by the transceiver host's own relay."""

    udp: socket.socket = field(kw_only=True)

    def send(self, packet: bytes) -> None:
        frame = packets_frame(frames.Row(self.client, 0, packet))
        self.relay.sendto(frame, self.host.internal.getsockname())

    def arrived(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            try:
                found.append(self.udp.recv(65536))
            except BlockingIOError:
                return found


async def test_a_call_through_another_hosts_relay() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with flow_memory() as memory, running_relay_host(fleet, RELAY, (RELAY, 0), memory) as relay:
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(relay.public)
            async with running_media(peer):
                await wait_for(lambda: peer.record.echoed >= 50)
            assert peer.mapped is not None
            assert peer.mapped.host == "127.0.0.1"
            await wait_for(lambda: len(host.driver) == 0)
        counts = relay.statistics()
        assert counts.trunk is not None
        assert counts.trunk.transceivers == 1
        assert counts.trunk.delivered >= 50
        assert counts.flows[0].confirmed == 0, "released with the session"
        print(counts, host.driver.all_drops())


async def test_a_call_over_ipv6() -> None:
    fleet = make_fleet("::1")
    with flow_memory() as memory, running_relay_host(fleet, "::1", ("::1", 0), memory) as relay:
        async with running_transceiver_host(fleet, "::1", "::1") as host:
            peer = host.call(relay.public)
            async with running_media(peer):
                await wait_for(lambda: peer.record.echoed >= 50)
            assert relay.trunk().delivered >= 50


async def test_a_public_address_moves_to_another_relay_host_without_a_check() -> None:
    """The new relay knows the flow (here from memory that both have); media turns the way."""
    fleet = make_fleet(TRANSCEIVER, RELAY, SECOND_RELAY)
    with flow_memory() as memory, running_relay_host(fleet, RELAY, (RELAY, 0), memory) as first:
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(first.public)
            async with running_media(peer):
                await wait_for(lambda: peer.record.echoed >= 50)
                peer._check_at = float("inf")
                checks = peer.record.checks_answered
                first.kill()
                peer.record.longest_gap = 0.0
                with running_relay_host(fleet, SECOND_RELAY, first.public, memory) as second:
                    echoed = peer.record.echoed
                    await wait_for(lambda: peer.record.echoed >= echoed + 50)
                    assert second.trunk().delivered >= 50
                    assert peer.record.checks_answered == checks
                    assert host.driver.ways_turned == 1
                    assert len(host.reports) == 3, "no layer of the session has noticed"


async def test_a_relay_worker_that_is_started_again_goes_on() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with flow_memory() as memory, running_relay_host(fleet, RELAY, (RELAY, 0), memory) as first:
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(first.public)
            async with running_media(peer):
                await wait_for(lambda: peer.record.echoed >= 20)
                peer._check_at = float("inf")
                first.kill()
                with running_relay_host(fleet, RELAY, first.public, memory) as again:
                    echoed = peer.record.echoed
                    await wait_for(lambda: peer.record.echoed >= echoed + 50)
                    assert again.trunk().delivered >= 50
                    assert host.driver.ways_turned == 0
                    assert not host.trunk.drops


async def test_keys_rotate_under_a_call_without_a_lost_packet() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with flow_memory() as memory, running_relay_host(fleet, RELAY, (RELAY, 0), memory) as relay:
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(relay.public)
            async with running_media(peer):
                await wait_for(lambda: peer.record.echoed >= 20)
                before = peer.record.sequence_numbers[-1]
                for keys in ((FLEET_KEY, NEXT_KEY), (NEXT_KEY, FLEET_KEY), (NEXT_KEY,)):
                    for use in (relay.use_keys, lambda *keys: host.trunk.use_keys(keys)):
                        use(*keys)
                        echoed = peer.record.echoed
                        await wait_for(lambda: peer.record.echoed >= echoed + 10)  # noqa: B023
                after = peer.record.sequence_numbers[-1]
                received = [n for n in peer.record.sequence_numbers if before < n <= after]
                assert len(received) == after - before
            assert not host.trunk.drops
            assert not relay.statistics().drops


async def test_frames_are_cut_to_what_a_path_takes() -> None:
    """Of every size of packet, and only a packet that is too long for it makes a frame longer."""
    fleet = make_fleet(TRANSCEIVER, RELAY)
    sizes = [1, 172, 1200, 1300, 1349, 1350, PACKET_BYTES_MAX, PACKET_BYTES_MAX + 1]
    with (
        flow_memory() as memory,
        running_relay_host(fleet, RELAY, (RELAY, 0), memory) as relay,
        udp(TRANSCEIVER, fleet.frame_port + SLOT) as transceiver,
        udp("127.0.0.1") as client,
    ):
        insider = Insider(transceiver)
        client.sendto(check_for(), relay.public)
        opener = FrameOpener(KeyRing((FLEET_KEY,)), transceiver.getsockname())
        source = RELAY, fleet.relay_port + 1
        frame, _ = await next_frame(opener, transceiver, source)
        assert frame.rows[0].flags == frames.UNCONFIRMED
        who = frame.rows[0].client
        insider.send(frames.encode_frame(frames.CONFIRM, 0, 0, [frames.Row(who, 0, b"")]), source)
        packets = [b"\x80" + bytes(size - 1) for size in sizes for _ in range(40)]
        for start in range(0, len(packets), 40):
            for packet in packets[start : start + 40]:
                client.sendto(packet, relay.public)
            await trio.sleep(0.05)
        taken: list[bytes] = []
        while len(taken) < len(packets) - 40:
            frame, length = await next_frame(opener, transceiver, source)
            assert length <= SEALED_BYTES_MAX or len(frame.rows) == 1
            taken += [row.payload for row in frame.rows]
        assert taken == packets[:-40]
        assert relay.statistics().drops == {"too-long": 40}
        assert relay.trunk().frames < relay.trunk().packets


async def test_frames_tell_the_entrance_of_their_rows() -> None:
    """Also of rows that were copied: those of TCP clients, and those that waited for an answer."""
    fleet = make_fleet(TRANSCEIVER, RELAY)
    entrances = (ENTRANCE, entrance_id("203.0.113.5", 3479))
    with (
        udp(RELAY, fleet.relay_port) as relay,
        udp(TRANSCEIVER, fleet.frame_port + SLOT) as transceiver,
    ):
        settings = TrunkSettings(relay, fleet, (FLEET_KEY,), entrances)
        trunk = RelayTrunk(settings, Counter(), lambda _frame, _owner: None, lambda: None)
        owner = trunk.owners.find(CLUSTER, NUMBER)
        opener = FrameOpener(KeyRing((FLEET_KEY,)), transceiver.getsockname())
        seen = []
        for public_socket in (0, 1, 2):
            row = frames.Row(CLIENT, 0, b"packet")
            assert trunk.send_rows(frames.PACKETS, owner, public_socket, [row])
            data = memoryview(transceiver.recv(2048))
            seen.append(opener.open(data, relay.getsockname(), time.time()).entrance)
        assert seen == [*entrances, entrance_id(RELAY, fleet.relay_port, "tcp")]


async def test_the_way_back_is_cut_to_what_a_path_takes() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with udp(RELAY, fleet.relay_port + 1) as relay:
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(("127.0.0.1", 9))
            row = frames.Row(CLIENT, 0, first_check(peer))
            Insider(relay).send(packets_frame(row), host.place)
            opener = FrameOpener(KeyRing((FLEET_KEY,)), relay.getsockname())
            frame, _ = await next_frame(opener, relay, host.place)
            assert (frame.kind, frame.rows[0].client) == (frames.DELIVER, CLIENT)
            way = host.trunk.latest(FIRST_ENTRANCE + 1)
            assert way is not None
            sizes = [1, 172, 1200, 1349, PACKET_BYTES_MAX, PACKET_BYTES_MAX + 1]
            packets = [bytes([size & 0x7F]) * size for size in sizes for _ in range(30)]
            for packet in packets:
                way.add(packet, CLIENT)
            host.trunk.flush()
            taken: list[bytes] = []
            while len(taken) < len(packets) - 30:
                frame, length = await next_frame(opener, relay, host.place)
                assert length <= SEALED_BYTES_MAX or len(frame.rows) == 1
                taken += [row.payload for row in frame.rows if frame.kind == frames.DELIVER]
            assert [one for one in taken if one in packets] == packets[:-30]
            assert host.trunk.drops == {"send-too-long": 30}


async def test_a_transceiver_takes_no_frames_but_those_of_members_relays() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with (
        udp(RELAY, fleet.relay_port + 1) as relay,
        udp(RELAY) as other_port,
        udp("127.0.0.9", fleet.relay_port + 1) as stranger,
    ):
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(("127.0.0.1", 9))
            frame = packets_frame(frames.Row(CLIENT, 0, first_check(peer)))
            there = host.place

            async def counted(reason: str, sender: socket.socket, data: bytes) -> None:
                before = host.trunk.drops[reason]
                sender.sendto(data, there)
                await wait_for(lambda: host.trunk.drops[reason] == before + 1)

            sealed = Insider(relay).seal(frame, there)
            await counted("frame-from-stranger", stranger, Insider(stranger).seal(frame, there))
            await counted("frame-from-stranger", other_port, Insider(other_port).seal(frame, there))
            await counted("not-sealed", relay, frame + bytes(30))
            await counted("short-frame", relay, frame[:20])
            await counted(
                "frame-unknown-key", relay, Insider(relay, (NEXT_KEY,)).seal(frame, there)
            )
            guessed = FleetKey(FLEET_KEY.id, bytes(32))
            await counted("frame-forged", relay, Insider(relay, (guessed,)).seal(frame, there))
            await counted("frame-forged", relay, sealed[:-1] + bytes([sealed[-1] ^ 1]))
            elsewhere = there[0], there[1] + 1
            await counted("frame-forged", relay, Insider(relay).seal(frame, elsewhere))
            await counted("frame-stale", relay, Insider(relay).seal(frame, there, age=FRESH + 1))
            await counted("frame-stale", relay, Insider(relay).seal(frame, there, age=-FRESH - 1))
            notice = frames.encode_frame(frames.RELEASE, 0, 0, [frames.Row(CLIENT, 0, b"")])
            await counted("unexpected-frame", relay, Insider(relay).seal(notice, there))
            assert not host.reports, "nothing of that has reached the session"
            assert host.trunk.frames == 0
            relay.sendto(sealed, there)
            await wait_for(lambda: len(host.reports) == 1)
            await counted("frame-replayed", relay, sealed)


async def test_a_relay_takes_no_frames_but_those_of_members_transceivers() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY, SECOND_RELAY)
    with (
        flow_memory() as memory,
        running_relay_host(fleet, RELAY, (RELAY, 0), memory) as relay,
        udp(TRANSCEIVER, fleet.frame_port + SLOT) as transceiver,
        udp(TRANSCEIVER) as other_port,
        udp(SECOND_RELAY, fleet.relay_port + 1) as other_relay,
        udp("127.0.0.1") as client,
    ):
        there = RELAY, fleet.relay_port + 1
        place = client.getsockname()
        row = frames.Row(encode_sockaddr(*place), 0, b"to somebody who never sent anything")
        deliver = frames.encode_frame(frames.DELIVER, 0, 0, [row])
        packets = frames.encode_frame(frames.PACKETS, 0, 0, [row])
        sent = [
            ("frame-from-stranger", other_relay, Insider(other_relay).seal(packets, there)),
            ("frame-from-stranger", other_port, Insider(other_port).seal(deliver, there)),
            ("unexpected-frame", transceiver, Insider(transceiver).seal(packets, there)),
            ("frame-stale", transceiver, Insider(transceiver).seal(deliver, there, age=FRESH + 1)),
            (
                "frame-unknown-key",
                transceiver,
                Insider(transceiver, (NEXT_KEY,)).seal(deliver, there),
            ),
        ]
        authentic = Insider(transceiver).seal(deliver, there)
        sent += [("deliver-unknown-flow", transceiver, authentic)]
        sent += [("frame-replayed", transceiver, authentic)]
        for _, sender, data in sent:
            sender.sendto(data, there)
        expected = Counter(reason for reason, _, _ in sent)
        await wait_for(lambda: relay.statistics().drops == expected)
        assert relay.trunk().delivered == 0
        with pytest.raises(BlockingIOError):
            client.recv(2048)


async def test_a_transceiver_elsewhere_confirms_nobody_who_has_not_asked_for_it() -> None:
    """Or it could have the relay send to whom it likes; a check to it is what it takes."""
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with (
        flow_memory() as memory,
        running_relay_host(fleet, RELAY, (RELAY, 0), memory) as relay,
        udp(TRANSCEIVER, fleet.frame_port + SLOT) as transceiver,
        udp(TRANSCEIVER, fleet.frame_port + SLOT + 1) as neighbour,
        udp("127.0.0.1") as client,
    ):
        there = RELAY, fleet.relay_port + 1
        insider, other = Insider(transceiver), Insider(neighbour)
        who = encode_sockaddr(*client.getsockname())

        def confirm_and_deliver(member: Insider, payload: bytes) -> None:
            for kind, data in ((frames.CONFIRM, b""), (frames.DELIVER, payload)):
                member.send(frames.encode_frame(kind, 0, 0, [frames.Row(who, 0, data)]), there)

        confirm_and_deliver(insider, b"to somebody who never sent anything")
        expected = Counter({"confirm-unknown-flow": 1, "deliver-unknown-flow": 1})
        await wait_for(lambda: relay.statistics().drops == expected)
        assert relay.statistics().flows[0].confirmed == 0

        client.sendto(check_for(), relay.public)
        await wait_for(lambda: relay.statistics().flows[0].tentative == 1)
        confirm_and_deliver(other, b"to the client of another")
        expected += expected
        await wait_for(lambda: relay.statistics().drops == expected)
        assert relay.trunk().delivered == 0

        confirm_and_deliver(insider, b"to its own")
        await wait_for(lambda: relay.trunk().delivered == 1)
        assert client.recv(2048) == b"to its own"
        assert relay.statistics().flows[0].confirmed == 1
        assert relay.statistics().drops == expected


async def test_ufrags_that_lead_nowhere_are_dropped() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with (
        flow_memory() as memory,
        running_relay_host(fleet, RELAY, (RELAY, 0), memory) as relay,
        udp("127.0.0.1") as client,
    ):
        for cluster, number in (
            (CLUSTER + 1, NUMBER),  # a cluster that nobody has heard of
            (CLUSTER, transceiver_number(HOST_NUMBER + 1, SLOT)),  # a host likewise
            (CLUSTER, HOST_NUMBER << 8 | 200),  # a slot that no host has
        ):
            client.sendto(check_for(cluster, number), relay.public)
        expected = {"ufrag-unknown-cluster": 1, "ufrag-unknown-transceiver": 2}
        await wait_for(lambda: relay.statistics().drops == expected)
        assert relay.trunk().frames == 0


async def test_ways_and_entrances_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session keeps a way that had to make room."""
    monkeypatch.setattr(answering, "WAYS_MAX", 2)
    monkeypatch.setattr(answering, "ENTRANCES_MAX", 3)
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with ExitStack() as undo:
        relays = [undo.enter_context(udp(RELAY, fleet.relay_port + number)) for number in range(4)]
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(("127.0.0.1", 9))
            ends = Ends(host, peer, relays[0])
            await ends.connect()
            for relay in relays[1:]:
                row = frames.Row(CLIENT, 0, b"")
                data = Insider(relay).seal(packets_frame(row), host.place, entrance=ENTRANCE)
                relay.sendto(data, host.place)
            await wait_for(lambda: host.trunk.frames >= 5)
            assert host.trunk.ways == 2
            ends.arrived()
            host.driver.end_all(EndReason.GOING_AWAY, trio.current_time())
            await ends.wait_delivered()
            for number in range(3):
                entrance = entrance_id("203.0.113.9", number)
                data = Insider(relays[1]).seal(packets_frame(), host.place, entrance=entrance)
                relays[1].sendto(data, host.place)
            await wait_for(lambda: host.trunk.drops["entrances-full"] == 2)


async def test_only_what_is_authentic_turns_the_way() -> None:
    """Somebody spoofs a client's address towards another relay that has the same public address."""
    fleet = make_fleet(TRANSCEIVER, RELAY, SECOND_RELAY)
    with (
        udp(RELAY, fleet.relay_port + 1) as first,
        udp(SECOND_RELAY, fleet.relay_port + 1) as second,
    ):
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(("127.0.0.1", 9))
            ends = Ends(host, peer, first)
            await ends.connect()
            media = ends.media()
            assert host.driver.ways_turned == 0
            elsewhere = Ends(host, peer, second)
            forged = media[:-1] + bytes([media[-1] ^ 1])
            ends.send(media)
            await ends.wait_delivered()
            for spoofed in (forged, media, ends.first):  # a replay of media, and of a check
                elsewhere.send(spoofed)
            await trio.sleep(0.1)
            assert host.driver.ways_turned == 0
            elsewhere.send(ends.media())
            await elsewhere.wait_delivered()
            assert host.driver.ways_turned == 1
            ends.send(ends.media())
            await wait_for(lambda: host.driver.ways_turned == 2)


async def test_the_way_turns_between_this_host_and_others() -> None:
    """The transceiver host's own public address moves to another host and comes back."""
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with udp(RELAY, fleet.relay_port + 1) as relay, udp("127.0.0.1") as own_relay:
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            host.driver.trust([own_relay.getsockname()])
            peer = host.call(("127.0.0.1", 9))
            entrance = entrance_id(*host.public.getsockname())
            elsewhere = Ends(host, peer, relay, entrance)
            with udp("127.0.0.1") as client:
                elsewhere.client = encode_sockaddr(*client.getsockname())
                here = OwnEnds(host, peer, own_relay, client=elsewhere.client, udp=client)
                await here.connect()
                assert host.driver.ways_turned == 0
                elsewhere.send(here.media())
                await elsewhere.wait_delivered()
                assert host.driver.ways_turned == 1
                here.send(here.media())
                await here.wait_delivered()
                assert host.driver.ways_turned == 2


async def test_the_last_words_of_a_session_go_out_before_its_flow_ends() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with flow_memory() as memory, running_relay_host(fleet, RELAY, (RELAY, 0), memory) as relay:
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(relay.public)
            async with running_media(peer):
                await wait_for(lambda: peer.record.echoed >= 20)
                host.driver.end_all(EndReason.GOING_AWAY, trio.current_time())
                await wait_for(lambda: any(isinstance(one, Goodbye) for one in peer.record.rtcp))
            assert "deliver-unknown-flow" not in relay.statistics().drops


async def test_a_client_that_comes_over_tcp() -> None:
    fleet = make_fleet(TRANSCEIVER, RELAY)
    with (
        flow_memory() as memory,
        socket.create_server((RELAY, 0)) as listener,
        running_relay_host(fleet, RELAY, (RELAY, 0), memory, listener=listener) as relay,
    ):
        async with running_transceiver_host(fleet, TRANSCEIVER) as host:
            peer = host.call(listener.getsockname())
            client = await connect(peer.server)
            peer.start(trio.current_time())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_media, peer, client)
                await wait_for(lambda: peer.record.echoed >= 50)
                nursery.cancel_scope.cancel()
            counts = relay.statistics()
            assert (counts.tcp.connections, counts.tcp.half_open) == (1, 0)
            (driven,) = host.driver._sessions
            assert len(driven.addresses) == 1
            client.close()
            await wait_for(lambda: not driven.addresses)
            assert relay.statistics().tcp.closed == {"client": 1}
            assert len(host.driver) == 1, "the client may come back"
