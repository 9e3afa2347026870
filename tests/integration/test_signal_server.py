"""The signaling server on real sockets, with a host that opens no real sessions."""

import json
import logging
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
)

from edge.errors import SignalError
from edge.signal.host import SessionRequest
from edge.signal.messages import Bye, ByeReason, ErrorCode, Layer, LayerState, State
from edge.signal.sdp import decode_offer
from tests.support.signal_server import (
    HERE,
    LOCAL,
    OFFER,
    PAGE,
    SETTINGS,
    VIDEO_ONLY,
    Server,
    connected,
    exchange,
    serving,
    wait_until,
)


async def send(client: WebSocketConnection, **message: object) -> None:
    await client.send_message(json.dumps(message))


async def receive(client: WebSocketConnection) -> dict[str, Any]:
    message = json.loads(await client.get_message())
    assert isinstance(message, dict)
    return message


async def wait_closed(client: WebSocketConnection) -> int:
    """Return the code that the server closes with; every message until then is dropped."""
    with suppress(ConnectionClosed):
        while True:
            await client.get_message()
    assert client.closed is not None
    return client.closed.code


def handshake(*headers: str) -> bytes:
    lines = (
        "GET /v1/session HTTP/1.1",
        "Host: x",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def raw_websocket(server: Server) -> trio.SocketStream:
    """Return a socket on which the WebSocket handshake is done."""
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    await stream.send_all(handshake())
    assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 101 ")
    return stream


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """Return a client's frame, masked with zeros (RFC 6455 §5.2)."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return bytes([opcode | (0x80 if final else 0)]) + size + bytes(4) + payload


async def test_an_offer_is_answered_and_its_session_reported() -> None:
    async with serving() as server, connected(server) as client:
        await send(client, type="offer", sdp=OFFER)
        answer = await receive(client)
        assert (answer["type"], answer["session"]) == ("answer", "1.0.session-0")
        assert decode_offer(answer["sdp"]).ice_lite
        (session,) = server.host.sessions
        session.report(State(layer=Layer.ICE, state=LayerState.CONNECTED, ms=12.5))
        assert await receive(client) == {
            "type": "state",
            "layer": "ice",
            "state": "connected",
            "ms": 12.5,
        }
        session.report(Bye(reason=ByeReason.CONSENT_LOST, message="Gone."))
        assert (await receive(client))["reason"] == "consent-lost"
        session.report(State(layer=Layer.ICE, state=LayerState.FAILED, ms=13))  # too late

        await send(client, type="offer", sdp=OFFER)
        assert (await receive(client))["session"] == "1.0.session-1"
        session.report(State(layer=Layer.ICE, state=LayerState.FAILED, ms=14))  # not of this one
        server.host.sessions[1].report(Bye(reason=ByeReason.PEER_CLOSED, message="Gone."))
        assert (await receive(client))["reason"] == "peer-closed"
        assert session.closed == []


async def test_route_and_metadata_reach_the_host() -> None:
    async with serving() as server, connected(server) as client:
        await send(client, type="offer", sdp=OFFER)
        await receive(client)
        await send(client, type="bye")
        await receive(client)
        await send(client, type="offer", sdp=OFFER, route="sales", metadata={"user": {"id": 7}})
        assert (await receive(client))["type"] == "answer"
        assert server.host.requests == [
            SessionRequest(OFFER, source="127.0.0.1", visitor=HERE),
            SessionRequest(OFFER, "sales", {"user": {"id": 7}}, source="127.0.0.1", visitor=HERE),
        ]


async def test_a_lost_backend_is_told_as_a_layer_and_as_a_reason() -> None:
    async with serving() as server, connected(server) as client:
        await send(client, type="offer", sdp=OFFER)
        await receive(client)
        (session,) = server.host.sessions
        session.report(State(layer=Layer.BACKEND, state=LayerState.FAILED, ms=12.5))
        session.report(Bye(reason=ByeReason.BACKEND_LOST, message="Gone."))
        state, bye = await receive(client), await receive(client)
        assert (state["layer"], state["state"]) == ("backend", "failed")
        assert bye["reason"] == "backend-lost"


async def test_refusals_leave_the_connection_usable() -> None:
    no_fingerprint = OFFER.replace("a=fingerprint", "a=x-fingerprint")
    async with serving() as server, connected(server) as client:
        await client.send_message('{"type":"offer"')
        assert (await receive(client))["code"] == "malformed-message"
        await send(client, type="offer", spd=OFFER)
        error = await receive(client)
        assert error["code"] == "malformed-message"
        assert "`spd`" in error["message"]
        for sdp, sentence in (
            (VIDEO_ONLY, "The offer is refused: the offer has no audio section."),
            (no_fingerprint, "The offer is refused: the offer has no certificate fingerprint."),
            (
                OFFER + f"a={'x' * 100}\r\n" * 700,
                "The offer is refused: the offer is longer than 65536 bytes.",
            ),
        ):
            await send(client, type="offer", sdp=sdp)
            error = await receive(client)
            assert (error["code"], error["message"]) == ("offer-refused", sentence)
        server.host.failure = SignalError(ErrorCode.BUSY, "All lines are taken.")
        await send(client, type="offer", sdp=OFFER)
        assert await receive(client) == {
            "type": "error",
            "code": "busy",
            "message": "All lines are taken.",
        }
        server.host.failure = SignalError(ErrorCode.UNKNOWN_ROUTE, "There is no such route.")
        await send(client, type="offer", sdp=OFFER, route="nowhere")
        assert (await receive(client))["code"] == "unknown-route"
        server.host.failure = None
        await send(client, type="candidate", candidate={"candidate": "", "sdpMid": "0"})
        await send(client, type="bye")
        await send(client, type="offer", sdp=OFFER)
        assert (await receive(client))["type"] == "answer"


async def test_a_second_offer_renegotiates() -> None:
    async with serving() as server, connected(server) as client:
        for _ in range(2):
            await send(client, type="offer", sdp=OFFER)
        assert (await receive(client))["secret"] == "secret-0"
        again = await receive(client)
        assert (again["type"], again["session"]) == ("answer", "1.0.session-0")
        assert "secret" not in again
        assert [each.restarts for each in server.host.sessions] == [1]


async def test_a_message_of_one_mebibyte_closes_its_connection_only() -> None:
    async with (
        serving() as server,
        connected(server) as other,
        connected(server) as client,
    ):
        await send(other, type="offer", sdp=OFFER)
        await client.send_message("x" * 2**20)
        assert await wait_closed(client) == 1009
        assert (await receive(other))["type"] == "answer"
        assert server.host.sessions[0].closed == []


async def test_a_flood_of_bad_offers_is_cut_off() -> None:
    async with serving() as server, connected(server) as client:
        for _ in range(SETTINGS.refusals_max):
            await send(client, type="offer", sdp=VIDEO_ONLY)
        errors = [await receive(client) for _ in range(SETTINGS.refusals_max + 1)]
        assert {error["code"] for error in errors[:-1]} == {"offer-refused"}
        assert errors[-1]["code"] == "too-many-refusals"
        assert await wait_closed(client) == 1008


async def test_binary_messages_are_refused() -> None:
    async with serving() as server, connected(server) as client:
        await client.send_message(b"{}")
        assert (await receive(client))["code"] == "binary-message"
        assert await wait_closed(client) == 1003


async def test_closing_the_websocket_detaches_the_session() -> None:
    async with serving() as server:
        async with connected(server) as client:
            await send(client, type="offer", sdp=OFFER)
            await receive(client)
        (session,) = server.host.sessions
        await wait_until(lambda: session.detached)
        session.report(State(layer=Layer.MEDIA, state=LayerState.CONNECTED, ms=1))
        assert session.closed == []


async def test_a_client_that_vanishes_is_treated_alike() -> None:
    async with serving() as server:
        stream = await raw_websocket(server)
        await stream.send_all(frame(1, json.dumps({"type": "offer", "sdp": OFFER}).encode()))
        await wait_until(lambda: server.host.sessions)
        await stream.aclose()
        await wait_until(lambda: server.host.sessions[0].detached)


async def test_bye_ends_the_session_at_once() -> None:
    async with serving() as server, connected(server) as client:
        await send(client, type="offer", sdp=OFFER)
        await receive(client)
        await send(client, type="bye")
        bye = await receive(client)
        assert (bye["type"], bye["reason"]) == ("bye", "hang-up")
        assert server.host.sessions[0].closed == [ByeReason.HANG_UP]
        await send(client, type="offer", sdp=OFFER)
        assert (await receive(client))["type"] == "answer"


async def test_a_connection_without_a_session_is_closed() -> None:
    async with serving(idle_timeout=0.2) as server, connected(server) as client:
        assert (await receive(client))["code"] == "idle"
        assert await wait_closed(client) == 1008


async def test_a_session_keeps_its_connection_and_its_end_starts_the_idle_time_again() -> None:
    async with serving(idle_timeout=0.2) as server, connected(server) as client:
        await send(client, type="offer", sdp=OFFER)
        await receive(client)
        with trio.move_on_after(0.4) as patience:
            await client.get_message()
        assert patience.cancelled_caught
        server.host.sessions[0].report(Bye(reason=ByeReason.PEER_CLOSED, message="Gone."))
        assert (await receive(client))["type"] == "bye"
        assert (await receive(client))["code"] == "idle"


async def test_stopping_says_going_away() -> None:
    async with serving() as server, connected(server) as client:
        await send(client, type="offer", sdp=OFFER)
        await receive(client)
        server.scope.cancel()
        assert await wait_closed(client) == 1001
        assert server.host.sessions[0].detached == 1


async def test_stopping_waits_for_nobody() -> None:
    async with serving() as server:
        silent = await raw_websocket(server)
        half = await trio.open_tcp_stream("127.0.0.1", server.port)
        await half.send_all(b"GET / HT")
        server.scope.cancel()
        stopped_at = trio.current_time()
        assert [chunk async for chunk in silent][-1:] == [b"\x88\x02\x03\xe9"]
        assert trio.current_time() - stopped_at < 4 * SETTINGS.close_timeout
        await silent.aclose()
        await half.aclose()


async def send_offer_and_leave(server: Server) -> None:
    async with connected(server) as client:
        await send(client, type="offer", sdp=OFFER)
        await receive(client)


async def test_a_failing_host_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, connected(server) as client:
        server.host.failure = RuntimeError("out of order")
        await send(client, type="offer", sdp=OFFER)
        assert (await receive(client))["code"] == "internal"
        assert await wait_closed(client) == 1011
        server.host.failure = None
        async with connected(server) as other:
            await send(other, type="offer", sdp=OFFER)
            assert (await receive(other))["type"] == "answer"
    assert "connection 1: the session host has failed" in caplog.text


async def test_logs_hold_no_sdp(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as server:
        await send_offer_and_leave(server)
        await wait_until(lambda: server.host.sessions[0].detached)
    assert "session 1.0.session-0: opened" in caplog.text
    assert "ice-pwd" not in caplog.text
    assert LOCAL.password not in caplog.text


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with serving(reports_max=4) as server:
        stream = await raw_websocket(server)
        await stream.send_all(frame(1, json.dumps({"type": "offer", "sdp": OFFER}).encode()))
        await wait_until(lambda: server.host.sessions)
        (session,) = server.host.sessions
        for _ in range(10):
            session.report(State(layer=Layer.MEDIA, state=LayerState.CONNECTED, ms=1))
        await wait_until(lambda: session.detached)
        await stream.aclose()


async def test_a_client_that_answers_no_ping_is_cut_off() -> None:
    async with serving(ping_interval=0.2) as server:
        stream = await raw_websocket(server)
        await stream.send_all(frame(1, json.dumps({"type": "offer", "sdp": OFFER}).encode()))
        await wait_until(lambda: server.host.sessions)
        await wait_until(lambda: server.host.sessions[0].detached)
        await stream.aclose()


async def test_pings_keep_a_connection_open() -> None:
    async with serving(ping_interval=0.1) as server, connected(server) as client:
        await trio.sleep(0.5)
        await send(client, type="offer", sdp=OFFER)
        assert (await receive(client))["type"] == "answer"


async def test_endless_empty_fragments_end(caplog: pytest.LogCaptureFixture) -> None:
    """They never make a message, so the message cap does not see them."""
    async with serving(connection_bytes_max=50_000) as server:
        stream = await raw_websocket(server)
        await stream.send_all(frame(1, b"", final=False))
        sent = 0
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(frame(0, b"", final=False) * 1_000)
                sent += 6_000
                await trio.sleep(0.01)
        assert sent < 3_000_000
        await stream.aclose()
    assert caplog.text == ""


async def test_a_ping_into_a_closing_websocket_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as server:
        stream = await raw_websocket(server)
        await stream.send_all(frame(2, b"binary"))
        received = b""
        while b"\x88\x02\x03\xeb" not in received:  # close, 1003
            received += await stream.receive_some(4096)
        await stream.send_all(frame(9, b"ping"))
        assert not [chunk async for chunk in stream]
        await stream.aclose()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([], None), (["edge.v1"], "edge.v1"), (["edge.v9", "edge.v1"], "edge.v1")],
)
async def test_subprotocols(offered: list[str], chosen: str | None) -> None:
    async with (
        serving() as server,
        connected(server, offered) as client,
    ):
        assert client.subprotocol == chosen


async def test_an_unknown_subprotocol_is_refused() -> None:
    async with serving() as server:
        head, body = await exchange(server, handshake("Sec-WebSocket-Protocol: edge.v9"))
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"The only subprotocol served here is edge.v1." in body


async def test_the_page_and_what_is_not_there() -> None:
    async with serving() as server:
        head, body = await exchange(server, b"GET /?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Type: text/html" in head
        assert body == PAGE["/"].body
        head, body = await exchange(server, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Content-Length: %d" % len(PAGE["/"].body) in head
        assert body == b""
        etag = PAGE["/"].etag.encode()
        request = b"GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: %b\r\n\r\n" % etag
        head, body = await exchange(server, request)
        assert head.startswith(b"HTTP/1.1 304 ")
        assert b"Content-Length" not in head
        head, body = await exchange(server, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ")
        assert json.loads(body)["error"]["code"] == "not-found"


async def test_a_post_with_a_large_body_gets_its_answer() -> None:
    async with serving() as server:
        request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)
        head, _ = await exchange(server, request)
        assert head.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /v1/session HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
    ],
)
async def test_requests_that_are_refused(request_bytes: bytes, status: int) -> None:
    async with serving() as server:
        head, _ = await exchange(server, request_bytes)
        assert head.startswith(b"HTTP/1.1 %d " % status)


async def test_a_head_that_trickles_in_is_not_waited_for() -> None:
    async with serving(head_timeout=0.3) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        received = b""

        async def trickle() -> None:
            while True:
                await stream.send_all(b"G")
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            received = await stream.receive_some(4096)
            nursery.cancel_scope.cancel()
        assert received.startswith(b"HTTP/1.1 408 ")
        await stream.aclose()


async def test_more_connections_than_allowed_are_told() -> None:
    async with serving(connections_max=1) as server:
        async with connected(server):
            head, _ = await exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 5" in head
        await trio.sleep(0.1)
        head, _ = await exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
