"""The relay worker: forwards packets from the public sockets to the transceivers that own them.

Four things are read from a packet and no more: its source address, its length, its first byte and,
in a STUN Binding request, USERNAME. A Binding request goes where its own ufrag says. Everything
else goes where the flow table says. What belongs to nobody is dropped and counted; a relay never
answers a client.

What transceivers of this host send to clients does not pass here: they have the public sockets too.
What comes back through a relay is only what they cannot send themselves: packets for its TCP
clients (edge/streams/), and packets of transceivers of other hosts, which come by the trunk
(edge/trunk/).

Here are the parts of a worker put together, and the supervisor's orders obeyed. The hot path is in
edge/forwarding/.
"""

import gc
import math
import os
import socket
from collections import Counter

import trio
from attrs import field, frozen

from edge import process
from edge.control import messages
from edge.control.statistics import RelayStatistics
from edge.directory.flow_cache import FlowCache
from edge.directory.flow_entry import Owner
from edge.directory.settings import DirectorySettings
from edge.directory.unknown import Flow
from edge.errors import LocalProtocolError, UfragError
from edge.fleet.map import FleetKey
from edge.forwarding.expiry import expire_flows
from edge.forwarding.figures import all_drops, flow_counts, stream_counts, trunk_counts
from edge.forwarding.forwarder import Forwarder
from edge.forwarding.notices import Notices
from edge.forwarding.ownership import Ownership
from edge.forwarding.place import ForwardingPlace
from edge.memory import HeldMemory
from edge.routing import frames
from edge.routing.flows import FlowTable
from edge.routing.limits import CheckLimiter
from edge.routing.shared import FlowMirror
from edge.routing.ufrag import RoutingKey
from edge.streams.settings import StreamLimits
from edge.streams.streams import StreamPlace, Streams
from edge.trunk.relaying import RelayTrunk
from edge.trunk.settings import TrunkSettings

TENTATIVE_MAX = 4_096
"""Tentative flows per public socket."""
QUEUE_TIME = 0.1
"""How long a relay that ends goes on forwarding."""
MIRROR_GENERATIONS = 3
"""How many generations a mirrored flow lives without being renewed, which happens every one."""


@frozen
class RelaySettings:
    """What one relay worker needs to know. It never sees the password key."""

    index: int
    cluster: int | None
    """None: no transceivers here, a host that only relays."""
    core: int | None
    """The CPU core to stay on."""
    public: tuple[socket.socket, ...]
    internal: socket.socket
    transceivers: tuple[tuple[str, int], ...]
    """Internal address of each transceiver slot of this host."""
    keys: tuple[RoutingKey, ...]
    flows_max: int
    flow_generation: float
    flow_memory: HeldMemory
    """Where confirmed flows are mirrored (edge/routing/shared.py)."""
    coalesce: float = 0.0
    """How long packets may gather before they are read, when there are many."""
    tcp: tuple[socket.socket, ...] = ()
    """Listeners of this worker for ICE over TCP."""
    tcp_limits: StreamLimits = field(factory=StreamLimits)
    host: int = 0
    """This host's number in its cluster."""
    trunk: TrunkSettings | None = None
    """None: this host is alone."""
    directory: DirectorySettings | None = None
    """None: there is no Redis."""
    advertised: tuple[tuple[str, int], ...] = ()
    """What clients are told to send to, by public socket; needed with ``directory``."""
    waits: bool = False
    """It reads and accepts nothing before it is told to (``messages.TakeOver``)."""


def run(frame: process.Frame, settings: RelaySettings) -> None:
    """Entry point of the worker process.

    Reference counts free what the hot path makes; the collector runs when flows expire.
    """
    gc.disable()
    process.run_worker(frame, lambda: Relay(settings))


