"""Hosts of a fleet on loopback addresses: relay workers as processes, a transceiver in ours.

Each host has an address of its own in 127.0.0.0/8 or, for IPv6, ports of its own on ::1.
"""

import multiprocessing
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess

import trio
from attrs import define, evolve, field, frozen

from edge import process, relay
from edge.control import messages
from edge.control.statistics import RelayStatistics, TrunkCounts
from edge.dtls.context import DtlsContexts
from edge.dtls.keying import Role
from edge.fleet.map import Cluster, FleetKey, FleetMap, Member, Site
from edge.fleet.seal import FrameSealer, KeyRing, Place, entrance_id
from edge.ice.credentials import Credentials
from edge.machine import Address
from edge.media.punctuality import Punctuality
from edge.memory import HeldMemory
from edge.routing.numbers import transceiver_number
from edge.routing.shared import table_bytes
from edge.routing.ufrag import RoutingKey, UfragIssuer
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.receiver import FrameReceiver
from edge.transceiver.session import Ended, LayerUp
from edge.trunk.answering import TransceiverTrunk
from edge.trunk.settings import TrunkSettings
from edge.udp import open_udp_socket
from tests.support.calls import IDENTITIES, make_session
from tests.support.peer import Peer

CLUSTER = 7
HOST_NUMBER = 2
SLOT = 3
ROUTING_KEY = RoutingKey(0, bytes(range(16)))
FLEET_KEY, NEXT_KEY = FleetKey(1, bytes(range(32))), FleetKey(2, bytes(range(32, 64)))
FLOWS_MAX = 100
FLOW_GENERATION = 15.0
BOOT_TIME = 30.0
STOP_TIME = 10.0
SITE = Site("here", "", 0.0, 0.0)


def udp(host: str, port: int = 0) -> socket.socket:
    return open_udp_socket(host, port, receive_buffer_bytes=1 << 20, reuse_port=port == 0)


def free_ports(hosts: Sequence[str], count: int) -> int:
    """Return the first of so many ports that are free on all of these addresses."""
    for _ in range(100):
        first = random.randrange(20_000, 32_000)
        with ExitStack() as undo:
            try:
                for host in hosts:
                    for port in range(first, first + count):
                        undo.callback(udp(host, port).close)
            except Exception:  # noqa: BLE001 - taken: others test here, too
                continue
            return first
    raise AssertionError("no free ports")


def make_fleet(transceivers: str, *relays: str) -> FleetMap:
    """Return a fleet: a host with transceivers and hosts that only relay, by their addresses."""
    cluster = Cluster(CLUSTER, "one", SITE)
    members = (
        Member(transceivers, SITE, cluster, HOST_NUMBER, transceivers),
        *(Member(each, SITE, None, 0, each) for each in relays),
    )
    first = free_ports([transceivers, *relays], 24)
    return FleetMap(
        here=members[0],
        members=members,
        clusters=(cluster,),
        sites=(SITE,),
        frame_port=first,
        relay_port=first + 16,
        control_port=1,
    )


@define
class RelayHost:
    """A relay worker, alone on its host, in a process of its own."""

    public: Place
    pid: int
    child: BaseProcess
    channel: socket.socket
    orders: int = 0

    def statistics(self) -> RelayStatistics:
        self.channel.send(messages.encode_message(messages.Ping(0)))
        pong = messages.decode_from_worker(self.channel.recv(messages.MESSAGE_BYTES_MAX))
        assert isinstance(pong, messages.Pong)
        assert isinstance(pong.statistics, RelayStatistics)
        return pong.statistics

    def trunk(self) -> TrunkCounts:
        counts = self.statistics().trunk
        assert counts is not None
        return counts

    def use_keys(self, *keys: FleetKey) -> None:
        shared = [messages.SharedKey(each.id, each.key) for each in keys]
        self.channel.send(messages.encode_message(messages.UseFleetKeys(1, shared)))
        done = messages.decode_from_worker(self.channel.recv(messages.MESSAGE_BYTES_MAX))
        assert done == messages.Done(1)

    def kill(self) -> None:
        self.child.kill()
        self.child.join(STOP_TIME)


