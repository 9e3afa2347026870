"""The relay worker: forwards packets from the public sockets to the transceivers that own them.

Four things are read from a packet and no more: its source address, its length, its first byte and,
in a STUN Binding request, USERNAME. A Binding request goes where its own ufrag says. Everything
else goes where the flow table says. What belongs to nobody is dropped and counted; a relay never
answers a client. Return traffic does not pass here: transceivers send on the public sockets. Only
those of other hosts cannot: packets to them and theirs for the clients go by the trunk
(edge/trunk/).

The hot path handles a whole receive batch: one dictionary look-up per packet at C speed, a few
vectorised compares, one gathered send per transceiver. Only rows that need thought (checks, unknown
clients, damaged packets) are looked at one by one.

Under load, waking up costs more than forwarding. So a worker with one public socket waits for
packets in the kernel, inside its Trio task, for as long as they keep coming; every few milliseconds
the other tasks get their turn. And it may let packets gather before it reads them (``coalesce``),
but only while there are enough of them: a quiet relay waits in Trio and forwards at once. While
there are clients that come over TCP (edge/streams/), turns are shorter, and waiting ends as soon as
there is something to do for one of them.
"""

import errno
import gc
import logging
import math
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import cast

import trio
from attrs import field, frozen

from edge import control, process
from edge.directory.flow_cache import FlowCache
from edge.directory.flow_entry import Owner
from edge.directory.settings import DirectorySettings
from edge.directory.unknown import Flow, Meeting
from edge.errors import FrameError, LocalProtocolError, StunError, UfragError
from edge.fleet.map import FleetKey
from edge.fleet.owners import FIRST as FIRST_ELSEWHERE
from edge.memory import HeldMemory
from edge.routing import flows, frames
from edge.routing.frames import Row
from edge.routing.limits import CheckLimiter
from edge.routing.numbers import split_number, transceiver_number
from edge.routing.peek import is_binding_request, peek_ufrag
from edge.routing.shared import FlowMirror, shared_owner, split_owner
from edge.routing.ufrag import RoutingKey, UfragOpener
from edge.streams.settings import StreamLimits
from edge.streams.streams import StreamPlace, Streams, StreamStatistics
from edge.trunk.relaying import RelayTrunk
from edge.trunk.settings import TrunkSettings
from edge.udp import RECEIVE_ROWS, FrameSender, ReceiveBatch, SendBatch, block_for

logger = logging.getLogger(__name__)

TENTATIVE_MAX = 4_096
"""Tentative flows per public socket."""
TURN = 0.005
"""How long packets are forwarded before other tasks of the worker get a turn."""
SHARED_TURN = 0.001
"""The same while there are TCP connections."""
COALESCE_RATE_MIN = 5_000
"""Packets per second and public socket below which letting them gather is a loss."""
NOTICES_PER_WAKE = 64
QUEUE_TIME = 0.1
"""How long a relay that ends goes on forwarding."""
MIRROR_GENERATIONS = 3
"""How many generations a mirrored flow lives without being renewed, which happens every one."""
TOUCHES_PER_TURN = 500
"""How many mirrored flows are renewed before other tasks of the worker get a turn."""

