"""The relay worker: forwards packets from the public sockets to the transceivers that own them.

Four things are read from a packet and no more: its source address, its length, its first byte and,
in a STUN Binding request, USERNAME. A Binding request goes where its own ufrag says. Everything
else goes where the flow table says. What belongs to nobody is dropped and counted; a relay never
answers a client. Return traffic does not pass here: transceivers send on the public sockets.

The hot path handles a whole receive batch: one dictionary look-up per packet at C speed, a few
vectorised compares, one gathered send per transceiver. Only rows that need thought (checks, unknown
clients, damaged packets) are looked at one by one.
"""

import errno
import logging
import math
import os
import socket
import time
from collections import Counter
from itertools import repeat

import numpy as np
import trio
from attrs import frozen

from edge import control, process
from edge.errors import FrameError, StunError, UfragError
from edge.memory import HeldMemory
from edge.routing import flows, frames
from edge.routing.peek import is_binding_request, peek_ufrag
from edge.routing.shared import FlowMirror
from edge.routing.ufrag import RoutingKey, UfragOpener
from edge.udp import BATCH_ROWS, PAYLOAD_OFFSET, FrameSender, ReceiveBatch, Words

logger = logging.getLogger(__name__)

TENTATIVE_MAX = 4_096
"""Tentative flows per public socket."""
BATCHES_PER_WAKE = 16
"""How many batches are read before other tasks of the worker get a turn."""
NOTICES_PER_WAKE = 64
QUEUE_TIME = 0.1
"""How long a relay that ends goes on forwarding."""
MIRROR_GENERATIONS = 3
"""How many generations a mirrored flow lives without being renewed, which happens every one."""
TOUCHES_PER_TURN = 500
"""How many mirrored flows are renewed before other tasks of the worker get a turn."""

_BY_FLOW, _BY_UFRAG, _FOREIGN = 0, 1, 2
_ROUTING = np.full(256, _FOREIGN, dtype=np.uint8)
"""First byte → how the packet is routed (RFC 7983 §7)."""
_ROUTING[0:4] = _BY_UFRAG
_ROUTING[20:64] = _BY_FLOW
_ROUTING[128:192] = _BY_FLOW


@frozen
class RelaySettings:
    """What one relay worker needs to know. It never sees the password key."""

    index: int
    cluster: int
    core: int | None
    """The CPU core to stay on."""
    public: tuple[socket.socket, ...]
    internal: socket.socket
    transceivers: tuple[tuple[str, int], ...]
    """Internal address of each transceiver worker of this host, by index."""
    keys: tuple[RoutingKey, ...]
    flows_max: int
    flow_generation: float
    flow_memory: HeldMemory
    """Where confirmed flows are mirrored (edge/routing/shared.py)."""


def run(frame: process.Frame, settings: RelaySettings) -> None:
    """Entry point of the worker process."""
    process.run_worker(frame, lambda: Relay(settings))


