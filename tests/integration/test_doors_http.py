"""HTTP on the signaling port: framing, limits and order, whatever the door."""

import logging
from contextlib import suppress

import pytest
import trio

from edge.signal.http import BODY_PARTS_MAX
from edge.signal.sdp import OFFER_BYTES_MAX
from tests.support.signal_server import (
    OFFER,
    PAGE,
    HttpClient,
    Server,
    exchange,
    http_client,
    request,
    serving,
)

CALLS = "/v1/realtime/calls"
SDP = "application/sdp"


def post(body: bytes, *headers: str, path: str = CALLS) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {SDP}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)
    return framed + (b"0\r\n\r\n" if end else b"")


async def test_a_connection_carries_one_request_after_the_other() -> None:
    async with serving() as server, http_client(server) as client:
        for _ in range(3):
            reply = await client.request("POST", CALLS, OFFER, Content_Type=SDP)
            assert reply.status == 201
            assert "connection" not in reply.headers
        page = await client.request("GET", "/")
        assert page.body == PAGE["/"].body
        assert len(server.host.sessions) == 3


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as server, http_client(server) as client:
        offer = post(OFFER.encode(), f"Content-Length: {len(OFFER.encode())}")
        head = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.stream.send_all(head + offer + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        statuses = [(await client.reply(method)).status for method in ("HEAD", "POST", "GET")]
        assert statuses == [200, 201, 404]


async def test_a_websocket_may_follow_a_request() -> None:
    async with serving() as server, http_client(server) as client:
        await client.request("GET", "/")
        reply = await client.request(
            "GET",
            "/v1/session",
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        )
        assert reply.status == 101
        assert reply.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def test_connection_close_and_http_1_0_are_obeyed() -> None:
    async with serving() as server:
        for line in (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close", b"GET / HTTP/1.0"):
            async with http_client(server) as client:
                await client.stream.send_all(line + b"\r\n\r\n")
                reply = await client.reply()
                assert (reply.status, reply.headers["connection"]) == (200, "close")
                assert await client.stream.receive_some() == b""


async def test_requests_of_one_connection_are_counted() -> None:
    async with serving(requests_max=2) as server, http_client(server) as client:
        first, second = [await client.request("GET", "/") for _ in range(2)]
        assert "connection" not in first.headers
        assert second.headers["connection"] == "close"
        assert await client.stream.receive_some() == b""


async def test_an_idle_connection_is_closed() -> None:
    async with serving(keep_alive_timeout=0.2) as server, http_client(server) as client:
        await client.request("GET", "/")
        with trio.fail_after(2):
            assert await client.stream.receive_some() == b""


async def test_a_body_may_come_in_chunks() -> None:
    async with serving() as server:
        data = OFFER.encode()
        pieces = [data[start : start + 1_000] for start in range(0, len(data), 1_000)]
        head, body = await exchange(server, post(chunked(*pieces), "Transfer-Encoding: chunked"))
        assert head.startswith(b"HTTP/1.1 201 ")
        assert body == server.host.sessions[0].answer_sdp.encode()


async def test_a_client_that_asks_first_is_told_to_continue() -> None:
    async with serving() as server, http_client(server) as client:
        data = OFFER.encode()
        lines = ("Expect: 100-continue", f"Content-Length: {len(data)}")
        await client.stream.send_all(post(b"", *lines))
        assert (await client.reply()).status == 100
        await client.stream.send_all(data)
        assert (await client.reply()).status == 201


async def test_a_client_that_asks_first_is_refused_first() -> None:
    async with serving() as server, http_client(server) as client:
        lines = ("Expect: 100-continue", f"Content-Length: {10 * OFFER_BYTES_MAX}")
        await client.stream.send_all(post(b"", *lines))
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (413, "close")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(post(b"x", "Content-Length: 1"), 400, id="no-sdp"),
        pytest.param(post(b"\xff", "Content-Length: 1"), 400, id="no-text"),
        pytest.param(post(b"", "Content-Length: 99999999999999999999"), 413, id="huge-length"),
        pytest.param(post(b"", "Content-Length: 140000"), 413, id="long"),
        pytest.param(post(b"", "Content-Length: -1"), 400, id="negative-length"),
        pytest.param(post(b"", "Content-Length: 1", "Content-Length: 2"), 400, id="two-lengths"),
        pytest.param(
            post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
            400,
            id="smuggling",
        ),
        pytest.param(post(b"", "Transfer-Encoding: gzip, chunked"), 501, id="coded-transfer"),
        pytest.param(
            post(b"x", "Content-Length: 1", "Content-Encoding: gzip"), 415, id="compressed"
        ),
        pytest.param(
            post(chunked(bytes(70_000), bytes(70_000)), "Transfer-Encoding: chunked"),
            413,
            id="long-chunks",
        ),
        pytest.param(
            post(chunked(*[b"a"] * (BODY_PARTS_MAX + 1)), "Transfer-Encoding: chunked"),
            413,
            id="tiny-chunks",
        ),
        pytest.param(post(b"zz\r\n", "Transfer-Encoding: chunked"), 400, id="no-chunk"),
        pytest.param(post(b"v=0", "Content-Length: 9"), 400, id="cut-short"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="http-2"),
        pytest.param(b"GET /\r\nX: y HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="line-break-in-path"),
        pytest.param(b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="nul-in-path"),
        pytest.param(b"GET /v1/whip/a%0d%0ab HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="escaped"),
        pytest.param(b"GET /v1/whip/../x HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="dots"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, id="page"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n", 431, id="long-path"),
    ],
)
async def test_what_is_refused(
    request_bytes: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as server:
        head, body = await exchange(server, request_bytes)
        assert head.startswith(b"HTTP/1.1 %d " % status), head
        assert b'{"error": {"code": "' in body
        assert server.host.sessions == []
    assert caplog.text == ""


async def test_line_breaks_do_not_come_back_in_headers() -> None:
    async with serving() as server:
        head, _ = await exchange(
            server,
            b"OPTIONS /v1/whip HTTP/1.1\r\nHost: x\r\nOrigin: https://a\r\n"
            b"Access-Control-Request-Method: POST\r\n"
            b"Access-Control-Request-Headers: x\x0bSet-Cookie: y\r\n\r\n",
        )
        assert b"Set-Cookie" not in head


async def read_until_closed(client: HttpClient) -> bytes:
    received = b""
    with suppress(trio.BrokenResourceError):
        while data := await client.stream.receive_some():
            received += data
    return received


@pytest.mark.parametrize("body", [b"", b"5\r\nab", b"5\r\nabcde\r\n" * 3])
async def test_a_body_without_end_is_not_waited_for(body: bytes) -> None:
    async with serving(body_timeout=0.3) as server, http_client(server) as client:
        await client.stream.send_all(post(body, "Transfer-Encoding: chunked"))
        with trio.fail_after(3):
            assert (await read_until_closed(client)).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_trickles_in_is_not_waited_for() -> None:
    async with serving(body_timeout=0.3) as server, http_client(server) as client:
        await client.stream.send_all(post(b"", "Content-Length: 10000"))

        async def trickle() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await client.stream.send_all(b"v")
                    await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            with trio.fail_after(3):
                assert (await client.reply()).status == 408
            nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_read_its_responses_is_cut_off() -> None:
    async with (
        serving(send_timeout=0.3, requests_max=100_000) as server,
        http_client(server) as client,
    ):
        requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000_000
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):
            await client.stream.send_all(requests)


async def test_the_eldest_stranger_goes_when_there_are_too_many() -> None:
    async with serving(waiting_max=3) as server:
        idle = [await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await request(server, "GET", "/")).status == 200
        with trio.fail_after(2):
            assert await idle[0].receive_some() == b""
        for stream in idle[1:]:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive_some(4_096)).startswith(b"HTTP/1.1 200 ")
        for stream in idle:
            await stream.aclose()


async def test_a_slow_owner_is_not_waited_for() -> None:
    async with serving(open_timeout=0.2) as server:
        server.host.delay = 5
        for method, path, kind in (
            ("POST", CALLS, SDP),
            ("DELETE", f"{CALLS}/1.0.a.b", SDP),
        ):
            reply = await request(server, method, path, OFFER, Content_Type=kind)
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")


async def test_a_failing_host_costs_one_request(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, http_client(server) as client:
        server.host.failure = RuntimeError("out of order")
        reply = await client.request("POST", CALLS, OFFER, Content_Type=SDP)
        assert reply.status == 500
        server.host.failure = None
        reply = await client.request("POST", CALLS, OFFER, Content_Type=SDP)
        assert reply.status == 201
    assert "a request has failed" in caplog.text


async def open_half_way(server: Server) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(server.address, server.port)
    await stream.send_all(post(b"", "Content-Length: 10"))
    return stream


async def test_stopping_waits_for_no_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving() as server:
        half = await open_half_way(server)
        async with http_client(server) as client:
            await client.request("GET", "/")
            server.scope.cancel()
            with trio.fail_after(2):
                assert await read_until_closed(client) == b""
        await half.aclose()
    assert caplog.text == ""
