"""Clients that another cluster is nearer to: sent there, by every door, or answered for it."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from attrs import define, evolve, field
from trio_websocket import WebSocketConnection, serve_websocket

from edge.client import SIGNALING_LOST, Lost, open_call
from edge.client.connection import is_safe_redirect
from edge.errors import RedirectError, SignalError
from edge.fleet import map as fleet
from edge.fleet.guidance import FleetView, fleet_steering
from edge.fleet.map import FleetMap, Member, Site
from edge.fleet.states import HostState
from edge.signal.host import OpenedSession, Report, SessionHost, SessionRequest
from edge.steering.choice import Cluster, Place, Steering
from edge.steering.position import Position
from edge.steering.visitor import Visitor, Whereabouts
from edge.transceiver.steered import SteeredHost
from tests.support.signal_server import OFFER, FakeHost, connected, http_client, serving

SDP = "application/sdp"
FRANKFURT = Place("fra", Position(50.11, 8.68), (("192.0.2.1", 3478),))
NEW_YORK = Place("nyc", Position(40.71, -74.01), (("192.0.2.2", 3478),))
SYDNEY = Place("syd", Position(-33.87, 151.21), (("192.0.2.3", 3478),))
IN_BOSTON = Visitor("198.51.100.7", Whereabouts(Position(42.36, -71.06)))
REQUEST = SessionRequest(OFFER, source="198.51.100.7", visitor=IN_BOSTON)


ROOM = HostState(sessions=0, sessions_max=100, room=100, relays=1)


def fleet_map() -> FleetMap:
    sites = [
        Site(each.name, "", each.position.latitude, each.position.longitude, each.relays)
        for each in (FRANKFURT, NEW_YORK, SYDNEY)
    ]
    members = [
        Member(site.name, site, fleet.Cluster(number, site.name, site), 0, f"10.0.0.{number}")
        for number, site in enumerate(sites, 1)
    ]
    clusters = tuple(each.cluster for each in members if each.cluster is not None)
    return FleetMap(members[0], tuple(members), clusters, tuple(sites), 3500, 3600, 3490)


@define
class World:
    """A host and two others, as its control channel shows them."""

    own: FakeHost
    states: dict[str, HostState] = field(factory=lambda: dict.fromkeys(["fra", "nyc", "syd"], ROOM))
    hosts: dict[int, FakeHost] = field(factory=lambda: {2: FakeHost(), 3: FakeHost()})
    asked: list[int] = field(factory=list)
    now: float = 0.0

    async def open_in(
        self, clusters: Sequence[int], request: SessionRequest, report: Report
    ) -> OpenedSession:
        self.asked = list(clusters)
        first = clusters[0]
        host = self.own if first == 1 else self.hosts[first]
        return await host.open_session(request, report)

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        return await self.own.attach(session, secret, report)

    def steered(self, **changes: Any) -> SteeredHost:
        view = FleetView(fleet_map(), lambda: self.states, lambda: self.now)
        steering = fleet_steering(fleet_map(), **{"second_relay": True, **changes})
        return SteeredHost(self, steering, view)


def clusters(signaling: str | None = None) -> tuple[Cluster, ...]:
    return (
        Cluster(1, FRANKFURT, signaling),
        Cluster(2, NEW_YORK, signaling),
        Cluster(3, SYDNEY, signaling),
    )


def redirecting(host: FakeHost, port: int) -> SessionHost:
    """Everybody belongs to New York, which is on the same port."""
    there = clusters(f"ws://127.0.0.1:{port}/v1/session")
    steering = Steering(FRANKFURT, there, own=1, default=2, redirects=True)
    world = World(host)
    return SteeredHost(world, steering, FleetView(fleet_map(), lambda: world.states, lambda: 0.0))


def ignore(_report: object) -> None:
    pass


async def test_a_post_is_redirected_once_with_path_query_and_body() -> None:
    async with serving(wrap=redirecting) as server, http_client(server) as client:
        path = "/v1/realtime/calls?model=sales"
        reply = await client.request("POST", path, OFFER, Content_Type=SDP)
        assert reply.status == 307
        assert reply.headers["cache-control"] == "no-store"
        there = reply.headers["location"]
        assert there == f"http://127.0.0.1:{server.port}{path}&steered=1"
        assert server.host.requests == []
        reply = await client.request("POST", f"{path}&steered=1", OFFER, Content_Type=SDP)
        assert reply.status == 201
        (request,) = server.host.requests
        assert (request.route, request.visitor) == ("sales", None)


async def test_whip_is_redirected_too() -> None:
    async with serving(wrap=redirecting) as server, http_client(server) as client:
        reply = await client.request("POST", "/v1/whip/sales", OFFER, Content_Type=SDP)
        there = f"http://127.0.0.1:{server.port}/v1/whip/sales?steered=1"
        assert (reply.status, reply.headers["location"]) == (307, there)


async def test_a_websocket_is_told_and_closed() -> None:
    async with serving(wrap=redirecting) as server, connected(server) as client:
        await client.send_message(json.dumps({"type": "offer", "sdp": OFFER}))
        told = json.loads(await client.get_message())
        there = f"ws://127.0.0.1:{server.port}/v1/session?steered=1"
        assert told == {"type": "redirect", "url": there}
        await wait_closed(client)
        assert client.closed is not None
        assert client.closed.code == 1000


async def wait_closed(client: WebSocketConnection) -> None:
    with trio.fail_after(5):
        while client.closed is None:
            await trio.sleep(0.01)


async def test_the_client_follows_and_stays_there() -> None:
    async with serving(wrap=redirecting) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/session"
        async with open_call(url, route="sales", metadata={"user": 7}) as call:
            await call.offer(OFFER)
            (request,) = server.host.requests
            assert (request.route, request.metadata) == ("sales", {"user": 7})
            call.drop_connection()
            assert await call.offer(OFFER.replace("a=ice-ufrag:", "a=ice-ufrag:x"))
            assert server.host.sessions[0].restarts == 1


async def redirect_to(url: str, requests: list[str]) -> Any:
    """Return a handler of connections that redirects every offer."""

    async def handle(request: Any) -> None:
        requests.append(request.path)
        socket = await request.accept(subprotocol="edge.v1")
        await socket.get_message()
        await socket.send_message(json.dumps({"type": "redirect", "url": url}))

    return handle


async def test_the_client_does_not_run_in_circles() -> None:
    requests: list[str] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await trio.aclose_forcefully(listeners[0])
        url = f"ws://127.0.0.1:{port}/v1/session"
        handle = await redirect_to(url, requests)
        await nursery.start(serve_websocket, handle, "127.0.0.1", port, None)
        async with open_call(url) as call:
            with pytest.raises(SignalError):
                await call.offer(OFFER)
            assert isinstance(await call.wait_ended(), Lost)
        assert len(requests) == 4
        nursery.cancel_scope.cancel()


async def test_a_redirect_into_nothing_ends_the_call() -> None:
    async with serving() as server:
        server.host.failure = RedirectError("ws://127.0.0.1:9/v1/session")
        async with open_call(f"ws://127.0.0.1:{server.port}/v1/session") as call:
            with pytest.raises(SignalError) as caught:
                await call.offer(OFFER)
            assert caught.value.reason != SIGNALING_LOST
            assert isinstance(await call.wait_ended(), Lost)


@pytest.mark.parametrize(
    ("here", "there", "safe"),
    [
        ("wss://a/", "wss://b/", True),
        ("ws://a/", "wss://b/", True),
        ("ws://a/", "ws://b/", True),
        ("wss://a/", "ws://b/", False),
        ("ws://a/", "http://b/", False),
        ("wss://a/", "wss:///v1", False),
        ("wss://a/", "wss://[", False),
    ],
)
def test_where_a_client_lets_itself_be_sent(here: str, there: str, *, safe: bool) -> None:
    assert is_safe_redirect(here, there) is safe


async def test_an_answer_for_the_nearest_cluster() -> None:
    world = World(FakeHost())
    opened = await world.steered().open_session(REQUEST, ignore)
    assert opened.id == "1.0.session-0"
    (placed,) = world.hosts[2].requests
    assert placed == evolve(REQUEST, visitor=None, relays=NEW_YORK.relays + FRANKFURT.relays)
    assert world.asked == [2, 1, 3]


async def test_what_has_no_room_is_not_asked_but_the_own_cluster() -> None:
    world = World(FakeHost())
    host = world.steered()
    del world.states["nyc"]
    await host.open_session(REQUEST, ignore)
    assert world.asked == [1, 3]
    world.states["fra"] = HostState(sessions=97, sessions_max=100, room=3, relays=1)
    await host.open_session(REQUEST, ignore)
    assert world.asked == [1, 3], "states are looked at once a second"
    world.now = 1.0
    await host.open_session(REQUEST, ignore)
    assert world.asked == [3, 1]
    world.states["syd"] = HostState(sessions=1, sessions_max=100, room=0, draining=True)
    world.now = 2.0
    await host.open_session(REQUEST, ignore)
    assert world.asked == [1]


async def test_sites_without_relays_come_last() -> None:
    world = World(FakeHost())
    world.states["nyc"] = HostState(sessions=0, sessions_max=100, room=100, relays=0)
    await world.steered(second_relay=False).open_session(REQUEST, ignore)
    assert world.hosts[2].requests[0].relays == FRANKFURT.relays


async def test_attaching_is_the_own_hosts() -> None:
    world = World(FakeHost())
    opened = await world.own.open_session(REQUEST, ignore)
    assert await world.steered().attach(opened.id, opened.secret, None) is world.own.sessions[0]
