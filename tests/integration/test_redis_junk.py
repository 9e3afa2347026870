"""Whatever somebody puts among the hosts in Redis: looking for flows does not suffer from it."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, evolve, field

from edge.control.statistics import RedisCounts
from edge.directory import reading, registering
from edge.directory.flow_cache import FlowCache
from edge.directory.flow_entry import Owner
from edge.directory.host_entry import HostName, SlotLoad
from edge.directory.registering import Registrar, Registration
from edge.directory.settings import DirectorySettings
from edge.directory.unknown import Flow, Meeting
from edge.redis.settings import RedisSettings
from edge.routing.sockaddr import encode_sockaddr
from tests.support.redis_server import RedisServer, redis_server

PUBLIC = (("203.0.113.5", 3478),)
HERE = Registration(HostName(7, 2), "10.0.0.2", 3500)
THERE = Registration(HostName(7, 3), "10.0.0.3", 3500)
OWNER = Owner(7, 0x200)
HUGE = b"x" * 5_000_000


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with redis_server(tmp_path / "redis") as one:
        yield one


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are long in a test."""
    monkeypatch.setattr(reading, "READ_INTERVAL", 0.1)
    monkeypatch.setattr(reading, "LIST_PAUSE", 0.5)
    monkeypatch.setattr(registering, "HEARTBEAT", 0.1)


def settings(server: RedisServer) -> DirectorySettings:
    redis = RedisSettings((server.address,), connect_timeout=5.0, command_timeout=5.0)
    return DirectorySettings(redis, prefix="edge:", secrets=((1, bytes(32)),), flow_lifetime=300.0)


@define
class Worker:
    """A relay worker's cache, and what it was told."""

    cache: FlowCache
    recalled: list[Flow] = field(factory=list)
    places: Mapping[Any, Any] = field(factory=dict)

    def counts(self) -> RedisCounts:
        return self.cache.counts()

    async def find(self, flow: Flow) -> None:
        """Ask for a flow that is in Redis, and get it."""
        meeting = self.cache.meet(flow, memoryview(b"\x80 media"), time.monotonic())
        assert meeting is Meeting.ASK, f"{meeting}, lost: {self.counts().lost}"
        await wait_until(lambda: flow in self.recalled)


@asynccontextmanager
async def worker(server: RedisServer) -> AsyncIterator[Worker]:
    def recall(*found: Any) -> None:
        flow, owner, _ = found
        assert owner == OWNER
        one.recalled.append(flow)

    def register(places: Mapping[Any, Any]) -> None:
        one.places = dict(places)

    one = Worker(FlowCache(settings(server), PUBLIC, 600.0, Counter(), recall, register))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.cache.run)
        await wait_until(lambda: one.counts().state == "up")
        yield one
        nursery.cancel_scope.cancel()


@define
class Host:
    """A registered host, whose workers change."""

    slots: list[int]

    def loads(self) -> list[SlotLoad]:
        return [SlotLoad(slot, 5, 100, 1.0, draining=False) for slot in self.slots]

    @asynccontextmanager
    async def registered(self, server: RedisServer, as_: Registration) -> AsyncIterator[None]:
        registrar = Registrar(settings(server), as_, self.loads)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registrar.run)
            yield
            nursery.cancel_scope.cancel()


async def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    with trio.fail_after(timeout):
        while not condition():
            await trio.sleep(0.005)


def a_hundred_thousand_fields(server: RedisServer) -> None:
    for first in range(0, 100_000, 10_000):
        fields = [part for n in range(first, first + 10_000) for part in (f"9.{n}", "junk")]
        server.ask("HSET", "edge:hosts", *fields)


def four_thousand_entries(server: RedisServer) -> None:
    fields = [(f"{n}.1", b"\1" + b"x" * 700) for n in range(4_000)]
    server.ask("HSET", "edge:hosts", *(part for pair in fields for part in pair))


