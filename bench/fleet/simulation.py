"""A fleet on simulated time: offers come, are placed by the real code, and calls end.

Real: ``Steering`` and ``FleetView`` choose cluster and relays, ``Peers`` and ``RemoteHost`` the
host of the cluster, from host states that are as old as they would be. Simulated: the hosts, which
know their own room exactly and refuse when they have none, and the time in between.
"""

import heapq
import random
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

from attrs import define, field

from bench.fleet.world import Clients, make_fleet
from edge.errors import SignalError
from edge.fleet.guidance import FleetView, fleet_steering
from edge.fleet.map import FleetKey, Member
from edge.fleet.seal import KeyRing
from edge.fleet.states import STALE_AFTER, STATE_TABLE_BYTES, TELL_INTERVAL, HostState, StateTable
from edge.signal.host import SessionRequest
from edge.signal.messages import ErrorCode
from edge.steering.position import distance_km
from edge.steering.visitor import Visitor
from edge.transceiver.channel import NeighbourError
from edge.transceiver.peers import Peers, RemoteHost

CALL_MEAN = 180.0
"""Seconds, exponential: calls have no memory."""
REQUEST = SessionRequest("offer")


@define(eq=False)
class SimulatedHost:
    """A host as its peers can see it. It stands in for the way there, too."""

    member: Member
    sessions_max: int
    told_at: float
    """When in a second it tells its peers."""
    sessions: int = 0
    alive: bool = True
    draining: bool = False
    calls: set[int] = field(factory=set)

    def state(self) -> HostState:
        room = 0 if self.draining else self.sessions_max - self.sessions
        return HostState(self.sessions, self.sessions_max, room, draining=self.draining, relays=1)

    async def open_session(self, _request: SessionRequest, _report: object) -> "SimulatedHost":
        """Take a session, as ``Neighbour.open_session`` does."""
        if not self.alive:
            raise NeighbourError("it does not answer")
        if self.draining or self.sessions >= self.sessions_max:
            raise SignalError(ErrorCode.BUSY, "no room")
        self.sessions += 1
        return self


@define
class Figures:
    """What was seen in one phase."""

    placed: int = 0
    refused: int = 0
    second_choice: int = 0
    """Placed, but not in the nearest of all clusters."""
    attempts: Counter[int] = field(factory=Counter)
    """Hosts asked, by how many it took."""
    dead_asked: int = 0
    away_km: list[float] = field(factory=list)
    """From client to cluster."""
    relay_km: list[float] = field(factory=list)
    choosing: float = 0.0
    """Seconds of processor time."""
    placed_in: Counter[str] = field(factory=Counter)


