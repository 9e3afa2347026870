"""Hosts that register themselves in a real Redis, and those who read it: truth, junk, losses."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from edge.control.status import RegistrationStatus
from edge.directory import reading, registering
from edge.directory.host_entry import HostEntry, HostName, SlotLoad, encode_host
from edge.directory.hosts import HOSTS_MAX, HostDirectory
from edge.directory.reading import read_hosts
from edge.directory.registering import Registrar, Registration
from edge.directory.settings import DirectorySettings
from edge.directory.signing import Signer
from edge.redis.client import RedisClient
from edge.redis.settings import RedisSettings
from tests.support.redis_server import RedisServer, redis_server

SECRET, STRANGER = (1, b"f" * 32), (1, b"x" * 32)
HERE = Registration(HostName(7, 2), "10.0.0.2", 3500)
LOADS = [SlotLoad(0, 5, 100, 1.0, draining=False), SlotLoad(3, 0, 100, 1.0, draining=True)]
PLACES = {(7, 0x200): ("10.0.0.2", 3500), (7, 0x203): ("10.0.0.2", 3503)}


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with redis_server(tmp_path / "redis") as one:
        yield one


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are long in a test."""
    monkeypatch.setattr(reading, "READ_INTERVAL", 0.1)
    monkeypatch.setattr(registering, "HEARTBEAT", 0.1)


def settings(server: RedisServer, secret: tuple[int, bytes] = SECRET) -> DirectorySettings:
    redis = RedisSettings((server.address,), connect_timeout=0.5, command_timeout=0.3)
    return DirectorySettings(redis, prefix="edge:", secrets=(secret,), flow_lifetime=300.0)


@define
class Reader:
    directory: HostDirectory
    client: RedisClient
    places: Mapping[Any, Any] = field(factory=dict)
    changes: int = 0

    def take(self, places: Mapping[Any, Any]) -> None:
        self.places = places
        self.changes += 1


