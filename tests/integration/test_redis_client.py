"""The Redis client against real servers: every way in, and every way in which they fail."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from edge.errors import StoreError
from edge.redis.client import RedisClient, State
from edge.redis.resp import Reply
from edge.redis.settings import RedisSettings, RedisTls
from tests.support.redis_server import RedisServer, free_port, make_certificates, redis_server

DOCUMENT = Path(__file__).parents[2] / "docs" / "redis.md"
ACL_LINES = tuple(
    line.replace("PASSWORD", "secret")
    for line in DOCUMENT.read_text().splitlines()
    if line.startswith("user ")
)
"""As operators are told to have them."""
QUICK = {"connect_timeout": 0.5, "command_timeout": 0.3}


@asynccontextmanager
async def running(settings: RedisSettings) -> AsyncIterator[RedisClient]:
    client = RedisClient(settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        yield client
        nursery.cancel_scope.cancel()


async def wait_until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    with trio.fail_after(timeout):
        while not condition():
            await trio.sleep(0.01)


def quick(*servers: RedisServer, **more: object) -> RedisSettings:
    return RedisSettings(tuple(each.address for each in servers), **{**QUICK, **more})  # type: ignore[arg-type]


async def test_commands_are_answered_in_a_pipeline(tmp_path: Path) -> None:
    with redis_server(tmp_path / "one") as server:
        async with running(quick(server, database=3)) as client:
            await wait_until(lambda: client.is_up)
            got = list[Reply]()
            for number in range(1000):
                client.submit(got.append, "SET", f"edge:{number}", number)
            assert await client.call("MGET", "edge:1", "nothing", "edge:999") == [
                b"1",
                None,
                b"999",
            ]
            assert got == [b"OK"] * 1000
            assert client.statistics().state is State.UP
            assert client.statistics().server == f"127.0.0.1:{server.port}"
        assert not client.is_up
        assert server.ask("DBSIZE") == 0
        with pytest.raises(StoreError, match="redis-down"):
            client.submit(None, "PING")


async def test_an_acl_user_may_do_what_it_needs_and_no_more(tmp_path: Path) -> None:
    with redis_server(tmp_path / "one", *ACL_LINES) as server:
        settings = quick(server, user="edge", password="secret", database=2)
        assert "secret" not in repr(settings)
        async with running(settings) as client:
            await wait_until(lambda: client.is_up)
            assert await client.call("SET", "edge:flow:x", "1", "EX", 5) == b"OK"
            assert await client.call("GETRANGE", "edge:flow:x", 0, 26) == b"1"
            assert await client.call("DEL", "edge:flow:x") == 1
            assert await client.call("HSET", "edge:hosts", "1.0", "x") == 1
            assert await client.call("EXPIRE", "edge:hosts", 600) == 1
            assert await client.call("HLEN", "edge:hosts") == 1
            assert await client.call("HKEYS", "edge:hosts") == [b"1.0"]
            assert await client.call("HSTRLEN", "edge:hosts", "1.0") == 1
            assert await client.call("HMGET", "edge:hosts", "1.0", "2.0") == [b"x", None]
            assert await client.call("HDEL", "edge:hosts", "1.0") == 1
            assert isinstance(await client.call("ROLE"), list)
            for command in (("SET", "other", "1"), ("KEYS", "*"), ("FLUSHALL",)):
                with pytest.raises(StoreError) as caught:
                    await client.call(*command)
                assert caught.value.reason == "redis-denied"
            assert client.connected == 1


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_a_wrong_password_is_told_without_it(
    tmp_path: Path, password: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path / "one", *ACL_LINES) as server:
        async with running(quick(server, user="edge", password=password)) as client:
            await wait_until(lambda: client.statistics().lost.get("redis-denied", 0) >= 3)
            assert not client.is_up
        warnings = [each for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "redis-denied" in warnings[0].getMessage()
        assert "wrong" not in warnings[0].getMessage().replace("WRONGPASS", "")


async def test_tls_needs_the_right_authority_and_the_right_name(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates", "redis.test")
    other = make_certificates(tmp_path / "others", "redis.test")
    with redis_server(tmp_path / "one", *made.redis_lines, tls=True) as server:
        good = RedisTls(str(made.ca), "redis.test")
        async with running(quick(server, tls=good)) as client:
            await wait_until(lambda: client.is_up)
            big = b"x" * 300_000
            assert await client.call("SET", "edge:big", big) == b"OK"
            assert await client.call("MGET", "edge:big") == [big]
        for bad in (RedisTls(str(made.ca), "other.test"), RedisTls(str(other.ca), "redis.test")):
            async with running(quick(server, tls=bad)) as client:
                await wait_until(lambda: bool(client.statistics().lost))
                assert client.statistics().lost.keys() == {"redis-untrusted"}
        async with running(quick(server)) as client:  # no TLS at all
            await wait_until(lambda: bool(client.statistics().lost))
            assert not client.is_up


async def test_a_missing_authority_can_come_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_certificates(tmp_path / "certificates", "redis.test")
    ca = tmp_path / "later.pem"
    with redis_server(tmp_path / "one", *made.redis_lines, tls=True) as server:
        async with running(quick(server, tls=RedisTls(str(ca), "redis.test"))) as client:
            await wait_until(lambda: client.statistics().lost.get("redis-untrusted", 0) >= 1)
            assert "later.pem: no usable certificates" in caplog.text
            ca.write_bytes(made.ca.read_bytes())
            await wait_until(lambda: client.is_up)


async def test_a_killed_server_is_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with redis_server(tmp_path / "one") as server:
        async with running(quick(server)) as client:
            await wait_until(lambda: client.is_up)
            server.kill()
            await wait_until(lambda: not client.is_up)
            with pytest.raises(StoreError, match="redis-down"):
                await client.call("PING")
            server.start()
            await wait_until(lambda: client.is_up)
            assert await client.call("PING") == b"PONG"
            assert client.connected == 2
    lines = [each.getMessage() for each in caplog.records if each.name == "edge.redis.client"]
    assert [line.split(":")[0] for line in lines[:1]] == ["Redis at 127.0.0.1"]
    assert len(lines) == 3, lines  # connected, lost, connected


async def test_a_stopped_server_is_given_up_in_time_and_waiters_are_told(tmp_path: Path) -> None:
    with redis_server(tmp_path / "one") as server:
        async with running(quick(server)) as client:
            await wait_until(lambda: client.is_up)
            server.stop()
            began = time.monotonic()
            with pytest.raises(StoreError, match="no reply"):
                await client.call("PING")
            assert time.monotonic() - began < 2
            assert not client.is_up
            await wait_until(lambda: client.statistics().lost.get("redis-timeout", 0) >= 2)
            server.go_on()
            await wait_until(lambda: client.is_up)
            assert await client.call("PING") == b"PONG"


async def test_commands_to_a_deaf_server_are_bounded(tmp_path: Path) -> None:
    with redis_server(tmp_path / "one") as server:
        async with running(quick(server)) as client:
            await wait_until(lambda: client.is_up)
            server.stop()
            got, refused = list[Reply](), 0
            for _ in range(20_000):
                try:
                    client.submit(got.append, "SET", "edge:k", "v")
                except StoreError as exc:
                    assert exc.reason == "redis-busy"  # noqa: PT017
                    refused += 1
            assert refused == 20_000 - 8_192
            await wait_until(lambda: len(got) == 8_192)
            assert {each.reason for each in got if isinstance(each, StoreError)} == {
                "redis-timeout"
            }


async def test_a_replica_in_the_list_is_passed_over(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "one") as master,
        redis_server(tmp_path / "two", f"replicaof 127.0.0.1 {master.port}") as replica,
    ):
        async with running(quick(replica, master)) as client:
            await wait_until(lambda: client.is_up)
            assert client.statistics().server == f"127.0.0.1:{master.port}"
            # They change roles: the first refused write says so.
            replica.ask("REPLICAOF", "NO", "ONE")
            master.ask("REPLICAOF", "127.0.0.1", replica.port)
            await wait_until(lambda: master.ask("ROLE")[0] == b"slave")  # type: ignore[index]
            with pytest.raises(StoreError, match="READONLY"):
                await client.call("SET", "edge:x", "1")
            there = f"127.0.0.1:{replica.port}"
            await wait_until(lambda: client.statistics().server == there)
            assert await client.call("SET", "edge:x", "1") == b"OK"


async def test_a_server_that_is_none_is_not_believed() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer, 0)
        port = listeners[0].socket.getsockname()[1]
        async with running(RedisSettings((("127.0.0.1", port),))) as client:
            await wait_until(lambda: client.statistics().lost.get("redis-protocol", 0) >= 1)
        nursery.cancel_scope.cancel()


async def test_nobody_there_is_no_reason_to_hurry() -> None:
    settings = RedisSettings((("127.0.0.1", free_port()), ("no-such-host.invalid", 6379)))
    async with running(settings) as client:
        await trio.sleep(1.5)
        tries = client.statistics().lost.get("redis-unreachable", 0)
        tries += client.statistics().lost.get("redis-timeout", 0)
        assert tries <= 8


async def test_sentinels_lead_to_the_new_master(tmp_path: Path) -> None:
    """Two servers, one Sentinel: the master is killed, and the client follows."""
    with (
        redis_server(tmp_path / "one") as master,
        redis_server(
            tmp_path / "two", f"replicaof 127.0.0.1 {master.port}", "repl-diskless-sync-delay 0"
        ) as replica,
    ):
        await wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))  # type: ignore[operator]
        with redis_server(
            tmp_path / "sentinel",
            f"sentinel monitor edge 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds edge 500",
            "sentinel failover-timeout edge 2000",
            sentinel=True,
        ) as sentinel:
            # It learns of the replica from the master.
            await wait_until(lambda: bool(sentinel.ask("SENTINEL", "REPLICAS", "edge")))
            settings = quick(sentinel, sentinel="edge")
            async with running(settings) as client:
                await wait_until(lambda: client.is_up)
                assert client.statistics().server == f"127.0.0.1:{master.port}"
                assert await client.call("SET", "edge:x", "1") == b"OK"
                await wait_until(lambda: replica.ask("GET", "edge:x") == b"1")
                began = time.monotonic()
                master.kill()
                await wait_until(lambda: not client.is_up)
                await wait_until(lambda: client.is_up, 40)
                print(f"failover: {time.monotonic() - began:.1f} s")
                assert client.statistics().server == f"127.0.0.1:{replica.port}"
                assert await client.call("MGET", "edge:x") == [b"1"]
                assert await client.call("SET", "edge:x", "2") == b"OK"
            async with running(quick(sentinel, sentinel="other")) as client:
                await wait_until(lambda: client.statistics().lost.get("redis-not-master", 0) >= 1)
