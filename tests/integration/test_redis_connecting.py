"""Ways into Redis that cannot work: the client says so, without secrets, and goes on trying."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from edge.redis.client import RedisClient
from edge.redis.settings import RedisSettings, RedisTls
from tests.support.redis_server import make_certificates, redis_server

PASSWORD = "hunter2-battery-staple"
PONG = b"+PONG\r\n"
ECHO = b"-ERR unknown command, with args beginning with: '%b' \r\n" % PASSWORD.encode()
BARE_ECHO = b"-%b\r\n" % PASSWORD.encode()


@asynccontextmanager
async def running(settings: RedisSettings) -> AsyncIterator[RedisClient]:
    client = RedisClient(settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        yield client
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[str, int]]:
    """Serve what says this to everything."""

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(listen)
        yield listener.socket.getsockname()
        nursery.cancel_scope.cancel()


async def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    with trio.fail_after(timeout):
        while not condition():
            await trio.sleep(0.01)


@pytest.mark.parametrize("user", [None, "edge"])
async def test_a_server_without_auth_does_not_bring_the_password_into_the_log(
    tmp_path: Path, user: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis quotes the arguments of a command that it does not know."""
    with redis_server(tmp_path / "one", 'rename-command AUTH ""') as server:
        settings = RedisSettings((server.address,), user=user, password=PASSWORD)
        async with running(settings) as client:
            await wait_until(lambda: client.statistics().lost.get("redis-refused", 0) >= 2)
    assert "AUTH is refused" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("reply", [ECHO, BARE_ECHO, b"+OK\r\n" + ECHO, b":1\r\n" + BARE_ECHO])
@pytest.mark.parametrize("sentinel", [None, "edge"])
async def test_no_reply_brings_the_password_into_the_log(
    reply: bytes, sentinel: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even one that comes in another's place."""
    async with answering(reply * 2) as address:
        password = {"sentinel_password" if sentinel else "password": PASSWORD}
        settings = RedisSettings((address,), sentinel=sentinel, **password)  # type: ignore[arg-type]
        async with running(settings) as client:
            await wait_until(lambda: client.statistics().lost.get("redis-refused", 0) >= 2)
    assert "is refused" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("name", [".x", "x..y", "a" * 70, "a\0b", ""])
async def test_a_name_that_no_certificate_has_is_a_failure_like_others(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_certificates(tmp_path / "certificates", "redis.test")
    with redis_server(tmp_path / "one", *made.redis_lines, tls=True) as server:
        settings = RedisSettings((server.address,), tls=RedisTls(str(made.ca), name))
        async with running(settings) as client:
            await wait_until(lambda: client.statistics().lost.get("redis-untrusted", 0) >= 2)
            assert client.statistics().lost.keys() == {"redis-untrusted"}
    assert "redis-untrusted" in caplog.text


@pytest.mark.parametrize("size", [3_000, 300_000_000])
async def test_headers_of_huge_arrays_do_not_stop_the_loop(size: int) -> None:
    """The first reply is good, so that there is a connection; the next ones never end."""
    async with answering(PONG + b"*%d\r\n" % size * 7) as address:
        settings = RedisSettings((address,))
        async with running(settings) as client:
            worst, lost = 0.0, client.statistics().lost
            while sum(lost.values()) < 3:
                began = trio.current_time()
                await trio.sleep(0.01)
                worst = max(worst, trio.current_time() - began)
                lost = client.statistics().lost
    assert lost.keys() <= {"redis-protocol", "redis-reply-too-long"}
    assert worst < 5, "a loop that stands still for long"
