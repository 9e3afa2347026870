"""Realtime calls over HTTP, as OpenAI's documentation and libraries make them."""

import json
import logging

import pytest

from edge.errors import SignalError
from edge.signal.host import SessionRequest
from edge.signal.messages import Bye, ByeReason, ErrorCode
from tests.support.signal_server import HERE, OFFER, VIDEO_ONLY, http_client, request, serving

CALLS = "/v1/realtime/calls"
SDP = "application/sdp"
BOUNDARY = "------------------------d74496d66958873e"


def form(**parts: str) -> tuple[bytes, str]:
    """Return the body and the type of a form, as curl and browsers make them."""
    pieces = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        f"Content-Type: text/plain\r\n\r\n{value}\r\n"
        for name, value in parts.items()
    ]
    body = "".join(pieces) + f"--{BOUNDARY}--\r\n"
    return body.encode(), f"multipart/form-data; boundary={BOUNDARY}"


def expected(route: str | None = None) -> SessionRequest:
    return SessionRequest(OFFER, route, source="127.0.0.1", visitor=HERE, lasting=True)


async def test_an_offer_gets_its_answer_and_a_place() -> None:
    async with serving() as server, http_client(server) as client:
        reply = await client.request(
            "POST", CALLS, OFFER, Content_Type=SDP, Authorization="Bearer ek_123"
        )
        (session,) = server.host.sessions
        assert (reply.status, reply.text) == (201, session.answer_sdp)
        assert reply.headers["content-type"] == SDP
        assert reply.headers["location"] == f"{CALLS}/1.0.session-0.secret-0"
        assert server.host.requests == [expected()]
        assert (session.closed, session.detached) == ([], 0)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_hanging_up(method: str) -> None:
    async with serving() as server, http_client(server) as client:
        reply = await client.request("POST", CALLS, OFFER, Content_Type=SDP)
        place = reply.headers["location"] + ("/hangup" if method == "POST" else "")
        reply = await client.request(method, place)
        assert (reply.status, reply.body) == (200, b"")
        (session,) = server.host.sessions
        assert (session.closed, session.detached) == ([ByeReason.HANG_UP], 1)
        assert (await client.request(method, place)).status == 404


async def test_only_who_knows_the_secret_may_hang_up() -> None:
    async with serving() as server, http_client(server) as client:
        await client.request("POST", CALLS, OFFER, Content_Type=SDP)
        for reference in ("1.0.session-0.secret-1", "1.0.session-0", "session-0", "x"):
            reply = await client.request("DELETE", f"{CALLS}/{reference}")
            assert reply.status == 404
        assert server.host.sessions[0].closed == []


@pytest.mark.parametrize(
    ("model", "route"), [("sales", "sales"), ("gpt-realtime", None), (None, None)]
)
async def test_a_model_names_a_route_if_there_is_one(model: str | None, route: str | None) -> None:
    session = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
    if model is not None:
        session["model"] = model
    async with serving() as server, http_client(server) as client:
        body, kind = form(sdp=OFFER, session=json.dumps(session))
        replies = [
            await client.request("POST", CALLS, body, Content_Type=kind),
            await client.request(
                "POST",
                CALLS,
                json.dumps({"sdp": OFFER, "session": session}),
                Content_Type="application/json",
            ),
            await client.request("POST", f"{CALLS}?model={model or ''}", OFFER, Content_Type=SDP),
        ]
        assert [reply.status for reply in replies] == [201] * 3
        assert server.host.requests == [expected(route)] * 3


async def test_refusals() -> None:
    no_sdp, kind = form(session="{}")
    async with serving() as server, http_client(server) as client:
        for body, content_type, status, code in (
            (VIDEO_ONLY, SDP, 422, "offer-refused"),
            ("v=1", SDP, 400, "offer-refused"),
            ("", SDP, 400, "offer-refused"),
            (OFFER, "text/plain", 415, "unsupported-media-type"),
            (OFFER, "", 415, "unsupported-media-type"),
            ("{", "application/json", 400, "malformed-message"),
            ('{"sdp": 1}', "application/json", 400, "malformed-message"),
            ("[" * 100_000, "application/json", 400, "malformed-message"),
            (no_sdp, kind, 400, "malformed-message"),
            (no_sdp[:-10], kind, 400, "malformed-message"),
            (no_sdp, "multipart/form-data", 400, "malformed-message"),
        ):
            reply = await client.request("POST", CALLS, body, Content_Type=content_type)
            error = json.loads(reply.body)["error"]
            assert (reply.status, error["code"]) == (status, code), error
        assert server.host.sessions == []


async def test_a_full_server_says_when_to_try_again() -> None:
    async with serving() as server, http_client(server) as client:
        for failure, status, wait in (
            (SignalError(ErrorCode.BUSY, "Full."), 503, "5"),
            (SignalError(ErrorCode.BUSY, "Full.", retry_after=2.2), 503, "3"),
            (SignalError(ErrorCode.UNKNOWN_ROUTE, "No such route."), 404, None),
        ):
            server.host.failure = failure
            reply = await client.request("POST", CALLS, OFFER, Content_Type=SDP)
            assert (reply.status, reply.headers.get("retry-after")) == (status, wait)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "HEAD", "TRACE"])
async def test_other_methods(method: str) -> None:
    async with serving() as server, http_client(server) as client:
        for path, allow in (
            (CALLS, "OPTIONS, POST"),
            (f"{CALLS}/1.0.a.b", "DELETE, OPTIONS"),
            (f"{CALLS}/1.0.a.b/hangup", "OPTIONS, POST"),
        ):
            reply = await client.request(method, path)
            assert (reply.status, reply.headers["allow"]) == (405, allow)


async def test_what_a_session_reports_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server:
        await request(server, "POST", CALLS, OFFER, Content_Type=SDP)
        server.host.sessions[0].report(Bye(reason=ByeReason.PEER_CLOSED, message="Gone."))
    assert "session 1.0.session-0 opened over HTTP" in caplog.text
    assert "session 1.0.session-0 ended: peer-closed" in caplog.text
    assert "secret-0" not in caplog.text
