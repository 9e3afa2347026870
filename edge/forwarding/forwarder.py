"""The receive loop of one public socket, the hot path of the relay.

It handles a whole receive batch: one dictionary look-up per packet at C speed, a few vectorised
compares, one gathered send per transceiver. Only rows that need thought are looked at one by one
(router.py).

Under load, waking up costs more than forwarding. So a worker with one public socket waits for
packets in the kernel, inside its Trio task, for as long as they keep coming; every few milliseconds
the other tasks get their turn. And it may let packets gather before it reads them (``coalesce``),
but only while there are enough of them: a quiet relay waits in Trio and forwards at once. While
there are clients that come over TCP (edge/streams/), turns are shorter, and waiting ends as soon as
there is something to do for one of them.
"""

import select
import socket
import time
from collections.abc import Sequence
from typing import cast

import trio

from edge.fleet.owners import FIRST as FIRST_ELSEWHERE
from edge.forwarding.delivery import Delivery
from edge.forwarding.place import ForwardingPlace
from edge.forwarding.router import BY_FLOW, Router
from edge.routing import flows, frames
from edge.routing.frames import Row
from edge.trunk.relaying import RelayTrunk
from edge.udp import RECEIVE_ROWS, FrameSender, ReceiveBatch, block_for

TURN = 0.005
"""How long packets are forwarded before other tasks of the worker get a turn."""
SHARED_TURN = 0.001
"""The same while there are TCP connections."""
COALESCE_RATE_MIN = 5_000
"""Packets per second and public socket below which letting them gather is a loss."""


class Forwarder:
    """Forwards what comes in by one public socket.

    ``index``: the socket's. ``coalesce``: how long packets may gather. ``alone``: the worker has no
    other public socket.
    """

    def __init__(
        self,
        place: ForwardingPlace,
        public: socket.socket,
        index: int,
        table: flows.FlowTable,
        coalesce: float,
        *,
        alone: bool,
    ) -> None:
        self._place = place
        self._public = public
        self._coalesce = coalesce
        self._alone = alone
        self._reading = place.reading
        self._streams = place.streams
        self._trunk = place.trunk
        self._drops = place.drops
        self._work = select.epoll()
        for one in (public, place.internal, place.streams.poller, place.trunk):
            if one is not None:
                self._work.register(one.fileno(), select.EPOLLIN)
        self._batch = ReceiveBatch(public.fileno(), BY_FLOW)
        self._sender = FrameSender(
            place.internal.fileno(), self._batch, place.transceivers, place.relay, index
        )
        self._route = Router(place, index, table, self._batch).route
        self._busy = False
        self._measured_at = 0.0
        self._measured_packets = 0
        self.index = index
        self.flows = table
        self.packets = 0
        self.bytes = 0
        self.forwarded = 0
        self.delivery = None
        """What transceivers elsewhere send out here; None: there are none."""
        if place.trunk is not None:
            self.delivery = Delivery(public, table, place.drops)

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
        count = 0 if self._reading.cancel_called else self._batch.receive()
        if count:
            self._forward(count)
        return count > 0

    def recall(self, client: bytes, owner: int, packets: list[bytes]) -> None:
        """Take up a client's flow, unless it has got one meanwhile, and forward what has waited."""
        known = self.flows.find(client)
        if known == flows.UNKNOWN:
            self.flows.propose(client, owner)
            known = owner
        rows = [Row(client, 0, payload) for payload in packets]
        if rows and self._send_rows(known, rows):
            self.forwarded += len(rows)

    def _send_rows(self, owner: int, rows: Sequence[Row]) -> bool:
        """Send packets that were copied to their owner; return whether they went out."""
        place = self._place
        if owner >= FIRST_ELSEWHERE:
            assert place.trunk is not None  # which has given out the number
            return place.trunk.send_rows(frames.PACKETS, owner, self.index, rows)
        frame = frames.encode_frame(frames.PACKETS, self.index, place.relay, rows)
        try:
            place.internal.sendto(frame, socket.MSG_DONTWAIT, place.transceivers[owner])
        except OSError:
            self._drops["transceiver-not-taking"] += len(rows)
            return False
        return True

    # Waiting

    def _take_turn(self) -> bool:
        """Forward for one turn; return False as soon as nothing more is there."""
        if self._reading.cancel_called:
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
        cache = self._place.cache
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

    # A batch

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
            self._drops["transceiver-not-taking"] += len(owners) - sent

    def _send_elsewhere(
        self, trunk: RelayTrunk, owners: list[int], rows: list[int] | None
    ) -> tuple[list[int], list[int]]:
        """Send what is for other hosts; return the owners and the rows that are left."""
        each = list(zip(owners, range(len(owners)) if rows is None else rows, strict=True))
        away = [pair for pair in each if pair[0] >= FIRST_ELSEWHERE]
        self.forwarded += trunk.send_batch(self._batch, away, self.index)
        here = [pair for pair in each if pair[0] < FIRST_ELSEWHERE]
        return [owner for owner, _ in here], [row for _, row in here]