@asynccontextmanager
async def reader(server: RedisServer) -> AsyncIterator[Reader]:
    terms = settings(server)
    client = RedisClient(terms.redis)
    one = Reader(HostDirectory(Signer.of(terms.secrets), terms.hosts_place), client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        nursery.start_soon(read_hosts, client, terms.hosts_place, one.directory, one.take)
        yield one
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def registered(
    server: RedisServer, secret: tuple[int, bytes] = SECRET, host: Registration = HERE
) -> AsyncIterator[Registrar]:
    registrar = Registrar(settings(server, secret), host, lambda: LOADS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registrar.run)
        yield registrar
        nursery.cancel_scope.cancel()


async def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    with trio.fail_after(timeout):
        while not condition():
            await trio.sleep(0.01)


def status(registrar: Registrar) -> RegistrationStatus:
    return registrar.status()


async def test_a_host_is_found_with_all_its_workers(server: RedisServer) -> None:
    async with reader(server) as one, registered(server) as host:
        await wait_until(lambda: one.places == PLACES)
        written = status(host).written
        await wait_until(lambda: status(host).written > written + 3)
        assert one.changes == 1, "the same is not told again"
        await host.withdraw()
        assert server.ask("HLEN", "edge:hosts") == 0
        await trio.sleep(0.3)
        assert server.ask("HLEN", "edge:hosts") == 0, "and it is not written again"


async def some_beats(registrar: Registrar) -> None:
    written = status(registrar).written
    await wait_until(lambda: status(registrar).written > written + 3)


async def test_two_hosts_of_one_number_find_out(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As when their lists of hosts differ. Both go on, and both say so: once, not at every beat."""
    twin = Registration(HERE.name, "10.0.0.9", 3500)
    async with registered(server) as host:
        await wait_until(lambda: status(host).written > 3)
        assert (status(host).contested, status(host).rival) == (0, "")
        async with registered(server, host=twin) as other:
            await wait_until(lambda: min(status(one).contested for one in (host, other)) > 3)
        assert "10.0.0.9" in caplog.text
        assert "10.0.0.2" in caplog.text
        assert len([line for line in caplog.messages if "as well" in line]) == 2
        contested = status(host).contested
        await wait_until(lambda: not status(host).rival)
        assert status(host).contested <= contested + 1, "the other's last word is replaced"


async def test_an_address_is_the_same_however_it_is_written(server: RedisServer) -> None:
    host = Registration(HERE.name, "FD00:0::02", 3500)
    async with registered(server, host=host) as one:
        await wait_until(lambda: status(one).written > 3)
        assert status(one).contested == 0


async def test_a_host_that_has_moved_is_not_its_own_rival(server: RedisServer) -> None:
    former = Registration(HERE.name, "10.0.0.9", 3500)
    async with registered(server, host=former) as host:
        await wait_until(lambda: status(host).written > 0)
    async with registered(server) as host:
        await wait_until(lambda: status(host).written > 3)
        assert status(host).contested == 0


async def test_what_is_no_fresh_entry_of_a_member_is_no_rival(server: RedisServer) -> None:
    twin = Registration(HERE.name, "10.0.0.9", 3500)
    terms, name = settings(server), HERE.name.field
    old = HostEntry(twin.name, twin.internal, twin.frame_port, (), time.time() - 60)
    async with registered(server) as host, registered(server, STRANGER, twin) as stranger:
        for value in (
            encode_host(Signer.of(terms.secrets), terms.hosts_place, old),
            b"\0" * 40,
            b"\0" * 1_000_000,
            "",
        ):
            await wait_until(lambda: status(stranger).written > 3)
            server.ask("HSET", "edge:hosts", name, value)
            await some_beats(host)
        assert status(host).contested == 0
        assert host.status().state == "up"
        server.ask("DEL", "edge:hosts")
        server.ask("SET", "edge:hosts", "a string")
        await wait_until(lambda: status(host).refused == "redis-wrong-type")
        server.ask("DEL", "edge:hosts")
        await wait_until(lambda: status(host).refused == "")
        assert status(host).contested == 0


async def test_a_stranger_leads_nobody_astray(server: RedisServer) -> None:
    stranger = Registration(HostName(7, 9), "203.0.113.66", 3500)
    async with (
        reader(server) as one,
        registered(server),
        registered(server, STRANGER, stranger),
    ):
        await wait_until(lambda: one.places == PLACES)
        await wait_until(lambda: one.directory.drops["entry-forged"] >= 2)
        value = server.ask("HGET", "edge:hosts", "7.2")
        assert isinstance(value, bytes)
        server.ask("HSET", "edge:hosts", "7.5", value)  # another host's entry
        server.ask("HSET", "edge:hosts", "junk", b"\0" * 200)
        before = one.directory.drops["entry-forged"] + one.directory.drops["entry-unknown-key"]
        await wait_until(
            lambda: (
                one.directory.drops["entry-forged"] + one.directory.drops["entry-unknown-key"]
                > before + 4
            )
        )
        assert one.places == PLACES


async def test_too_many_entries_are_not_even_read(server: RedisServer) -> None:
    async with reader(server) as one, registered(server):
        await wait_until(lambda: one.places == PLACES)
        fields = [part for number in range(HOSTS_MAX + 1) for part in (f"x{number}", "junk")]
        server.ask("HSET", "edge:hosts", *fields)
        await wait_until(lambda: one.directory.drops["entry-too-many"] >= 2)
        assert one.client.is_up
        assert one.places == PLACES, "what was known stays"
        server.ask("DEL", "edge:hosts")
        drops = one.directory.drops["entry-too-many"]
        await trio.sleep(0.3)
        assert one.directory.drops["entry-too-many"] <= drops + 1


async def test_a_known_hosts_entry_that_turns_huge_costs_one_connection(
    server: RedisServer,
) -> None:
    other = Registration(HostName(7, 3), "10.0.0.3", 3500)
    async with reader(server) as one:
        async with registered(server):
            await wait_until(lambda: one.places == PLACES)
        server.ask("HSET", "edge:hosts", "7.2", b"x" * 5_000_000)
        await wait_until(lambda: one.directory.drops["redis-reply-too-long"] == 1)
        await wait_until(lambda: one.directory.drops["entry-too-long"] >= 3)
        async with registered(server, host=other):
            await wait_until(lambda: (7, 0x300) in one.places)
        assert one.client.statistics().lost == {"redis-reply-too-long": 1}
        assert (7, 0x200) in one.places, "what was known stays, until it is too old"


async def test_names_that_are_too_long_are_not_listed_again_and_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reader(server) as one, registered(server):
        await wait_until(lambda: one.places == PLACES)
        server.ask("HSET", "edge:hosts", b"x" * 5_000_000, "junk")
        await wait_until(lambda: one.directory.drops["redis-reply-too-long"] >= 5)
        assert one.client.statistics().lost == {"redis-reply-too-long": 1}
        monkeypatch.setattr(reading, "LIST_PAUSE", 0.0)
        server.ask("DEL", "edge:hosts")
        other = Registration(HostName(7, 3), "10.0.0.3", 3500)
        async with registered(server, host=other):
            await wait_until(lambda: (7, 0x300) in one.places)
        assert (7, 0x200) in one.places


async def test_a_wrong_type_is_told_and_takes_nothing_away(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with reader(server) as one, registered(server) as host:
        await wait_until(lambda: one.places == PLACES)
        server.ask("SET", "edge:hosts", "junk")
        await wait_until(lambda: one.directory.drops["redis-wrong-type"] >= 3)
        await wait_until(lambda: status(host).refused == "redis-wrong-type")
        assert one.places == PLACES
        server.ask("DEL", "edge:hosts")
        await wait_until(lambda: status(host).refused == "")
    lines = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len([line for line in lines if "cannot be read" in line]) == 1
    assert len([line for line in lines if "cannot be registered" in line]) == 1


async def test_a_dead_redis_takes_nothing_away(server: RedisServer) -> None:
    async with reader(server) as one, registered(server) as host:
        await wait_until(lambda: one.places == PLACES)
        server.kill()
        await wait_until(lambda: not one.client.is_up and status(host).state == "down")
        await trio.sleep(0.5)
        assert one.places == PLACES
        server.start()
        written = status(host).written
        await wait_until(lambda: status(host).written > written)
        await wait_until(lambda: server.ask("HLEN", "edge:hosts") == 1)
        assert one.places == PLACES
