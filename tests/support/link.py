"""A seeded bad network between two machines, on a virtual clock.

``Link`` is the tests' counterpart of the transceiver's driver: the only other code that drains a
``Machine``. It keeps the law of edge/machine.py: after every input it pulls datagrams, then events,
until both return None, and then reads the timeout again.

    link = Link(
        Endpoint(client, Address("192.0.2.1", 40000)),
        Endpoint(server, Address("198.51.100.1", 3478)),
        seed=7,
        forward=Path(loss=0.25, delay=0.02),
    )
    assert link.run(lambda: bool(link.right.events), deadline=5.0)

Time starts at 0.0 and jumps from one arrival or timeout to the next; nothing ever sleeps. The same
seed gives the same network. OpenSSL is the known exception: it draws its own random numbers, and
its retransmission timer runs on the real clock, so that it hardly ever fires here. Each datagram's
fate depends on how many were sent before it, not on what is in it.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from edge.machine import Address, Machine, Transmit

EventT = TypeVar("EventT")

STEPS_MAX = 100_000


@frozen(kw_only=True)
class Path:
    """What one direction of the network does to datagrams. Times are seconds."""

    loss: float = 0.0
    """Probability that a datagram never arrives."""
    delay: float = 0.01
    """One-way delay."""
    jitter: float = 0.0
    """Uniform extra delay in 0..jitter per datagram; more than their spacing reorders them."""
    duplicate: float = 0.0
    """Probability that a datagram arrives twice; each copy has its own jitter."""
    mtu: int = 1500
    """Longer datagrams are lost, as by a router that may not fragment. Bytes of UDP payload."""
    alter: Callable[[bytes], Sequence[bytes]] | None = None
    """The attacker on the path: what arrives, in order, in place of one datagram."""


@define(eq=False)
class Endpoint(Generic[EventT]):
    """One end: a machine, the address the other end knows it by, and the events it emitted."""

    machine: Machine[EventT]
    address: Address
    """May be changed between runs: what is sent to the old address is lost from then on."""
    react: Callable[[EventT, float], None] | None = None
    """Called with each event and the time, as a session would: may call the machine's verbs."""
    events: list[EventT] = field(factory=list, init=False)


class Link:
    """Two endpoints and the two paths between them.

    ``forward`` carries what ``left`` sends, ``backward`` what ``right`` sends. ``counts`` tells
    what happened: sent, lost, too-long, duplicated, misdirected (sent to an address that nobody
    has), delivered.
    """

    def __init__(
        self,
        left: Endpoint[Any],
        right: Endpoint[Any],
        *,
        seed: int = 0,
        forward: Path | None = None,
        backward: Path | None = None,
    ) -> None:
        self.left, self.right = left, right
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self._forward, self._backward = forward or Path(), backward or Path()
        self._random = random.Random(seed)
        self._flying: list[tuple[float, int, Address, Address, bytes]] = []
        self._serial = 0  # keeps datagrams that arrive at the same instant in order

    def run(self, until: Callable[[], bool], *, deadline: float) -> bool:
        """Let time pass until the predicate holds; return whether it did.

        Stops at ``deadline`` (absolute virtual seconds), or earlier when nothing is left to happen;
        ``now`` is then the deadline. Raises AssertionError when a machine breaks the timeout law or
        the two keep each other busy for ever.
        """
        for _ in range(STEPS_MAX):
            self.drain()
            if until():
                return True
            instant = self._next_instant()
            if instant is None or instant > deadline:
                self.now = max(self.now, deadline)
                return False
            self.now = max(self.now, instant)
            self._step()
        raise AssertionError(f"still busy after {STEPS_MAX} steps, at {self.now} s")

    def drain(self) -> None:
        """Pull everything both machines have to give, as their owner must after every input."""
        busy = True
        while busy:
            from_left = self._drain(self.left, self.right, self._forward)
            from_right = self._drain(self.right, self.left, self._backward)
            busy = from_left or from_right

    def inject(self, data: bytes, source: Address, destination: Address) -> None:
        """Put a datagram on the wire that neither end sent; it arrives at once, as it is."""
        self._fly(data, source, destination, self.now)

    def _step(self) -> None:
        """Do the one earliest thing that is due: an arrival first, else the timeouts."""
        if self._flying and self._flying[0][0] <= self.now:
            _, _, source, destination, data = heapq.heappop(self._flying)
            for end in (self.left, self.right):
                if end.address == destination:
                    self.counts["delivered"] += 1
                    end.machine.receive_datagram(data, source, self.now)
                    return
            self.counts["misdirected"] += 1
            return
        for end in (self.left, self.right):
            timeout = end.machine.next_timeout()
            if timeout is not None and timeout <= self.now:
                end.machine.handle_timeout(self.now)
                again = end.machine.next_timeout()
                assert again is None or again > self.now, f"{end.machine} wants {again} again"
                return

    def _next_instant(self) -> float | None:
        instants = [self._flying[0][0]] if self._flying else []
        for end in (self.left, self.right):
            timeout = end.machine.next_timeout()
            if timeout is not None:
                instants.append(timeout)
        return min(instants, default=None)

    def _drain(self, end: Endpoint[Any], other: Endpoint[Any], path: Path) -> bool:
        busy = False
        while (transmit := end.machine.next_datagram()) is not None:
            busy = True
            self._send(transmit, end.address, other, path)
        while (event := end.machine.next_event()) is not None:
            busy = True
            end.events.append(event)
            if end.react is not None:
                end.react(event, self.now)
        return busy

    def _send(self, transmit: Transmit, source: Address, other: Endpoint[Any], path: Path) -> None:
        self.counts["sent"] += 1
        if transmit.destination != other.address:
            self.counts["misdirected"] += 1
            return
        # Both draws are always made, so that one datagram's fate does not shift the next one's.
        lost, doubled = self._random.random() < path.loss, self._random.random() < path.duplicate
        jitters = [self._random.random() * path.jitter for _ in range(2)]
        if len(transmit.data) > path.mtu:
            self.counts["too-long"] += 1
            return
        if lost:
            self.counts["lost"] += 1
            return
        self.counts["duplicated"] += doubled
        pieces = path.alter(transmit.data) if path.alter is not None else [transmit.data]
        for jitter in jitters[: 1 + doubled]:
            for piece in pieces:
                self._fly(piece, source, other.address, self.now + path.delay + jitter)

    def _fly(self, data: bytes, source: Address, destination: Address, arrival: float) -> None:
        self._serial += 1
        heapq.heappush(self._flying, (arrival, self._serial, source, destination, data))
