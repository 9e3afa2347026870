"""A relay that does not know a flow finds it in a real Redis, and does without when it cannot."""

import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from edge.control.statistics import RedisCounts
from edge.directory import flow_cache
from edge.directory.flow_cache import FlowCache
from edge.directory.flow_entry import Owner
from edge.directory.settings import DirectorySettings
from edge.memory import HeldMemory
from edge.redis.settings import RedisSettings
from edge.relay import Relay, RelaySettings
from edge.routing import frames
from edge.routing.shared import table_bytes
from edge.routing.sockaddr import encode_sockaddr
from tests.integration.test_relay import (
    CLUSTER,
    DTLS,
    KEY,
    MEDIA,
    Bench,
    check_for,
    settle,
    udp_sockets,
)
from tests.support.redis_server import RedisServer, free_port, redis_server

PUBLIC = (("203.0.113.5", 3478),)
"""What clients are told, whichever relay has it."""


def directory(server: RedisServer, **more: Any) -> DirectorySettings:
    redis = RedisSettings((server.address,), connect_timeout=0.5, command_timeout=0.3)
    settings = DirectorySettings(
        redis, prefix="edge:", secrets=((KEY.id, KEY.key),), flow_lifetime=300.0
    )
    return evolve(settings, **more)


@asynccontextmanager
async def relay_with(
    settings: DirectorySettings | None,
    *,
    generation: float = 600.0,
    clients: int = 2,
    after: Bench | None = None,
) -> AsyncIterator[Bench]:
    """Run a relay that has never heard of anybody.

    ``after``: the relay whose clients come to this one, because the public address has moved.
    """
    with (
        udp_sockets("127.0.0.1") as public,
        udp_sockets("127.0.0.1", "127.0.0.1", "127.0.0.1") as (internal, *transceivers),
        udp_sockets(*["127.0.0.1"] * clients) as client_sockets,
        closing(HeldMemory.create("test-flows", table_bytes(10_000))) as memory,
    ):
        relay = Relay(
            RelaySettings(
                index=5,
                cluster=CLUSTER,
                core=None,
                public=tuple(public),
                internal=internal,
                transceivers=tuple(one.getsockname() for one in transceivers),
                keys=(KEY,),
                flows_max=10_000,
                flow_generation=generation,
                flow_memory=memory,
                directory=settings,
                advertised=PUBLIC,
            )
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            callers = client_sockets if after is None else after.clients
            bench = Bench(relay, public, internal, transceivers, callers)
            if settings is not None:
                await wait_until(lambda: counts(bench).state in {"up", "down"})
            yield bench
            nursery.cancel_scope.cancel()


def counts(bench: Bench) -> RedisCounts:
    found = bench.relay.statistics().redis
    assert found is not None
    return found


def events(bench: Bench) -> Counter[str]:
    return Counter(counts(bench).events)


async def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    with trio.fail_after(timeout):
        while not condition():
            await trio.sleep(0.005)


async def confirm(bench: Bench, transceiver: int, client: bytes) -> None:
    before = events(bench)["flow-written"]
    await bench.notify(frames.CONFIRM, transceiver, client)
    await wait_until(lambda: events(bench)["flow-written"] == before + 1)
    await wait_until(lambda: counts(bench).pending == 0)


async def payloads(bench: Bench, transceiver: int, count: int) -> list[bytes]:
    got: list[bytes] = []
    while len(got) < count:
        got += [row.payload for row in (await bench.frame(transceiver)).rows]
    return got


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with redis_server(tmp_path / "redis") as one:
        yield one


async def test_a_flow_that_moves_to_another_relay_goes_on_before_any_check(
    server: RedisServer,
) -> None:
    async with (
        relay_with(directory(server)) as old,
        relay_with(directory(server), after=old) as new,
    ):
        await confirm(old, 1, old.client_address())
        packets = [b"\x80" + bytes((number,)) + bytes(170) for number in range(5)]
        began = time.perf_counter()
        for packet in packets:
            new.send(packet)
        assert await payloads(new, 1, 5) == packets
        print(f"recovered in {(time.perf_counter() - began) * 1e3:.1f} ms")
        new.send(DTLS)
        assert await payloads(new, 1, 1) == [DTLS]
        assert events(new)["redis-asked"] == events(new)["redis-hit"] == 1
        assert not new.relay.drops
        flows = new.relay.statistics().flows[0]
        assert (flows.confirmed, flows.tentative) == (0, 1), "the transceiver has not said so"
        new.send(check_for(1))
        assert (await new.frame(1)).rows[0].flags == frames.UNCONFIRMED
        await confirm(new, 1, new.client_address())
        assert new.relay.statistics().flows[0].confirmed == 1


async def test_a_host_that_is_started_again_finds_its_flows(server: RedisServer) -> None:
    async with relay_with(directory(server)) as old:
        await confirm(old, 0, old.client_address())
        client = old.clients[0].dup()
    async with relay_with(directory(server)) as new:
        with closing(client):
            client.sendto(MEDIA, new.public[0].getsockname())
            assert await payloads(new, 0, 1) == [MEDIA]


async def test_an_unknown_client_is_asked_for_once(server: RedisServer) -> None:
    async with relay_with(directory(server)) as bench:
        for _ in range(3):
            bench.send(MEDIA)
        await wait_until(lambda: events(bench)["redis-miss"] == 1)
        await settle()
        for _ in range(10):
            bench.send(MEDIA)
        await wait_until(lambda: bench.relay.drops["unknown-flow"] == 13)
        assert events(bench)["redis-asked"] == 1
        assert await bench.silent(0)
        assert await bench.silent(1)
        # A check makes the flow, whatever Redis has said.
        bench.send(check_for(0))
        await bench.frame(0)
        bench.send(MEDIA)
        assert await payloads(bench, 0, 1) == [MEDIA]


async def test_a_flow_that_has_ended_is_nowhere(server: RedisServer) -> None:
    async with (
        relay_with(directory(server)) as old,
        relay_with(directory(server), after=old) as new,
    ):
        await confirm(old, 1, old.client_address())
        assert server.ask("DBSIZE") == 1
        await old.notify(frames.RELEASE, 1, old.client_address())
        await wait_until(lambda: server.ask("DBSIZE") == 0)
        assert events(old)["flow-removed"] == 1
        new.send(MEDIA)
        await wait_until(lambda: events(new)["redis-miss"] == 1)
        assert await new.silent(1)


async def test_a_recovered_flow_that_is_nobodys_is_given_up(server: RedisServer) -> None:
    """The transceiver releases it; the next packet does not ask again and again."""
    async with (
        relay_with(directory(server)) as old,
        relay_with(directory(server), after=old) as new,
    ):
        await confirm(old, 1, old.client_address())
        new.send(MEDIA)
        assert await payloads(new, 1, 1) == [MEDIA]
        await new.notify(frames.RELEASE, 1, new.client_address())
        for _ in range(5):
            new.send(MEDIA)
        await wait_until(lambda: new.relay.drops["unknown-flow"] == 5)
        assert events(new)["redis-asked"] == 1
        await wait_until(lambda: server.ask("DBSIZE") == 0)


async def test_others_flows_are_left_alone(server: RedisServer) -> None:
    """A notice about a flow that this relay never had removes nothing."""
    async with (
        relay_with(directory(server)) as old,
        relay_with(directory(server), after=old) as new,
    ):
        await confirm(old, 1, old.client_address())
        await new.notify(frames.RELEASE, 1, old.client_address())
        await new.notify(frames.RELEASE, 0, old.client_address())
        await settle()
        assert server.ask("DBSIZE") == 1


async def test_what_others_write_is_not_believed(server: RedisServer) -> None:
    """Junk, other types, another fleet's and another flow's values: counted, and no frame."""
    stranger = directory(server, secrets=((KEY.id, b"another fleet's!"),))
    async with (
        relay_with(directory(server)) as one,
        relay_with(directory(server), after=one) as two,
        relay_with(stranger, after=one) as other,
    ):
        await confirm(one, 1, one.client_address(0))
        (name,) = keys_in(server)
        value = server.ask("GET", name)
        await confirm(one, 0, one.client_address(1))
        (second,) = set(keys_in(server)) - {name}
        assert isinstance(value, bytes)
        server.ask("SET", second, value)  # one client's flow in another's place
        two.send(MEDIA, client=1)
        await wait_until(lambda: events(two)["entry-forged"] == 1)
        server.ask("SET", name, b"junk" * 1000)
        two.send(MEDIA)
        await wait_until(
            lambda: events(two)["entry-forged"] + events(two)["entry-unknown-key"] == 2
        )
        assert await two.silent(0)
        assert await two.silent(1)
        other.send(MEDIA)
        await wait_until(lambda: events(other)["redis-miss"] == 1)
        server.ask("DEL", name)
        server.ask("RPUSH", name, "a", "b")
        async with relay_with(directory(server), after=one) as three:
            three.send(MEDIA)
            await wait_until(lambda: events(three)["redis-miss"] == 1)
            assert events(three)["redis-wrong-type"] == 1


async def test_a_wrong_type_does_not_keep_a_flow_from_being_written(server: RedisServer) -> None:
    async with (
        relay_with(directory(server)) as old,
        relay_with(directory(server), after=old) as new,
    ):
        await confirm(old, 1, old.client_address())
        (name,) = keys_in(server)
        server.ask("DEL", name)
        server.ask("RPUSH", name, "a")
        await confirm(new, 1, new.client_address())
        assert server.ask("TYPE", name) == b"string"


async def test_used_flows_are_renewed_by_turns(server: RedisServer) -> None:
    """Two generations of 0.3 s in half a lifetime: each flow is written every 0.6 s."""
    settings = directory(server, flow_lifetime=1.2)
    async with relay_with(settings, generation=0.3, clients=20) as bench:
        for client in range(20):
            await bench.notify(frames.CONFIRM, client % 2, bench.client_address(client))
        began = time.monotonic()
        while time.monotonic() - began < 3.0:
            for client in range(20):
                bench.send(MEDIA, client=client)
            await trio.sleep(0.05)
        took = time.monotonic() - began
        renewed = events(bench)["flow-renewed"]
        assert 20 * took / 0.6 * 0.5 <= renewed <= 20 * (took / 0.6 + 2)
        assert server.ask("DBSIZE") == 20
        await trio.sleep(2.2)
        assert server.ask("DBSIZE") == 0, "nobody has used them"


async def test_a_redis_that_has_forgotten_everything_is_told_again(server: RedisServer) -> None:
    settings = directory(server)
    async with relay_with(settings, generation=0.5) as bench:
        await confirm(bench, 1, bench.client_address())
        server.kill()
        server.start()
        await wait_until(lambda: counts(bench).connected == 2)
        assert server.ask("DBSIZE") == 0

        def told() -> bool:
            bench.send(MEDIA)
            return server.ask("DBSIZE") == 1

        await wait_until(told)


async def test_a_full_redis_costs_the_cache_and_nothing_else(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with relay_with(directory(server)) as bench:
        server.ask("CONFIG", "SET", "maxmemory", "1")
        for client in range(2):
            await bench.notify(frames.CONFIRM, 1, bench.client_address(client))
        await wait_until(lambda: events(bench)["write-redis-out-of-memory"] == 2)
        assert counts(bench).refused == "redis-out-of-memory"
        assert counts(bench).state == "up"
        bench.send(MEDIA)
        assert await payloads(bench, 1, 1) == [MEDIA]
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await bench.notify(frames.RELEASE, 1, bench.client_address())
        await confirm_again(bench, 1, bench.client_address())
        assert counts(bench).refused == ""
    lines = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len([line for line in lines if "refused" in line]) == 1


async def confirm_again(bench: Bench, transceiver: int, client: bytes) -> None:
    await bench.notify(frames.CONFIRM, transceiver, client)
    await wait_until(lambda: counts(bench).refused == "")


@pytest.mark.parametrize("how", ["killed", "stopped", "never there"])
async def test_calls_go_on_without_redis(server: RedisServer, how: str) -> None:
    settings = directory(server)
    if how == "never there":
        nowhere = RedisSettings((("127.0.0.1", free_port()),))
        settings = directory(server, redis=nowhere)
    async with relay_with(settings) as bench:
        if how == "killed":
            server.kill()
        elif how == "stopped":
            server.stop()
        bench.send(MEDIA, client=1)  # unknown: nobody can tell
        for number in range(60):
            if number == 0:
                bench.send(check_for(1))
                await bench.frame(1)
                await bench.notify(frames.CONFIRM, 1, bench.client_address())
            bench.send(MEDIA)
            began = time.perf_counter()
            assert await payloads(bench, 1, 1) == [MEDIA]
            assert time.perf_counter() - began < 0.25
            await trio.sleep(0.02)
        await wait_until(lambda: counts(bench).state == "down")
        bench.send(MEDIA, client=1)
        await wait_until(lambda: bench.relay.drops["unknown-flow"] >= 1)
        if how == "stopped":
            server.go_on()
            await wait_until(lambda: counts(bench).state == "up")


async def test_an_answer_that_comes_too_late_brings_the_flow_but_no_old_packets(
    server: RedisServer,
) -> None:
    patient = RedisSettings((server.address,), command_timeout=5.0)
    async with (
        relay_with(directory(server)) as old,
        relay_with(directory(server, redis=patient), after=old) as new,
    ):
        await confirm(old, 1, old.client_address())
        server.stop()
        new.send(MEDIA)
        await trio.sleep(0.1)
        new.send(DTLS)
        await settle()
        server.go_on()
        assert await payloads(new, 1, 1) == [DTLS]
        assert new.relay.drops == {"redis-late": 1}


async def test_keys_rotate(server: RedisServer) -> None:
    """Relays that know both keys find what was written with either."""
    old_key, new_key = (KEY.id, KEY.key), (3, b"n" * 16)
    async with (
        relay_with(directory(server, secrets=(old_key,))) as old,
        relay_with(directory(server, secrets=(new_key, old_key)), after=old) as new,
    ):
        await confirm(old, 1, old.client_address())
        new.send(MEDIA)
        assert await payloads(new, 1, 1) == [MEDIA]


async def test_a_flood_of_unknown_sources_is_bounded_and_cheap(server: RedisServer) -> None:
    """Measured: what an unknown packet costs a relay, the first of its source and the others."""
    costs: dict[str, float] = {}
    for name, settings in (("without Redis", None), ("with Redis", directory(server))):
        async with relay_with(settings) as bench:
            asked = 0.0
            for _ in range(5):
                with plain_sockets(200) as sources:
                    first = await cost_of(bench, sources)
                    costs[f"again, {name}"] = await cost_of(bench, sources)
                    asked += first
                await trio.sleep(0.1)
            costs[f"first, {name}"] = asked / 5
            if settings is not None:
                found = events(bench)
                assert found["redis-asked"] == found["redis-miss"]
                assert 900 <= found["redis-asked"] <= 1000  # a port may come again
    print(", ".join(f"{name}: {cost:.1f} µs" for name, cost in costs.items()))


@contextmanager
def plain_sockets(number: int) -> Iterator[list[socket.socket]]:
    """Open sockets that share their ports with nobody."""
    with ExitStack() as opened:
        made = [
            opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(number)
        ]
        for one in made:
            one.bind(("127.0.0.1", 0))
        yield made


async def cost_of(bench: Bench, sources: list[socket.socket]) -> float:
    """Send one packet from each; return the relay's CPU time for one, answer and all, in µs."""
    before = bench.relay.drops.total()
    for source in sources:
        source.sendto(MEDIA, bench.public[0].getsockname())
    began = time.process_time()
    await wait_until(lambda: bench.relay.drops.total() >= before + len(sources))
    return (time.process_time() - began) / len(sources) * 1e6


def keys_in(server: RedisServer) -> list[bytes]:
    found = server.ask("KEYS", "edge:flow:*")
    assert isinstance(found, list)
    return [each for each in found if isinstance(each, bytes)]


async def test_more_flows_than_may_be_written_at_once_are_all_there_soon(
    server: RedisServer,
) -> None:
    """In seconds, not in half of their lifetime."""
    cache = FlowCache(directory(server), PUBLIC, 15.0, Counter(), lambda *_: None, None)
    flows = [(0, encode_sockaddr(f"10.0.{one >> 8}.{one & 255}", 4000)) for one in range(9_000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.run)
        await wait_until(lambda: cache.counts().state == "up")
        cache.begin_generation()
        for flow in flows:
            cache.renew(flow, Owner(CLUSTER, 1))
        cache.end_generation()
        await wait_until(lambda: server.ask("DBSIZE") == len(flows), timeout=30.0)
        assert cache.counts().events == {"flow-renewed": len(flows)}
        nursery.cancel_scope.cancel()


async def test_flows_that_wait_to_be_written_are_bounded(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_cache, "WRITES_AT_ONCE", 1)
    monkeypatch.setattr(flow_cache, "WRITES_PER_SECOND", 0)
    monkeypatch.setattr(flow_cache, "OWED_MAX", 2)
    cache = FlowCache(directory(server), PUBLIC, 15.0, Counter(), lambda *_: None, None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.run)
        await wait_until(lambda: cache.counts().state == "up")
        for port in range(4_000, 4_005):
            cache.store((0, encode_sockaddr("10.0.0.1", port)), Owner(CLUSTER, 1))
        cache.store((0, encode_sockaddr("10.0.0.1", 4_001)), Owner(CLUSTER, 1))
        assert cache.counts().events == {"flow-written": 1, "write-limited": 2}
        cache.remove((0, encode_sockaddr("10.0.0.1", 4_001)))
        cache.store((0, encode_sockaddr("10.0.0.1", 4_004)), Owner(CLUSTER, 1))
        limited = 3  # with the removal: one that has ended waits no more, and made room
        assert Counter(cache.counts().events)["write-limited"] == limited
        nursery.cancel_scope.cancel()
