"""The metrics endpoint over real connections."""

import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from edge.config.values import ListenAddress
from edge.control.status import Status
from edge.errors import BootError
from edge.metrics.endpoint import CONNECTIONS_MAX, open_metrics_listeners, serve_metrics
from tests.support.statuses import status, worker

TIME_LIMIT = 10.0


class Endpoint:
    def __init__(self, port: int) -> None:
        self.port = port
        self.snapshot = status()
        self.error: Exception | None = None

    def status(self) -> Status:
        if self.error is not None:
            raise self.error
        return self.snapshot

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, request: bytes) -> bytes:
        """Send a request on a connection of its own and return all that comes back."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_all(stream)


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def request(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n".encode()


@asynccontextmanager
async def serving() -> AsyncIterator[Endpoint]:
    listeners = open_metrics_listeners([ListenAddress.parse("127.0.0.1:0")])
    endpoint = Endpoint(listeners[0].getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_metrics, listeners, endpoint.status)
        with trio.fail_after(TIME_LIMIT):
            yield endpoint
        nursery.cancel_scope.cancel()


async def test_what_is_scraped_is_the_status_of_that_moment() -> None:
    async with serving() as endpoint:
        endpoint.snapshot = status(worker("relay", 4))
        answer = await endpoint.ask(request("/metrics"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
        families = {each.name: each for each in text_string_to_metric_families(body.decode())}
        assert [each.labels for each in families["edge_worker_up"].samples] == [
            {"worker": "relay-4"}
        ]


async def test_several_scrapes_go_over_one_connection() -> None:
    async with serving() as endpoint, await endpoint.connect() as stream:
        for _ in range(3):
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: edge\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += await stream.receive_some()
            head, _, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            while len(body) < int(length[1]):
                body += await stream.receive_some()
            assert body.endswith(b"\n")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request("/healthz"), b"HTTP/1.1 200"),
        (request("/"), b"HTTP/1.1 404"),
        (request("/metrics/"), b"HTTP/1.1 404"),
        (request("/metrics", "POST"), b"HTTP/1.1 405"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + bytes(20_000), b"HTTP/1.1 4"),
    ],
)
async def test_nothing_else_is_answered(asked: bytes, expected: bytes) -> None:
    async with serving() as endpoint:
        assert (await endpoint.ask(asked)).startswith(expected)


async def test_head_has_no_body() -> None:
    async with serving() as endpoint:
        answer = await endpoint.ask(request("/metrics", "HEAD"))
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\n")


async def test_without_a_transceiver_that_serves_health_is_bad() -> None:
    async with serving() as endpoint:
        endpoint.snapshot = status(worker("relay"), worker("transceiver", 1, "backing-off"))
        answer = await endpoint.ask(request("/healthz"))
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.endswith(b"not serving\ntransceiver-1 backing-off\n")


async def test_more_connections_than_there_may_be_are_closed() -> None:
    async with serving() as endpoint:
        idle = [await endpoint.connect() for _ in range(CONNECTIONS_MAX)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with await endpoint.connect() as stream:
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - whichever notices first
                await stream.send_all(request("/healthz"))
                assert await read_all(stream) == b""
                raise trio.BrokenResourceError
        for each in idle:
            await each.aclose()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await endpoint.ask(request("/healthz"))).startswith(b"HTTP/1.1 200")


async def test_a_request_that_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as endpoint:
        endpoint.error = RuntimeError("a fault of ours")
        with caplog.at_level(logging.ERROR):
            assert await endpoint.ask(request("/metrics")) == b""
        assert "a request for metrics has failed" in caplog.text
        endpoint.error = None
        assert (await endpoint.ask(request("/metrics"))).startswith(b"HTTP/1.1 200")


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BootError, match=re.escape(f"tcp {address} for metrics")):
            open_metrics_listeners([ListenAddress.parse(address)])


async def test_without_addresses_there_is_no_endpoint() -> None:
    with trio.fail_after(TIME_LIMIT):
        await serve_metrics([], status)
