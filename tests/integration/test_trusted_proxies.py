"""Clients behind trusted proxies: each is counted, and limited, for itself."""

from ipaddress import ip_network

import trio

from edge.access.quota import Limits
from edge.signal.messages import ErrorCode
from edge.steering.forwarded import AddressHeader, TrustedProxies
from edge.steering.visitor import Visitor, Visitors
from tests.support.signal_server import OFFER, connected, http_client, serving
from tests.unit.test_access_policy import make_policy

SDP = "application/sdp"
WHIP = "/v1/whip"


def behind_proxies(header: str = "x-forwarded-for") -> Visitors:
    return Visitors(TrustedProxies((ip_network("127.0.0.0/8"),), AddressHeader(header)))


async def test_the_host_learns_the_clients_address() -> None:
    visitors = behind_proxies()
    async with serving(visitors=visitors) as server, http_client(server) as client:
        for address in ("203.0.113.1, 198.51.100.7", "2001:db8::9", "nonsense"):
            reply = await client.request(
                "POST", WHIP, OFFER, Content_Type=SDP, X_Forwarded_For=address
            )
            assert reply.status == 201
        sources = [each.source for each in server.host.requests]
        assert sources == ["198.51.100.7", "2001:db8::9", "127.0.0.1"]
        assert server.host.requests[0].visitor == Visitor("198.51.100.7", proxied=True)
        assert visitors.drops == {"forwarded-malformed": 1}


async def test_without_trust_the_header_is_nothing() -> None:
    async with serving() as server, http_client(server) as client:
        await client.request("POST", WHIP, OFFER, Content_Type=SDP, X_Forwarded_For="203.0.113.1")
        assert server.host.requests[0].source == "127.0.0.1"


async def test_offers_are_counted_for_the_client() -> None:
    policy = make_policy(open=True, address=Limits(0, 2))
    async with serving(policy, visitors=behind_proxies()) as server, http_client(server) as client:

        async def status(address: str) -> int:
            headers = {"X_Forwarded_For": address}
            return (await client.request("POST", WHIP, OFFER, Content_Type=SDP, **headers)).status

        assert [await status("203.0.113.1") for _ in range(3)] == [201, 201, 429]
        assert await status("1.2.3.4, 203.0.113.1") == 429, "a client's own words change nothing"
        assert [await status("203.0.113.2") for _ in range(3)] == [201, 201, 429]
        assert await status("2001:db8::1") == 201


async def test_connections_are_counted_for_the_client() -> None:
    own, others = b"203.0.113.1", b"203.0.113.2"
    async with (
        serving(visitors=behind_proxies(), connections_per_source_max=2) as server,
        connected(server, headers=[(b"X-Forwarded-For", own)]),
        http_client(server) as proxy,
    ):

        async def status(address: bytes) -> int:
            return (await proxy.request("GET", "/", X_Forwarded_For=address.decode())).status

        async with connected(server, headers=[(b"X-Forwarded-For", own)]):
            assert await status(own) == 503
            assert await status(others) == 200, "the proxy's connection goes on for others"
        with trio.fail_after(5):
            while await status(own) != 200:
                await trio.sleep(0.01)


async def test_forwarded_and_refusals() -> None:
    policy = make_policy(open=True, address=Limits(0, 1))
    async with (
        serving(policy, visitors=behind_proxies("forwarded")) as server,
        http_client(server) as client,
    ):
        for status in (201, 429):
            reply = await client.request(
                "POST", WHIP, OFFER, Content_Type=SDP, Forwarded='for="[2001:db8::7]:1"'
            )
            assert reply.status == status
        assert ErrorCode.TOO_MANY_REQUESTS in reply.text