_BY_UFRAG = bytes(range(4))
"""First bytes of STUN (RFC 7983 §7)."""
_BY_FLOW = bytes([*range(20, 64), *range(128, 192)])
"""First bytes of DTLS, RTP and RTCP."""


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
    """It reads and accepts nothing before it is told to (``control.TakeOver``)."""


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
        self._opener = UfragOpener(settings.keys)
        self._begun = trio.Event()
        if not settings.waits:
            self._begun.set()
        self._reading = trio.CancelScope()
        self.limiter = CheckLimiter()
        self._owners_by_address = {
            address: owner for owner, address in enumerate(settings.transceivers)
        }
        self.drops: Counter[str] = Counter()
        self.first_checks = [0] * len(settings.transceivers)
        self.first_checks_elsewhere = 0
        self.trunk = None
        if settings.trunk is not None:
            self.trunk = RelayTrunk(settings.trunk, self.drops, self._take_frame, self._flush)
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
            self.owner_of,
            self.limiter,
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
        memory = settings.flow_memory.map()
        lifetime = math.ceil(MIRROR_GENERATIONS * settings.flow_generation)
        self._mirrors = [
            FlowMirror(memory, index, lifetime, self._share_owner, self._take_owner)
            for index in range(len(settings.public))
        ]
        self._forwarders = [
            Forwarder(
                self,
                settings,
                index,
                flows.FlowTable(settings.flows_max, TENTATIVE_MAX, mirror),
            )
            for index, mirror in enumerate(self._mirrors)
        ]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if self._settings.core is not None:
            os.sched_setaffinity(0, {self._settings.core})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_notices)
            nursery.start_soon(self._expire_flows)
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

    def obey(self, order: control.Order) -> None:
        match order:
            case control.AcceptKeys(_, keys):
                self._opener = UfragOpener(RoutingKey(each.id, each.key) for each in keys)
                if self.cache is not None and self.trunk is None:
                    self.cache.use_keys((each.id, each.key) for each in keys)
            case control.UseFleetKeys(_, keys):
                if self.trunk is not None:
                    self.trunk.use_keys([FleetKey(each.id, each.key) for each in keys])
                if self.cache is not None:
                    self.cache.use_keys((each.id, each.key) for each in keys)
            case control.TakeOver():
                self._begun.set()
            case control.HandOver():
                self._reading.cancel()
                self.streams.leave()
            case _:
                raise LocalProtocolError(f"not an order for relays: {order!r}")

    def answer(self, question: control.Question) -> control.Answer:
        raise LocalProtocolError(f"a relay knows no sessions: {type(question).__name__}")

    def statistics(self) -> control.RelayStatistics:
        ways: list[Forwarder | Streams] = [*self._forwarders, self.streams]
        return control.RelayStatistics(
            packets=sum(way.packets for way in ways),
            bytes=sum(way.bytes for way in ways),
            forwarded=sum(way.forwarded for way in ways),
            frames=sum(way.frames for way in ways),
            first_checks=list(self.first_checks),
            drops=dict(self._all_drops()),
            flows=[_flow_counts(forwarder.flows) for forwarder in self._forwarders],
            tcp=_stream_counts(self.streams.statistics()),
            process=process.consumption(),
            trunk=self._trunk_counts(),
            redis=self.cache.counts() if self.cache is not None else None,
        )

    def _all_drops(self) -> Counter[str]:
        total = Counter(self.drops)
        if self.trunk is not None:
            total.update(self.trunk.all_drops())
        for forwarder in self._forwarders:
            total.update(forwarder.send_drops())
        return total

    def _trunk_counts(self) -> control.TrunkCounts | None:
        if self.trunk is None:
            return None
        figures = self.trunk.statistics()
        return control.TrunkCounts(
            transceivers=figures.owners,
            packets=figures.packets,
            frames=figures.frames,
            frames_back=figures.frames_back,
            delivered=sum(forwarder.delivered for forwarder in self._forwarders),
            first_checks=self.first_checks_elsewhere,
        )

    def owner_of(self, ufrag: bytes) -> int:
        """Return the index of the transceiver that issued a ufrag.

        Raises:
            UfragError: forged, or not of this cluster.

        """
        routed = self._opener.open(ufrag)
        return self.owner_at(routed.cluster, routed.transceiver)

    def owner_at(self, cluster: int, transceiver: int) -> int:
        """Return the number by which flow tables know a transceiver.

        Raises:
            UfragError: it is neither on this host nor in the fleet.

        """
        settings = self._settings
        if cluster == settings.cluster:
            host, slot = split_number(transceiver)
            if host == settings.host:
                if slot >= len(settings.transceivers):
                    raise UfragError("ufrag-unknown-transceiver")
                return slot
        if self.trunk is not None:
            return self.trunk.owners.find(cluster, transceiver)
        known = cluster == settings.cluster
        raise UfragError("ufrag-unknown-transceiver" if known else "ufrag-unknown-cluster")

    def transceiver_of(self, owner: int) -> tuple[int, int]:
        """Return cluster and transceiver number of what ``owner_at`` has returned."""
        if owner >= FIRST_ELSEWHERE:
            assert self.trunk is not None  # which has given out the number
            return self.trunk.owners.transceiver(owner)
        assert self._settings.cluster is not None  # or there were no transceivers here
        return self._settings.cluster, transceiver_number(self._settings.host, owner)

    def note_first_check(self, owner: int) -> None:
        """Count a check that was routed by its ufrag alone."""
        if owner < FIRST_ELSEWHERE:
            self.first_checks[owner] += 1
        else:
            self.first_checks_elsewhere += 1

    def send_rows(self, owner: int, public_socket: int, rows: Sequence[Row]) -> bool:
        """Send packets that were copied to their owner; return whether they went out."""
        settings = self._settings
        if owner >= FIRST_ELSEWHERE:
            assert self.trunk is not None  # which has given out the number
            return self.trunk.send_rows(frames.PACKETS, owner, public_socket, rows)
        frame = frames.encode_frame(frames.PACKETS, public_socket, settings.index, rows)
        try:
            settings.internal.sendto(frame, socket.MSG_DONTWAIT, settings.transceivers[owner])
        except OSError:
            self.drops["transceiver-not-taking"] += len(rows)
            return False
        return True

    def _share_owner(self, owner: int) -> int:
        return shared_owner(*self.transceiver_of(owner))

    def _take_owner(self, shared: int) -> int | None:
        try:
            return self.owner_at(*split_owner(shared))
        except UfragError:
            return None

    @property
    def has_left(self) -> bool:
        """Whether another worker reads the public sockets now."""
        return self._reading.cancel_called

    async def _read_public(self) -> None:
        with self._reading:
            async with trio.open_nursery() as nursery:
                for forwarder in self._forwarders:
                    nursery.start_soon(forwarder.run)

    def _forward_waiting(self, now: float) -> None:  # noqa: ARG002 - the poller's signature
        """Forward what has come by UDP, while TCP connections have their turn."""
        for forwarder in self._forwarders:
            forwarder.forward_waiting()

    async def _take_notices(self) -> None:
        """Hear from transceivers which clients have authenticated, and which have gone."""
        internal = self._settings.internal
        while True:
            await trio.lowlevel.wait_readable(internal)
            for _ in range(NOTICES_PER_WAKE):
                try:
                    data, source = internal.recvfrom(frames.FRAME_BYTES_MAX, socket.MSG_DONTWAIT)
                except OSError as exc:
                    if exc.errno not in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                        raise
                    break
                owner = self._owners_by_address.get(source[:2])
                if owner is None:
                    self.drops["notice-from-stranger"] += 1
                    continue
                self._take_notice(data, owner)

    def _take_notice(self, data: bytes, owner: int) -> None:
        try:
            notice = frames.decode_frame(memoryview(data))
        except FrameError as exc:
            self.drops[exc.reason] += 1
            return
        self._take_frame(notice, owner)

    def _take_frame(self, notice: frames.Frame, owner: int) -> None:
        """Do what a transceiver says; one of another host may also have packets for clients."""
        if notice.socket >= len(self._forwarders):
            if notice.socket == self.streams.index:
                self.streams.take_notice(notice, owner)
            else:
                self.drops["notice-unknown-socket"] += 1
            return
        table = self._forwarders[notice.socket].flows
        if notice.kind == frames.CONFIRM:
            for row in notice.rows:
                added = table.confirm(row.client, owner) is flows.Verdict.ADDED
                if added and self.cache is not None:
                    self.cache.store((notice.socket, row.client), self._name_owner(owner))
        elif notice.kind == frames.RELEASE:
            for row in notice.rows:
                if table.release(row.client, owner) and self.cache is not None:
                    self.cache.remove((notice.socket, row.client))
        elif notice.kind == frames.DELIVER and owner >= FIRST_ELSEWHERE:
            self._forwarders[notice.socket].deliver(notice.rows, owner)
        else:
            self.drops["notice-unexpected"] += 1

    def _flush(self) -> None:
        for forwarder in self._forwarders:
            forwarder.flush()

    def _name_owner(self, owner: int) -> Owner:
        return Owner(*self.transceiver_of(owner))

    def _recall(self, flow: Flow, owner: Owner, packets: list[bytes]) -> None:
        """Take up a flow that Redis knew."""
        try:
            number = self.owner_at(owner.cluster, owner.number)
        except UfragError as exc:
            self.drops[exc.reason] += len(packets)
            return
        public_socket, client = flow
        self._forwarders[public_socket].recall(client, number, packets)

    async def _expire_flows(self) -> None:
        """Rotate the tables, and keep what is in use alive in the mirror and in Redis."""
        while True:
            if self.cache is not None:
                self.cache.begin_generation()
            for forwarder, mirror in zip(self._forwarders, self._mirrors, strict=True):
                mirror.now = int(time.monotonic())
                used = list(forwarder.flows.current.items())
                forwarder.flows.rotate()
                for start in range(0, len(used), TOUCHES_PER_TURN):
                    for client, owner in used[start : start + TOUCHES_PER_TURN]:
                        mirror.touch(client)
                        if self.cache is not None:
                            self.cache.renew((forwarder.index, client), self._name_owner(owner))
                    await trio.lowlevel.checkpoint()
            if self.cache is not None:
                self.cache.end_generation()
            gc.collect()
            await trio.sleep(self._settings.flow_generation)