class Relay:
    """One relay worker: its public sockets, their flow tables, its counters."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._begun = trio.Event()
        if not settings.waits:
            self._begun.set()
        self._reading = trio.CancelScope()
        self.drops: Counter[str] = Counter()
        self.trunk = None
        if settings.trunk is not None:
            self.trunk = RelayTrunk(settings.trunk, self.drops, self._take_frame, self._flush)
        self._owners = Ownership(
            settings.cluster,
            settings.host,
            len(settings.transceivers),
            settings.keys,
            self.trunk.owners if self.trunk is not None else None,
        )
        limiter = CheckLimiter()
        self.streams = Streams(
            StreamPlace(
                relay=settings.index,
                index=len(settings.public) + settings.index,
                internal=settings.internal,
                transceivers=settings.transceivers,
                listeners=settings.tcp,
                trunk=self.trunk,
            ),
            settings.tcp_limits,
            self._owners.owner_of,
            limiter,
            self.drops,
            self._forward_waiting,
        )
        self.cache = None
        if settings.directory is not None:
            self.cache = FlowCache(
                settings.directory,
                settings.advertised,
                settings.flow_generation,
                self.drops,
                self._recall,
                self.trunk.owners.register if self.trunk is not None else None,
            )
        place = ForwardingPlace(
            relay=settings.index,
            internal=settings.internal,
            transceivers=settings.transceivers,
            owners=self._owners,
            limiter=limiter,
            drops=self.drops,
            streams=self.streams,
            trunk=self.trunk,
            cache=self.cache,
            reading=self._reading,
        )
        memory = settings.flow_memory.map()
        lifetime = math.ceil(MIRROR_GENERATIONS * settings.flow_generation)
        self._mirrors = [
            FlowMirror(memory, index, lifetime, self._owners.share, self._owners.take)
            for index in range(len(settings.public))
        ]
        self._forwarders = [
            Forwarder(
                place,
                public,
                index,
                FlowTable(settings.flows_max, TENTATIVE_MAX, self._mirrors[index]),
                settings.coalesce,
                alone=len(settings.public) == 1,
            )
            for index, public in enumerate(settings.public)
        ]
        self._notices = Notices(place, self._forwarders)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        settings = self._settings
        if settings.core is not None:
            os.sched_setaffinity(0, {settings.core})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._notices.run)
            nursery.start_soon(
                expire_flows,
                self._forwarders,
                self._mirrors,
                self._owners,
                self.cache,
                settings.flow_generation,
            )
            if self.trunk is not None:
                nursery.start_soon(self.trunk.run)
            if self.cache is not None:
                nursery.start_soon(self.cache.run)
            task_status.started()
            await self._begun.wait()
            nursery.start_soon(self.streams.run)
            nursery.start_soon(self._read_public)

    async def drain(self, grace: float) -> None:
        """Forward what is queued: the supervisor has seen to it that nothing new comes.

        Then stay for those who came by TCP, whose connections nobody else can have.
        """
        with trio.move_on_after(grace):
            await trio.sleep(QUEUE_TIME)
            while any(forwarder.forward_waiting() for forwarder in self._forwarders):
                await trio.lowlevel.checkpoint()  # a busy machine may have kept us from reading
            while self.streams.connected:  # noqa: ASYNC110 - connections end by themselves
                await trio.sleep(QUEUE_TIME)

    def obey(self, order: messages.Order) -> None:
        match order:
            case messages.AcceptKeys(_, keys):
                self._owners.accept(RoutingKey(each.id, each.key) for each in keys)
                if self.cache is not None and self.trunk is None:
                    self.cache.use_keys((each.id, each.key) for each in keys)
            case messages.UseFleetKeys(_, keys):
                if self.trunk is not None:
                    self.trunk.use_keys([FleetKey(each.id, each.key) for each in keys])
                if self.cache is not None:
                    self.cache.use_keys((each.id, each.key) for each in keys)
            case messages.TakeOver():
                self._begun.set()
            case messages.HandOver():
                self._reading.cancel()
                self.streams.leave()
            case _:
                raise LocalProtocolError(f"not an order for relays: {order!r}")

    def answer(self, question: messages.Question) -> messages.Answer:
        raise LocalProtocolError(f"a relay knows no sessions: {type(question).__name__}")

    def statistics(self) -> RelayStatistics:
        ways: list[Forwarder | Streams] = [*self._forwarders, self.streams]
        return RelayStatistics(
            packets=sum(way.packets for way in ways),
            bytes=sum(way.bytes for way in ways),
            forwarded=sum(way.forwarded for way in ways),
            frames=sum(way.frames for way in ways),
            first_checks=list(self._owners.first_checks),
            drops=dict(all_drops(self.drops, self.trunk, self._forwarders)),
            flows=[flow_counts(forwarder.flows) for forwarder in self._forwarders],
            tcp=stream_counts(self.streams.statistics()),
            process=process.consumption(),
            trunk=None
            if self.trunk is None
            else trunk_counts(self.trunk, self._forwarders, self._owners),
            redis=self.cache.counts() if self.cache is not None else None,
        )

    async def _read_public(self) -> None:
        with self._reading:
            async with trio.open_nursery() as nursery:
                for forwarder in self._forwarders:
                    nursery.start_soon(forwarder.run)

    def _forward_waiting(self, now: float) -> None:  # noqa: ARG002 - the poller's signature
        """Forward what has come by UDP, while TCP connections have their turn."""
        for forwarder in self._forwarders:
            forwarder.forward_waiting()

    def _take_frame(self, frame: frames.Frame, owner: int) -> None:
        """Do what a transceiver of another host says."""
        self._notices.take(frame, owner)

    def _flush(self) -> None:
        """Send what those transceivers had for clients."""
        for forwarder in self._forwarders:
            if forwarder.delivery is not None:
                forwarder.delivery.flush()

    def _recall(self, flow: Flow, owner: Owner, packets: list[bytes]) -> None:
        """Take up a flow that Redis knew."""
        try:
            number = self._owners.owner_at(owner.cluster, owner.number)
        except UfragError as exc:
            self.drops[exc.reason] += len(packets)
            return
        public_socket, client = flow
        self._forwarders[public_socket].recall(client, number, packets)