@contextmanager
def running_relay_host(
    fleet: FleetMap,
    host: str,
    public: Place,
    memory: HeldMemory,
    *,
    listener: socket.socket | None = None,
) -> Iterator[RelayHost]:
    """Run one that listens on a public address. It has no transceivers of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["edge.preload"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, ExitStack() as undo:
        open_public = undo.enter_context(
            open_udp_socket(*public, receive_buffer_bytes=1 << 20, reuse_port=True)
        )
        place = open_public.getsockname()[:2]
        settings = relay.RelaySettings(
            index=1,
            cluster=None,
            core=None,
            public=(open_public,),
            internal=undo.enter_context(udp("127.0.0.1")),
            transceivers=(),
            keys=(ROUTING_KEY,),
            flows_max=FLOWS_MAX,
            flow_generation=FLOW_GENERATION,
            flow_memory=memory,
            tcp=() if listener is None else (listener,),
            trunk=TrunkSettings(
                undo.enter_context(udp(host, fleet.relay_port + 1)),
                evolve(fleet, here=next(each for each in fleet.members if each.name == host)),
                (FLEET_KEY,),
                (entrance_id(*place),),
            ),
        )
        frame = process.Frame("relay-1", theirs, "info", journal=False)
        child = context.Process(target=relay.run, args=(frame, settings), daemon=True)
        child.start()
        theirs.close()
        ours.settimeout(BOOT_TIME)
        message = messages.decode_from_worker(ours.recv(messages.MESSAGE_BYTES_MAX))
        assert isinstance(message, messages.Ready), message
        assert child.pid is not None
        started = RelayHost(place, child.pid, child, ours)
        undo.close()  # so that a killed worker's addresses are free
        try:
            yield started
        finally:
            if child.is_alive():
                ours.send(messages.encode_message(messages.Stop(0.0)))
                child.join(STOP_TIME)
                assert child.exitcode == process.EX_OK, child.exitcode


@define
class TransceiverHost:
    """A transceiver's driver with real sockets, without signaling."""

    driver: Driver
    trunk: TransceiverTrunk
    fleet: FleetMap
    public: socket.socket
    internal: socket.socket
    sessions: int = 0
    reports: list[LayerUp | Ended] = field(factory=list)

    @property
    def place(self) -> Place:
        host, port = self.trunk.socket.getsockname()[:2]
        return host, port

    def call(self, server: Place) -> Peer:
        """Return a client of a new session, which it reaches by a relay's public address."""
        self.sessions += 1
        entropy = random.Random(self.sessions).randbytes
        now = trio.current_time()
        session, _, local = make_session(Role.CLIENT, entropy, now=now)
        number = transceiver_number(HOST_NUMBER, SLOT)
        ufrag = UfragIssuer(CLUSTER, number, ROUTING_KEY, entropy).issue(0)
        remote = Credentials(ufrag, "s" * 32)
        session._ice.local = remote
        driven = Driven(f"s{self.sessions}", ufrag.encode(), session, self.reports.append, 0)
        self.driver.add(driven, now)
        return Peer(
            local,
            remote,
            Address(*server),
            Role.SERVER,
            DtlsContexts(IDENTITIES[1]),
            IDENTITIES[0].fingerprint(),
            entropy,
        )


@asynccontextmanager
async def running_transceiver_host(
    fleet: FleetMap, host: str, public_host: str = "127.0.0.1"
) -> AsyncIterator[TransceiverHost]:
    with (
        udp(public_host) as public,
        udp("127.0.0.1") as internal,
        udp(host, fleet.frame_port + SLOT) as frames,
    ):
        place = public.getsockname()[:2]
        here = next(each for each in fleet.members if each.name == host)
        settings = TrunkSettings(
            frames, evolve(fleet, here=here), (FLEET_KEY,), (entrance_id(*place),)
        )
        trunk = TransceiverTrunk(settings)
        driver = Driver([public], internal, [], Punctuality(), trunk)
        receiver = FrameReceiver(
            internal,
            driver.receive_frame,
            driver.fire,
            further=[(frames, driver.receive_sealed)],
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            nursery.start_soon(driver.run_timers)
            yield TransceiverHost(driver, trunk, fleet, public, internal)
            nursery.cancel_scope.cancel()


@contextmanager
def flow_memory() -> Iterator[HeldMemory]:
    memory = HeldMemory.create("test-flows", table_bytes(FLOWS_MAX))
    try:
        yield memory
    finally:
        memory.close()


@frozen
class Insider:
    """Whoever holds a key and a socket: what it seals is authentic."""

    socket: socket.socket
    keys: tuple[FleetKey, ...] = (FLEET_KEY,)

    def seal(
        self, frame: bytes, there: Place, *, entrance: bytes = bytes(6), age: float = 0.0
    ) -> bytes:
        here = self.socket.getsockname()[:2]
        sealer = FrameSealer(KeyRing(self.keys), here, there)
        return sealer.seal(entrance, (frame,), time.time() - age)

    def send(self, frame: bytes, there: Place) -> bytes:
        data = self.seal(frame, there)
        self.socket.sendto(data, there)
        return data


async def wait_for(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    with trio.fail_after(timeout):
        while not condition():
            await trio.sleep(0.02)