class Forwarder:
    """The receive loop of one public socket."""

    def __init__(
        self, relay: Relay, settings: RelaySettings, index: int, table: flows.FlowTable
    ) -> None:
        self._relay = relay
        self._public = settings.public[index]
        self._coalesce = settings.coalesce
        self._alone = len(settings.public) == 1
        self._streams = relay.streams
        self._trunk = relay.trunk
        self._work = select.epoll()
        for one in (self._public, settings.internal, self._streams.poller, self._trunk):
            if one is not None:
                self._work.register(one.fileno(), select.EPOLLIN)
        self._out = None
        if self._trunk is not None:
            self._out = SendBatch(self._public.fileno(), self._public.family)
        self.index = index
        self._batch = ReceiveBatch(self._public.fileno(), _BY_FLOW)
        self._sender = FrameSender(
            settings.internal.fileno(), self._batch, settings.transceivers, settings.index, index
        )
        self._busy = False
        self._measured_at = 0.0
        self._measured_packets = 0
        self.flows = table
        self.packets = 0
        self.bytes = 0
        self.forwarded = 0
        self.delivered = 0
        """Packets of transceivers elsewhere that went out here."""

    @property
    def frames(self) -> int:
        """Frames sent."""
        return self._sender.frames

    async def run(self) -> None:
        if self._alone:
            block_for(self._public, milliseconds=int(TURN * 1000))
        while True:
            await trio.lowlevel.wait_readable(self._public)
            while self._take_turn():
                await trio.lowlevel.checkpoint()

    def forward_waiting(self) -> bool:
        """Forward a batch, if there is one; do not wait for it."""
        count = 0 if self._relay.has_left else self._batch.receive()
        if count:
            self._forward(count)
        return count > 0

    def deliver(self, rows: Sequence[Row], owner: int) -> None:
        """Queue what the owner of clients' flows has for them."""
        assert self._out is not None  # without a trunk nothing is delivered
        find, add = self.flows.find, self._out.add
        for client, _, payload in rows:
            if find(client) == owner:
                add(payload, client)
                self.delivered += 1
            else:
                self._relay.drops["deliver-unknown-flow"] += 1

    def flush(self) -> None:
        """Send what ``deliver`` has queued."""
        if self._out is not None:
            self._out.flush()

    def send_drops(self) -> Counter[str]:
        """Return what the public socket did not take, by reason."""
        return Counter() if self._out is None else self._out.drops

    def _take_turn(self) -> bool:
        """Forward for one turn; return False as soon as nothing more is there."""
        if self._relay.has_left:
            return False
        turn = SHARED_TURN if self._streams.connected else TURN
        start = now = time.monotonic()
        full = False
        while now - start < turn:
            self._measure(now)
            if self._busy and not full:
                time.sleep(self._coalesce)
            if self._trunk is not None and self._trunk.active:
                self._trunk.receive_waiting()
            count = self._read()
            if not count:
                return False
            self._forward(count)
            full = count == RECEIVE_ROWS
            if not full and not self._alone:
                return False  # the other sockets' turn
            now = time.monotonic()
        return True

    def _read(self) -> int:
        """Take packets. An only socket waits for them, but not while others want the worker.

        While packets wait for an answer of Redis, Trio waits for both.
        """
        cache = self._relay.cache
        if not self._alone or (cache is not None and cache.is_asking):
            return self._batch.receive()
        trunk = self._trunk if self._trunk is not None and self._trunk.active else None
        if trunk is None and not self._streams.connected:
            return self._batch.wait()
        count = self._batch.receive()
        if not count:
            ready = {descriptor for descriptor, _ in self._work.poll(TURN)}
            if trunk is not None and trunk.fileno() in ready:
                trunk.receive_waiting()
                ready.remove(trunk.fileno())
            if ready <= {self._public.fileno()}:
                count = self._batch.receive()
        return count

    def _measure(self, now: float) -> None:
        """See from time to time whether there is so much to do that letting it gather pays."""
        elapsed = now - self._measured_at
        if elapsed < TURN or not self._coalesce:
            return
        self._busy = self.packets - self._measured_packets >= COALESCE_RATE_MIN * elapsed
        self._measured_at, self._measured_packets = now, self.packets

    def _forward(self, count: int) -> None:
        """Route and send one batch."""
        batch = self._batch
        plain = batch.seal(count)
        found = list(map(self.flows.current.get, batch.clients(count)))
        size, owner = 0, found[0]
        if plain and owner is not None and owner < FIRST_ELSEWHERE and found.count(owner) == count:
            size = self._sender.send_all(owner, count)
        if size:
            self.forwarded += count
        else:
            self._forward_each(found, () if plain else batch.odd_rows(count))
        self.packets += count
        self.bytes += size or batch.payload_bytes(count)
        batch.clear(count)

    def _forward_each(self, found: list[int | None], odd_rows: Sequence[int]) -> None:
        """Route and send rows that are not all alike.

        ``found`` is what the flow table says of each row; odd rows are not routed by it.
        """
        for row in odd_rows:
            found[row] = self._route(row)
        if None in found:
            found = [
                self._route(row) if owner is None else owner for row, owner in enumerate(found)
            ]
        owners, rows = cast("list[int]", found), None
        if odd_rows or flows.UNKNOWN in owners:
            rows = [row for row, owner in enumerate(owners) if owner != flows.UNKNOWN]
            owners = [owners[row] for row in rows]
        if self._trunk is not None and owners and max(owners) >= FIRST_ELSEWHERE:
            owners, rows = self._send_elsewhere(self._trunk, owners, rows)
        sent = self._sender.send_each(bytes(owners), rows)
        self.forwarded += sent
        if sent < len(owners):
            self._relay.drops["transceiver-not-taking"] += len(owners) - sent

    def _send_elsewhere(
        self, trunk: RelayTrunk, owners: list[int], rows: list[int] | None
    ) -> tuple[list[int], list[int]]:
        """Send what is for other hosts; return the owners and the rows that are left."""
        each = list(zip(owners, range(len(owners)) if rows is None else rows, strict=True))
        away = [pair for pair in each if pair[0] >= FIRST_ELSEWHERE]
        self.forwarded += trunk.send_batch(self._batch, away, self.index)
        here = [pair for pair in each if pair[0] < FIRST_ELSEWHERE]
        return [owner for owner, _ in here], [row for _, row in here]

    def _route(self, row: int) -> int:
        """Route one row that the tables could not; return its owner, UNKNOWN to drop it."""
        batch, drops = self._batch, self._relay.drops
        payload = batch.payload(row)
        if not payload:
            drops["empty"] += 1
            return flows.UNKNOWN
        if batch.is_truncated(row):
            drops["too-long"] += 1
            return flows.UNKNOWN
        by_ufrag = payload[0] in _BY_UFRAG
        if not by_ufrag and payload[0] not in _BY_FLOW:
            drops["not-webrtc"] += 1
            return flows.UNKNOWN
        client = batch.client(row)
        if by_ufrag and is_binding_request(payload):
            return self._route_check(row, client, payload)
        owner = self.flows.find(client)
        if owner == flows.UNKNOWN:
            self._meet_unknown(client, payload)
        return owner

    def _meet_unknown(self, client: bytes, payload: memoryview) -> None:
        """Drop a packet of a flow that nobody here knows, unless Redis may know it."""
        meeting, cache = Meeting.MISSED, self._relay.cache
        if cache is not None:
            meeting = cache.meet((self.index, client), payload, time.monotonic())
        if meeting not in (Meeting.ASK, Meeting.KEPT):
            self._relay.drops[meeting.value] += 1

    def recall(self, client: bytes, owner: int, packets: list[bytes]) -> None:
        """Take up a client's flow, unless it has got one meanwhile, and forward what has waited."""
        known = self.flows.find(client)
        if known == flows.UNKNOWN:
            self.flows.propose(client, owner)
            known = owner
        rows = [Row(client, 0, payload) for payload in packets]
        if rows and self._relay.send_rows(known, self.index, rows):
            self.forwarded += len(rows)

    def _route_check(self, row: int, client: bytes, payload: memoryview) -> int:
        relay = self._relay
        try:
            owner = relay.owner_of(ufrag := peek_ufrag(payload))
        except (StunError, UfragError) as exc:
            relay.drops[exc.reason] += 1
            return flows.UNKNOWN
        known = client if self.flows.has_confirmed(client, owner) else None
        if not relay.limiter.admit(ufrag, known, time.monotonic()):
            relay.drops["too-many-checks"] += 1
            return flows.UNKNOWN
        if not self.flows.propose(client, owner):
            relay.note_first_check(owner)
            self._batch.flag(row, frames.UNCONFIRMED)
        return owner


def _flow_counts(table: flows.FlowTable) -> control.FlowCounts:
    counts = table.statistics()
    return control.FlowCounts(
        confirmed=counts.confirmed,
        tentative=counts.tentative,
        conflicts=counts.conflicts,
        evicted=counts.evicted,
        full=counts.full,
        taken_over=counts.taken_over,
    )


def _stream_counts(figures: StreamStatistics) -> control.StreamCounts:
    return control.StreamCounts(
        connections=figures.connections,
        half_open=figures.half_open,
        accepted=figures.accepted,
        refused=figures.refused,
        closed=figures.closed,
    )
