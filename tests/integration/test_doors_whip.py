"""The WHIP door (RFC 9725)."""

import json
import re

import pytest

from edge.signal.doors.whip import FRAGMENT_BYTES_MAX
from edge.signal.host import SessionRequest
from edge.signal.messages import ByeReason
from tests.support.signal_server import HERE, LOCAL, OFFER, HttpClient, Reply, http_client, serving

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


def credentials(sdp: str) -> tuple[str, str]:
    ufrag = re.search(r"^a=ice-ufrag:(.*)\r$", sdp, re.MULTILINE)
    password = re.search(r"^a=ice-pwd:(.*)\r$", sdp, re.MULTILINE)
    assert ufrag is not None
    assert password is not None
    return ufrag[1], password[1]


UFRAG, PASSWORD = credentials(OFFER)
TRICKLED = (
    f"a=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PASSWORD}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
    "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n"
)
RESTART = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n"


async def start(client: HttpClient) -> Reply:
    reply = await client.request("POST", "/v1/whip", OFFER, Content_Type=SDP)
    assert reply.status == 201
    return reply


async def patch(client: HttpClient, place: str, body: str, **headers: str) -> Reply:
    kind = headers.pop("Content_Type", FRAGMENT)
    return await client.request("PATCH", place, body, Content_Type=kind, **headers)


@pytest.mark.parametrize(
    ("path", "route"), [("/v1/whip", None), ("/v1/whip/sales", "sales"), ("/v1/whip/x.y", "x.y")]
)
async def test_an_offer_makes_a_session(path: str, route: str | None) -> None:
    async with serving() as server, http_client(server) as client:
        reply = await client.request("POST", path, OFFER, Content_Type=f"{SDP}; charset=utf-8")
        assert (reply.status, reply.text) == (201, server.host.sessions[0].answer_sdp)
        assert reply.headers["content-type"] == SDP
        assert reply.headers["location"] == "/v1/whip/sessions/1.0.session-0.secret-0"
        assert re.fullmatch(r'"[0-9a-f]{24}"', reply.headers["etag"])
        assert reply.headers["accept-patch"] == FRAGMENT
        assert "link" not in reply.headers
        asked = SessionRequest(OFFER, route, source="127.0.0.1", visitor=HERE, lasting=True)
        assert server.host.requests == [asked]


async def test_candidates_are_taken_and_passed_over() -> None:
    async with serving() as server, http_client(server) as client:
        session = await start(client)
        place, tag = session.headers["location"], session.headers["etag"]
        for match in (tag, "*", f'"other", {tag}'):
            reply = await patch(client, place, TRICKLED, If_Match=match)
            assert (reply.status, reply.body) == (204, b"")
            assert "etag" not in reply.headers
            assert "content-length" not in reply.headers
        assert server.host.sessions[0].answer.local == LOCAL


@pytest.mark.parametrize("star", ["*", '"*"'])
async def test_an_ice_restart_gets_new_credentials_and_a_new_tag(star: str) -> None:
    async with serving() as server, http_client(server) as client:
        session = await start(client)
        place, tag = session.headers["location"], session.headers["etag"]
        reply = await patch(client, place, RESTART, If_Match=star)
        assert (reply.status, reply.headers["content-type"]) == (200, FRAGMENT)
        assert credentials(reply.text) != credentials(session.text)
        renewed = reply.headers["etag"]
        assert renewed != tag
        assert (await patch(client, place, TRICKLED, If_Match=tag)).status == 412
        assert (await patch(client, place, RESTART, If_Match=renewed)).status == 204
        assert server.host.sessions[0].closed == []


async def test_a_failed_restart_keeps_the_session() -> None:
    async with serving() as server, http_client(server) as client:
        session = await start(client)
        place, tag = session.headers["location"], session.headers["etag"]
        reply = await patch(client, place, "a=ice-ufrag:ysXw\r\n", If_Match="*")
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (422, "offer-refused")
        assert (await patch(client, place, TRICKLED, If_Match=tag)).status == 204
        assert server.host.sessions[0].closed == []


async def test_patches_that_are_refused() -> None:
    async with serving() as server, http_client(server) as client:
        session = await start(client)
        place, tag = session.headers["location"], session.headers["etag"]
        assert (await patch(client, place, TRICKLED)).status == 428
        assert (await patch(client, place, TRICKLED, If_Match='"other"')).status == 412
        assert (await patch(client, place, TRICKLED, If_Match=f"W/{tag}")).status == 412
        reply = await patch(client, place, TRICKLED, If_Match=tag, Content_Type=SDP)
        assert (reply.status, reply.headers["accept-patch"]) == (415, FRAGMENT)
        assert (await patch(client, place, "candidate", If_Match=tag)).status == 400
        assert (await patch(client, place, "a=x\0\r\n", If_Match="*")).status == 400
        assert (await patch(client, place + "x", TRICKLED, If_Match=tag)).status == 404
        long = "a=candidate\r\n" * (FRAGMENT_BYTES_MAX // 13 + 1)
        assert (await patch(client, place, long, If_Match=tag)).status == 413
        assert server.host.sessions[0].closed == []


async def test_deleting_ends_the_session() -> None:
    async with serving() as server, http_client(server) as client:
        place = (await start(client)).headers["location"]
        assert (await client.request("DELETE", place, If_Match='"other"')).status == 200
        (session,) = server.host.sessions
        assert session.closed == [ByeReason.HANG_UP]
        assert session.detached == 1
        assert (await client.request("DELETE", place)).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_methods_that_the_endpoint_reserves(method: str) -> None:
    async with serving() as server, http_client(server) as client:
        reply = await client.request(method, "/v1/whip/sales")
        assert (reply.status, reply.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST"])
async def test_methods_that_the_session_reserves(method: str) -> None:
    async with serving() as server, http_client(server) as client:
        reply = await client.request(method, "/v1/whip/sessions/1.0.a.b")
        assert (reply.status, reply.headers["allow"]) == (405, "DELETE, OPTIONS, PATCH")


async def test_options_say_what_is_accepted() -> None:
    async with serving() as server, http_client(server) as client:
        endpoint = await client.request("OPTIONS", "/v1/whip")
        assert (endpoint.status, endpoint.headers["accept-post"]) == (200, SDP)
        session = await client.request("OPTIONS", "/v1/whip/sessions/1.0.a.b")
        assert (session.status, session.headers["accept-patch"]) == (200, FRAGMENT)
        assert not any(
            name.startswith("access-control") for name in session.headers if "allow-m" in name
        )
