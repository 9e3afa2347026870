"""Fleets of hosts in one process: each with its own internal address on loopback.

Their workers are those of ``hosts``; between the hosts are real TCP connections.
"""

import itertools
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import define, evolve, field

from edge.fleet.map import Cluster, FleetKey, FleetMap, Member, Site
from edge.fleet.seal import KeyRing
from edge.fleet.states import STATE_TABLE_BYTES, HostState, StateTable
from edge.memory import HeldMemory
from edge.transceiver.load import host_state
from edge.transceiver.settings import PeersSettings
from edge.transceiver.speaking import tell_peers
from tests.support.hosts import Worker, workers

KEY, NEXT_KEY = FleetKey(1, bytes(range(32))), FleetKey(2, bytes(range(32, 64)))
SITE = Site("here", "", 50.0, 8.0)
CLUSTERS = (Cluster(1, "one", SITE), Cluster(2, "two", SITE))

_nets = itertools.count(os.getpid())


def fleet_of(*clusters: int | None, port: int = 0) -> list[FleetMap]:
    """Return the map of each host; ``clusters`` are theirs, None for one that only relays."""
    net = next(_nets) % 250
    taken = dict.fromkeys((1, 2), 0)
    members = []
    for index, each in enumerate(clusters):
        cluster = CLUSTERS[each - 1] if each is not None else None
        number = 0
        if each is not None:
            number, taken[each] = taken[each], taken[each] + 1
        address = f"127.77.{net}.{index + 1}"
        members.append(Member(f"host{index}", SITE, cluster, number, address))
    port = port or free_port(members[0].internal)
    return [FleetMap(each, tuple(members), CLUSTERS, (SITE,), 3500, 3600, port) for each in members]


def free_port(address: str) -> int:
    with socket.socket() as one:
        one.bind((address, 0))
        port: int = one.getsockname()[1]
        return port


def listen(fleet: FleetMap) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(fleet.control_address(fleet.here))
    listener.listen(64)
    return listener


@define(eq=False)
class FleetHost:
    """One host, and what a test may do to it."""

    fleet: FleetMap
    workers: list[Worker]
    states: StateTable
    ring: KeyRing
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    gone: trio.Event = field(factory=trio.Event)

    @property
    def name(self) -> str:
        return self.fleet.here.name

    def state(self) -> HostState:
        return self.workers[0].placement.of_host()

    def knows(self, name: str) -> HostState | None:
        return self.states.read(name, time.monotonic())

    async def die(self) -> None:
        self.scope.cancel()
        await self.gone.wait()

    async def wait_knows(self, *names: str) -> None:
        with trio.fail_after(10):
            while not all(self.knows(name) for name in names):
                await trio.sleep(0.02)


@asynccontextmanager
async def fleet_hosts(
    directory: Path,
    *clusters: int,
    workers_each: int = 1,
    sessions_max: int = 100,
    keys: Sequence[FleetKey] = (KEY,),
) -> AsyncIterator[list[FleetHost]]:
    """Run a fleet whose hosts know each other."""
    made: list[FleetHost] = []
    async with trio.open_nursery() as nursery:
        fleets = fleet_of(*clusters)
        doors = [[listen(fleet) for _ in range(workers_each)] for fleet in fleets]
        for fleet, listeners in zip(fleets, doors, strict=True):
            host: FleetHost = await nursery.start(
                run_host, directory, fleet, listeners, sessions_max, tuple(keys)
            )
            made.append(host)
        for host in made:
            await host.wait_knows(*(each.name for each in host.fleet.peers))
        yield made
        nursery.cancel_scope.cancel()


async def run_host(
    directory: Path,
    fleet: FleetMap,
    listeners: list[socket.socket],
    sessions_max: int,
    keys: tuple[FleetKey, ...],
    *,
    task_status: trio.TaskStatus[FleetHost] = trio.TASK_STATUS_IGNORED,
) -> None:
    memory = HeldMemory.create("states", STATE_TABLE_BYTES)
    common = PeersSettings(fleet, keys, memory, ())
    host = FleetHost(fleet, [], StateTable(memory.map()), KeyRing(keys))
    try:
        with host.scope:
            async with (
                workers(
                    directory / fleet.here.name,
                    len(listeners),
                    sessions_max=sessions_max,
                    peers=lambda index: evolve(common, listeners=(listeners[index],)),
                ) as host.workers,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(tell_peers, fleet, host.ring, host.state)
                task_status.started(host)
                await trio.sleep_forever()
    finally:
        for each in listeners:
            each.close()
        memory.close()
        host.gone.set()


__all__ = ["KEY", "NEXT_KEY", "FleetHost", "fleet_hosts", "fleet_of", "host_state", "run_host"]