class Simulation:
    """One fleet with ``hosts`` hosts that have ``sessions_max`` places each."""

    def __init__(self, hosts: int, sessions_max: int, rng: random.Random) -> None:
        self.now = 0.0
        self.fleet = make_fleet(hosts)
        self.rng = rng
        self.clients = Clients(rng)
        self.figures = Figures()
        self.lost: list[tuple[int, Visitor]] = []
        self._table = StateTable(memoryview(bytearray(STATE_TABLE_BYTES)))
        ring = KeyRing([FleetKey(1, bytes(32))])
        self._peers = Peers(self.fleet, ring, self._table, _never, self._clock)
        self.hosts: dict[str, SimulatedHost] = {}
        self._by_peer: dict[RemoteHost, SimulatedHost] = {}
        for member in self.fleet.peers:
            host = SimulatedHost(member, sessions_max, rng.random() * TELL_INTERVAL)
            self.hosts[member.name] = host
            assert member.cluster is not None
            peer = self._peers.find(member.cluster.id, member.number)
            assert peer is not None
            peer._neighbour = host  # type: ignore[assignment] # noqa: SLF001 - the way there
            self._by_peer[peer] = host
        self._view = FleetView(self.fleet, self._peers.states, self._clock)
        self.steering = fleet_steering(self.fleet, second_relay=True)
        self._places = {each.id: each.place.position for each in self.steering.clusters}
        self._names = {each.id: each.name for each in self.fleet.clusters}
        self._call_numbers = iter(range(1 << 60))
        self._ends: list[tuple[float, int, SimulatedHost]] = []
        self._visitors: dict[int, Visitor] = {}
        self._tell_all()

    @property
    def capacity(self) -> int:
        return sum(each.sessions_max for each in self.hosts.values())

    @property
    def sessions(self) -> int:
        return len(self._visitors)

    def fill(self, sessions: int, per_second: float) -> None:
        """Open so many sessions, at a rate."""
        draw = self.clients.draw()
        due = self.now
        for _ in range(sessions):
            due += 1 / per_second
            self._advance(due)
            self.offer(next(draw))

    def run(self, seconds: float, load: float) -> None:
        """Let clients come so that ``load`` sessions would live in the long run."""
        draw = self.clients.draw()
        until = self.now + seconds
        while True:
            due = self.now + self.rng.expovariate(load / CALL_MEAN)
            if due >= until:
                self._advance(until)
                return
            self._advance(due)
            self.offer(next(draw))

    def offer(self, visitor: Visitor) -> bool:
        """Place one client's session. Returns whether anybody took it."""
        started = time.process_time()
        order = self.steering.order(visitor, self._view.vacancies())
        relays = self.steering.relays(visitor, self._view.sites_down())
        chosen = self._open_in([each.id for each in order])
        self.figures.choosing += time.process_time() - started
        if chosen is None:
            self.figures.refused += 1
            return False
        host, cluster = chosen
        at = visitor.whereabouts.position
        assert at is not None
        figures = self.figures
        figures.placed += 1
        figures.placed_in[self._names[cluster]] += 1
        nearest = min(self._places.values(), key=lambda place: distance_km(at, place))
        figures.second_choice += self._places[cluster] != nearest
        figures.away_km.append(distance_km(at, self._places[cluster]))
        site = next(each for each in self.steering.places if relays[0] in each.relays)
        figures.relay_km.append(distance_km(at, site.position))
        number = next(self._call_numbers)
        self._visitors[number] = visitor
        host.calls.add(number)
        end = self.now + self.rng.expovariate(1 / CALL_MEAN)
        heapq.heappush(self._ends, (end, number, host))
        return True

    def kill(self, host: SimulatedHost) -> None:
        """Take a host away with its calls; ``lost`` has their clients."""
        host.alive = False
        for number in host.calls:
            self.lost.append((number, self._visitors.pop(number)))
        host.calls.clear()
        host.sessions = 0

    def _open_in(self, clusters: list[int]) -> tuple[SimulatedHost, int] | None:
        """Ask hosts as ``Host.open_in`` does, whose own part is left to simulated hosts."""
        asked = 0
        for cluster in clusters:
            tried: set[RemoteHost] = set()
            while (peer := self._peers.choose(cluster, tried)) is not None:
                tried.add(peer)
                asked += 1
                try:
                    _drive(peer.open_session(REQUEST, _ignore))
                except NeighbourError:
                    self.figures.dead_asked += 1
                    continue
                except SignalError:
                    continue
                self.figures.attempts[asked] += 1
                return self._by_peer[peer], cluster
        return None

    def _advance(self, until: float) -> None:
        """Let calls end and hosts tell their state."""
        while self._next_telling <= until:
            self._end_calls(self._next_telling)
            self._tell_some()
        self._end_calls(until)
        self.now = until

    def _end_calls(self, until: float) -> None:
        while self._ends and self._ends[0][0] <= until:
            self.now, number, host = heapq.heappop(self._ends)
            if self._visitors.pop(number, None) is not None:
                host.calls.discard(number)
                host.sessions -= 1

    def _tell_all(self) -> None:
        for host in self.hosts.values():
            self._table.publish(host.member.name, host.state(), self.now)
        self._telling = self._tellings()
        self._next_telling, self._teller = next(self._telling)

    def _tell_some(self) -> None:
        host, self.now = self._teller, self._next_telling
        if host.alive:
            self._table.publish(host.member.name, host.state(), self.now)
        self._next_telling, self._teller = next(self._telling)

    def _tellings(self) -> Iterator[tuple[float, SimulatedHost]]:
        """Every host once a second, each at its own moment."""
        hosts = sorted(self.hosts.values(), key=lambda each: each.told_at)
        second = int(self.now) + 1
        while True:
            for host in hosts:
                yield second + host.told_at, host
            second += 1

    def _clock(self) -> float:
        return self.now


def heard_of_losses(simulation: Simulation) -> float:
    """Return when clients of a host that has died are told: its connections are found dead."""
    return simulation.now + STALE_AFTER


def _drive(opening: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that waits for nothing."""
    try:
        opening.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the simulation does not wait")


def _never(_task: object) -> None:
    raise AssertionError("nothing is connected")


def _ignore(_report: object) -> None:
    pass
