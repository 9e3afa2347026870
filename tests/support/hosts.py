"""Session hosts of several workers in one process, joined by real Unix sockets.

Their sessions are as small as they can be: they record what is done to them.
"""

import itertools
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from attrs import define, field

from edge.fleet.map import FleetKey
from edge.routing.numbers import transceiver_number
from edge.signal.host import Report, SessionRequest, StateReport
from edge.signal.messages import Bye, Error, Layer, LayerState, State
from edge.transceiver.channel import (
    connect_to_neighbour,
    listen_for_neighbours,
    neighbour_paths,
)
from edge.transceiver.federation import Federation
from edge.transceiver.hosting import ForPeers, Host
from edge.transceiver.load import LoadTable, load_table_bytes
from edge.transceiver.neighbours import Neighbour
from edge.transceiver.owning import serve_neighbours
from edge.transceiver.placement import Placement
from edge.transceiver.reports import reports
from edge.transceiver.residents import Residents
from edge.transceiver.session import Ended, EndReason
from edge.transceiver.settings import PeersSettings

CLUSTER = 1


@define(eq=False)
class Owned:
    """A session in its owner."""

    id: str
    report: Report
    answer_sdp: str = "answer"
    restarts: list[str] = field(factory=list)
    failure: Exception | None = None
    ended: EndReason | None = None

    def restart(self, offer_sdp: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.restarts.append(offer_sdp)
        self.answer_sdp = f"answer to {offer_sdp}"
        return self.answer_sdp

    def end(self, reason: EndReason) -> None:
        if self.ended is None:
            self.ended = reason
            for report in reports(Ended(reason), 0.0):
                self.report(report)

    def come_up(self, layer: Layer) -> None:
        self.report(State(layer=layer, state=LayerState.CONNECTED, ms=1.0))


@define(eq=False)
class Permit:
    """An admission."""

    max_duration: float | None = None
    released: int = 0
    withdrawn: int = 0

    def release(self) -> None:
        self.released += 1

    def withdraw(self) -> None:
        self.withdrawn += 1


@define(eq=False)
class Worker:
    """One worker's host, and what a test may do to it."""

    index: int
    placement: Placement
    peers: PeersSettings | None = None
    ahead: float = 0.0
    """How far its clock is."""
    residents: Residents = field(init=False)
    host: Host = field(init=False)
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    hears: trio.Event = field(factory=trio.Event)
    """It looks at the requests of others."""
    sessions: dict[str, Owned] = field(factory=dict)
    requests: list[SessionRequest] = field(factory=list)
    drops: Counter[str] = field(factory=Counter)
    """Of the control channel."""
    federation: Federation | None = None
    failure: Exception | None = None
    admit: Callable[[SessionRequest], Permit | None] = field(default=lambda _: None)

    def make(self, request: SessionRequest, report: Report) -> Owned:
        if self.failure is not None:
            raise self.failure
        number = transceiver_number(self.host_number, self.index)
        session = Owned(f"{self.cluster}.{number}.{next(_numbers)}", report)
        self.requests.append(request)
        self.sessions[session.id] = session
        assert request.sdp
        return session

    @property
    def cluster(self) -> int:
        if self.peers is None or self.peers.fleet.cluster_id is None:
            return CLUSTER
        return self.peers.fleet.cluster_id

    @property
    def host_number(self) -> int:
        return self.peers.fleet.here.number if self.peers is not None else 0

    def let_in(self, request: SessionRequest) -> Permit | None:
        return self.admit(request)

    def now(self) -> float:
        return time.monotonic() + self.ahead

    @property
    def living(self) -> list[Owned]:
        return [each for each in self.sessions.values() if each.ended is None]

    def use_fleet_keys(self, *keys: FleetKey) -> None:
        """Do as the supervisor's order says."""
        assert self.federation is not None
        self.federation.use_keys(list(keys))

    def die(self) -> None:
        """Close all of its connections, as the kernel does for a process that was killed."""
        self.scope.cancel()


_numbers = itertools.count()


@define(eq=False)
class Client:
    """Who takes a session's reports."""

    reports: list[StateReport] = field(factory=list)

    def __call__(self, report: StateReport) -> None:
        self.reports.append(report)

    @property
    def layers(self) -> list[Layer]:
        return [each.layer for each in self.reports if isinstance(each, State)]

    @property
    def last(self) -> str | None:
        """Return the reason of the last word."""
        match self.reports[-1:]:
            case [Bye(reason=reason)]:
                return reason
            case [Error(code=code)]:
                return code
        return None

    async def wait_layers(self, *layers: str) -> None:
        await wait_for(lambda: self.layers == list(layers))

    async def wait_last(self, word: str) -> None:
        await wait_for(lambda: self.last == word)


async def wait_for(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.005)


@asynccontextmanager
async def workers(
    directory: Path,
    number: int = 3,
    *,
    sessions_max: int = 100,
    grace: float = 10.0,
    deaf: frozenset[int] = frozenset(),
    peers: Callable[[int], PeersSettings] | None = None,
) -> AsyncIterator[list[Worker]]:
    """Run so many workers. ``deaf`` ones do not look at the requests of others yet.

    ``peers`` has what the worker of an index gets for other hosts.
    """
    listeners = listen_for_neighbours(directory / "workers", number)
    paths = neighbour_paths(directory / "workers", number)
    table = LoadTable(memoryview(bytearray(load_table_bytes(number))))
    made = []
    async with trio.open_nursery() as nursery:
        for index in range(number):
            placement = Placement(
                table,
                index,
                sessions_max=sessions_max,
                on_time_min=0.98,
                clock=lambda: 0.0,  # so that nobody is stale
            )
            worker = Worker(index, placement, peers(index) if peers is not None else None)
            worker.residents = Residents(
                worker.make, worker.let_in, grace, worker.now, placement.note_sessions
            )
            placement.note_sessions(0)
            made.append(worker)
            if index not in deaf:
                worker.hears.set()
            await nursery.start(_run, worker, paths, listeners[index])
        yield made
        nursery.cancel_scope.cancel()
    for listener in listeners:
        listener.close()


async def _run(
    worker: Worker,
    paths: tuple[str, ...],
    listener: socket.socket,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with worker.scope:
        async with trio.open_nursery() as nursery:
            others = {
                index: Neighbour(partial(connect_to_neighbour, path), nursery.start_soon)
                for index, path in enumerate(paths)
                if index != worker.index
            }
            federation = Federation(worker.peers, is_open=True) if worker.peers else None
            worker.federation = federation
            if federation is not None:
                worker.drops = federation.drops
            worker.host = Host(
                worker.cluster,
                worker.index,
                worker.residents,
                others,
                worker.placement,
                worker.host_number,
                federation.peers(nursery.start_soon) if federation is not None else None,
            )
            if federation is not None:
                await nursery.start(federation.serve, ForPeers(worker.host))
            task_status.started()
            await worker.hears.wait()
            await serve_neighbours(listener, worker.residents, worker.host.check_room)