JUNK: dict[str, tuple[Callable[[RedisServer], object], str]] = {
    "huge field": (lambda one: one.ask("HSET", "edge:hosts", "junk", HUGE), "entry-malformed"),
    "huge entry": (lambda one: one.ask("HSET", "edge:hosts", "7.9", HUGE), "entry-too-long"),
    "many": (four_thousand_entries, "entry-forged"),
    "far too many": (a_hundred_thousand_fields, "entry-too-many"),
    "huge name": (lambda one: one.ask("HSET", "edge:hosts", HUGE, "x"), "redis-reply-too-long"),
}
"""What is put there, and as what it is counted."""
HIDES_NEW_HOSTS = {"far too many", "huge name"}


@pytest.mark.parametrize("kind", JUNK)
async def test_junk_among_the_hosts_costs_no_look_up(server: RedisServer, kind: str) -> None:
    """And those hosts that are known are read all the same."""
    put, counted_as = JUNK[kind]
    flows = [(0, encode_sockaddr("192.0.2.7", port)) for port in range(4000, 4060)]
    here, there = Host([0]), Host([0])
    async with worker(server) as writer, worker(server) as one, here.registered(server, HERE):
        for flow in flows:
            writer.cache.store(flow, OWNER)
        await wait_until(lambda: writer.counts().pending == 0)
        await wait_until(lambda: set(one.places) == {(7, 0x200)})
        put(server)
        await wait_until(lambda: one.counts().distrusted.get(counted_as, 0) >= 1)
        for flow in flows:
            await one.find(flow)
            await trio.sleep(0.02)
        here.slots = [0, 4]
        await wait_until(lambda: set(one.places) == {(7, 0x200), (7, 0x204)})
        async with there.registered(server, THERE):
            if kind in HIDES_NEW_HOSTS:
                server.ask("DEL", "edge:hosts")  # what operators are told to do
            await wait_until(lambda: set(one.places) == {(7, 0x200), (7, 0x204), (7, 0x300)})
        found = one.counts()
        assert (found.connected, found.lost) == (1, {}), "the flows' connection"


async def test_a_wrong_type_among_the_hosts_costs_no_look_up(server: RedisServer) -> None:
    flow = (0, encode_sockaddr("192.0.2.7", 4000))
    async with worker(server) as one:
        one.cache.store(flow, OWNER)
        server.ask("RPUSH", "edge:hosts", *["x" * 1000] * 1000)
        await wait_until(lambda: one.counts().distrusted.get("redis-wrong-type", 0) >= 2)
        await one.find(flow)
        assert (one.counts().connected, one.counts().lost) == (1, {})


@pytest.mark.parametrize("key_count", [1, 3])
async def test_junk_in_the_place_of_a_flow_costs_its_look_up_alone(
    server: RedisServer, key_count: int
) -> None:
    secrets = tuple((number, bytes(32)) for number in range(1, key_count + 1))
    good, bad = [(0, encode_sockaddr("192.0.2.7", port)) for port in (4000, 4001)]
    recalled: list[Flow] = []
    cache = FlowCache(
        evolve(settings(server), secrets=secrets),
        PUBLIC,
        600.0,
        drops := Counter[str](),
        lambda *found: recalled.append(found[0]),
        None,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.run)
        await wait_until(lambda: cache.counts().state == "up")
        cache.store(bad, OWNER)
        await wait_until(lambda: cache.counts().pending == 0)
        keys = server.ask("KEYS", "edge:flow:*")
        assert isinstance(keys, list)
        server.ask("SET", keys[0], HUGE)
        cache.store(good, OWNER)
        for _ in range(20):
            cache.meet(bad, memoryview(b"\x80 media"), time.monotonic())
            await trio.sleep(0.05)
        assert cache.meet(good, memoryview(b"\x80 media"), time.monotonic()) is Meeting.ASK
        await wait_until(lambda: recalled == [good])
        counts = cache.counts()
        assert (counts.connected, counts.lost) == (1, {})
        assert counts.events["redis-asked"] == 2, "what is junk is not asked for again soon"
        assert counts.events["redis-miss"] == 1
        assert drops["unknown-flow"] >= 1
        nursery.cancel_scope.cancel()