class Relay:
    """One relay worker: its public sockets, their flow tables, its counters."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._opener = UfragOpener(settings.keys)
        self._senders = [
            FrameSender(host, port, settings.index) for host, port in settings.transceivers
        ]
        self._owners_by_address = {
            address: owner for owner, address in enumerate(settings.transceivers)
        }
        self.drops: Counter[str] = Counter()
        self.forwarded = 0
        self.frames = 0
        self.first_checks = [0] * len(settings.transceivers)
        memory = settings.flow_memory.map()
        lifetime = math.ceil(MIRROR_GENERATIONS * settings.flow_generation)
        self._mirrors = [
            FlowMirror(memory, index, lifetime) for index in range(len(settings.public))
        ]
        self._forwarders = [
            Forwarder(
                self, index, public, flows.FlowTable(settings.flows_max, TENTATIVE_MAX, mirror)
            )
            for index, (public, mirror) in enumerate(
                zip(settings.public, self._mirrors, strict=True)
            )
        ]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if self._settings.core is not None:
            os.sched_setaffinity(0, {self._settings.core})
        async with trio.open_nursery() as nursery:
            for forwarder in self._forwarders:
                nursery.start_soon(forwarder.run)
            nursery.start_soon(self._take_notices)
            nursery.start_soon(self._expire_flows)
            task_status.started()

    async def drain(self, grace: float) -> None:
        """Forward what is queued: the supervisor has seen to it that nothing new comes."""
        await trio.sleep(min(grace, QUEUE_TIME))

    def obey(self, order: control.Order) -> None:
        assert isinstance(order, control.AcceptKeys)
        self._opener = UfragOpener(RoutingKey(each.id, each.key) for each in order.keys)

    def statistics(self) -> control.RelayStatistics:
        return control.RelayStatistics(
            packets=sum(forwarder.packets for forwarder in self._forwarders),
            bytes=sum(forwarder.bytes for forwarder in self._forwarders),
            forwarded=self.forwarded,
            frames=self.frames,
            first_checks=list(self.first_checks),
            drops=dict(self.drops),
            flows=[_flow_counts(forwarder.flows) for forwarder in self._forwarders],
        )

    def owner_of(self, ufrag: bytes) -> int:
        """Return the index of the transceiver that issued a ufrag.

        Raises:
            UfragError: forged, or not of this cluster.

        """
        routed = self._opener.open(ufrag)
        if routed.cluster != self._settings.cluster:
            raise UfragError("ufrag-unknown-cluster")
        if routed.transceiver >= len(self._senders):
            raise UfragError("ufrag-unknown-transceiver")
        return routed.transceiver

    def send(self, public_socket: int, owner: int, addresses: Words, lengths: Words) -> None:
        """Send rows to one transceiver."""
        count = len(addresses)
        sent = self._senders[owner].send(
            self._settings.internal.fileno(), public_socket, addresses, lengths
        )
        self.forwarded += sent
        self.frames += 1
        if sent < count:
            self.drops["transceiver-not-taking"] += count - sent

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
        if notice.socket >= len(self._forwarders):
            self.drops["notice-unknown-socket"] += 1
            return
        table = self._forwarders[notice.socket].flows
        if notice.kind == frames.CONFIRM:
            for row in notice.rows:
                table.confirm(row.client, owner)
        elif notice.kind == frames.RELEASE:
            for row in notice.rows:
                table.release(row.client, owner)

    async def _expire_flows(self) -> None:
        """Rotate the tables, and keep what is in use alive in the mirror."""
        while True:
            for forwarder, mirror in zip(self._forwarders, self._mirrors, strict=True):
                mirror.now = int(time.monotonic())
                used = list(forwarder.flows.current)
                forwarder.flows.rotate()
                for start in range(0, len(used), TOUCHES_PER_TURN):
                    for client in used[start : start + TOUCHES_PER_TURN]:
                        mirror.touch(client)
                    await trio.lowlevel.checkpoint()
            await trio.sleep(self._settings.flow_generation)


class Forwarder:
    """The receive loop of one public socket."""

    def __init__(
        self, relay: Relay, index: int, public: socket.socket, table: flows.FlowTable
    ) -> None:
        self._relay = relay
        self._index = index
        self._public = public
        self._batch = ReceiveBatch()
        self.flows = table
        self.packets = 0
        self.bytes = 0

    async def run(self) -> None:
        batch, fd = self._batch, self._public.fileno()
        while True:
            await trio.lowlevel.wait_readable(self._public)
            for _ in range(BATCHES_PER_WAKE):
                count = batch.receive(fd)
                if count:
                    self._forward(count)
                if count < BATCH_ROWS:
                    break

    def _forward(self, count: int) -> None:
        """Route one batch."""
        batch = self._batch
        lengths = batch.lengths[:count]
        owners = np.fromiter(
            map(self.flows.current.get, batch.clients[:count].tolist(), repeat(flows.UNKNOWN)),
            dtype=np.int16,
            count=count,
        )
        batch.row_words[:count] = lengths  # and flags 0
        thought = (
            (_ROUTING[batch.first_bytes[:count]] != _BY_FLOW)
            | (owners == flows.UNKNOWN)
            | (lengths == 0)
            | ((batch.kernel_flags[:count] & socket.MSG_TRUNC) != 0)
        )
        for row in np.flatnonzero(thought).tolist():
            owners[row] = self._route(row)
        self.packets += count
        row_bytes = lengths.astype(np.uint64)
        self.bytes += int(row_bytes.sum())
        row_bytes += PAYLOAD_OFFSET
        for owner in set(owners.tolist()):
            if owner == flows.UNKNOWN:
                continue
            mine = owners == owner
            if mine.all():
                self._relay.send(self._index, owner, batch.addresses[:count], row_bytes)
            else:
                self._relay.send(self._index, owner, batch.addresses[:count][mine], row_bytes[mine])

    def _route(self, row: int) -> int:
        """Route one row that the tables could not; return its owner, UNKNOWN to drop it."""
        batch, drops = self._batch, self._relay.drops
        length = int(batch.lengths[row])
        if not length:
            drops["empty"] += 1
            return flows.UNKNOWN
        if int(batch.kernel_flags[row]) & socket.MSG_TRUNC:
            drops["too-long"] += 1
            return flows.UNKNOWN
        routing = _ROUTING[batch.first_bytes[row]]
        if routing == _FOREIGN:
            drops["not-webrtc"] += 1
            return flows.UNKNOWN
        client: bytes = batch.clients[row].item()
        payload = batch.payload(row, length)
        if routing == _BY_UFRAG and is_binding_request(payload):
            return self._route_check(row, client, payload)
        owner = self.flows.find(client)
        if owner == flows.UNKNOWN:
            drops["unknown-flow"] += 1
        return owner

    def _route_check(self, row: int, client: bytes, payload: memoryview) -> int:
        relay = self._relay
        try:
            owner = relay.owner_of(peek_ufrag(payload))
        except (StunError, UfragError) as exc:
            relay.drops[exc.reason] += 1
            return flows.UNKNOWN
        if not self.flows.propose(client, owner):
            relay.first_checks[owner] += 1
            self._batch.row_words[row] |= frames.UNCONFIRMED << 16
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
