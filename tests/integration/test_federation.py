"""Hosts of a fleet that ask each other for sessions: placement, resume, losses."""

import socket
from pathlib import Path

import pytest
import trio

from edge.errors import AccessError, SdpError, SignalError
from edge.signal.host import OpenedSession, SessionRequest
from edge.signal.messages import Bye, ByeReason, ErrorCode, Layer
from edge.transceiver import neighbours
from edge.transceiver.channel import NeighbourError
from edge.transceiver.remote import HANDSHAKE_TIME, call_member
from edge.transceiver.session import EndReason
from tests.support.descriptors import no_descriptors
from tests.support.fleets import KEY, NEXT_KEY, FleetHost, fleet_hosts
from tests.support.hosts import Client, Owned, wait_for

REQUEST = SessionRequest("offer", "sales", {"user": 7}, relays=(("203.0.113.5", 3478),))


def owned(host: FleetHost, session: str) -> Owned:
    return next(each.sessions[session] for each in host.workers if session in each.sessions)


async def open_at(
    accepting: FleetHost, cluster: int, client: Client, request: SessionRequest = REQUEST
) -> OpenedSession:
    return await accepting.workers[0].host.open_in((cluster,), request, client)


async def test_a_session_of_another_cluster_is_used_as_one_here(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (here, there):
        client = Client()
        session = await open_at(here, 2, client)
        owner = owned(there, session.id)
        assert session.id.startswith("2.0.")
        assert there.workers[0].requests == [REQUEST], "with the relays that were chosen here"
        for layer in (Layer.ICE, Layer.DTLS, Layer.MEDIA):
            owner.come_up(layer)
        await client.wait_layers("ice", "dtls", "media")
        assert await session.restart("again") == session.answer_sdp == "answer to again"
        owner.failure = SdpError("codec-changed", "another codec")
        with pytest.raises(SdpError, match="another codec"):
            await session.restart("worse")
        session.close(ByeReason.HANG_UP)
        await wait_for(lambda: owner.ended is EndReason.CLIENT_BYE)
        with pytest.raises(SignalError, match="no such session"):
            await session.restart("too late")
        assert here.workers[0].host.remote_sessions == 0
        assert here.workers[0].host.opened_at_peers == 1


async def test_what_the_owner_ends_is_told(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (here, there):
        client = Client()
        session = await open_at(here, 2, client)
        owned(there, session.id).end(EndReason.BACKEND_ENDED)
        await client.wait_last("backend-ended")


async def test_a_session_is_found_from_any_host(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2, 2, workers_each=2) as hosts:
        first = Client()
        session = await open_at(hosts[0], 2, first)
        owner = next(owned(each, session.id) for each in hosts[1:] if each.workers)
        for host in hosts:
            for worker in host.workers:
                client = Client()
                found = await worker.host.attach(session.id, session.secret, client)
                assert (found.id, found.secret) == (session.id, session.secret)
                owner.come_up(Layer.ICE)
                await wait_for(lambda: "ice" in client.layers)  # noqa: B023 - at once
                for wrong in (session.secret + "x", ""):
                    with pytest.raises(SignalError) as caught:
                        await worker.host.attach(session.id, wrong, Client())
                    assert caught.value.reason == "unknown-session"
        await first.wait_last("replaced")


@pytest.mark.parametrize(
    "failure",
    [
        SdpError("no-audio", "no audio"),
        SignalError(ErrorCode.UNKNOWN_ROUTE, "no such route"),
        AccessError("quota-sessions", "too many", retry_after=10.0),
    ],
)
async def test_refusals_of_the_owner_arrive_as_they_were(
    tmp_path: Path, failure: SdpError | SignalError | AccessError
) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (here, there):
        there.workers[0].failure = failure
        with pytest.raises(type(failure)) as caught:
            await open_at(here, 2, Client())
        assert (str(caught.value), caught.value.reason) == (str(failure), failure.reason)


async def test_hosts_of_a_cluster_share_its_sessions(tmp_path: Path) -> None:
    """Whoever is asked: none is fuller than another by more than a hop is worth."""
    async with fleet_hosts(tmp_path, 1, 1, 1, sessions_max=40) as hosts:
        for _ in range(60):
            await hosts[0].workers[0].host.open_session(REQUEST, Client())
            await trio.sleep(0.05)  # what is known of others is up to a second old
        counts = [len(host.workers[0].living) for host in hosts]
        assert sum(counts) == 60
        assert max(counts) <= 40
        assert min(counts) >= 8


async def test_a_full_host_is_passed_over(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 1, sessions_max=3) as (here, there):
        for _ in range(6):
            await here.workers[0].host.open_session(REQUEST, Client())
        assert [len(each.workers[0].living) for each in (here, there)] == [3, 3]
        with pytest.raises(SignalError) as caught:
            await here.workers[0].host.open_session(REQUEST, Client())
        assert caught.value.reason == "busy"
        assert here.workers[0].host.refused == 1


async def test_an_offer_goes_to_the_next_cluster_when_one_has_no_room(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2, sessions_max=1) as (here, there):
        for expected in ("2.", "1."):
            opened = await here.workers[0].host.open_in((2, 1), REQUEST, Client())
            assert opened.id.startswith(expected)
        with pytest.raises(SignalError):
            await here.workers[0].host.open_in((2, 1), REQUEST, Client())
        assert len(there.workers[0].living) == 1


async def test_a_draining_host_gets_no_sessions(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (here, there):
        there.workers[0].placement.drain()
        await wait_for(lambda: (state := here.knows(there.name)) is not None and state.draining)
        with pytest.raises(SignalError) as caught:
            await open_at(here, 2, Client())
        assert caught.value.reason == "busy"


async def test_the_death_of_a_host_is_told(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2, 2) as (here, there, other):
        client = Client()
        session = await open_at(here, 2, client)
        victim, heir = (there, other) if there.workers[0].living else (other, there)
        await victim.die()
        await client.wait_last("going-away")
        with pytest.raises(SignalError) as caught:
            await session.restart("offer")
        assert caught.value.reason == "unknown-session"
        again = await open_at(here, 2, Client())
        assert again.id in heir.workers[0].sessions, "a new offer finds another host at once"
        await wait_for(lambda: here.knows(victim.name) is None)


async def test_sessions_outlive_the_worker_that_passed_them_on(tmp_path: Path) -> None:
    """Between hosts a connection ends at some worker, which need not own the session."""
    async with fleet_hosts(tmp_path, 1, 2, workers_each=2) as (here, there):
        attached: list[tuple[OpenedSession, Client]] = []
        for _ in range(8):
            client = Client()
            attached.append((await open_at(here, 2, client), client))
        counts = [len(worker.living) for worker in there.workers]
        assert min(counts) >= 1
        gateway = next(each for each in there.workers if each.host.remote_sessions)
        survivor = next(each for each in there.workers if each is not gateway)
        gateway.die()
        lost = [client for session, client in attached if session.id in gateway.sessions]
        kept = [(one, client) for one, client in attached if one.id in survivor.sessions]
        for client in lost:
            await client.wait_last("going-away")
        await wait_for(lambda: survivor.residents.detached == 0)
        for session, client in kept:
            assert client.last is None
            assert await session.restart("again") == "answer to again"
            survivor.sessions[session.id].come_up(Layer.MEDIA)
            await client.wait_layers("media")
            session.close(ByeReason.HANG_UP)
        await wait_for(lambda: not survivor.living)


async def test_sessions_outlive_the_host_that_accepted_them(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2, 1) as (here, there, resumer):
        session = await open_at(here, 2, Client())
        await here.die()
        owner = there.workers[0]
        await wait_for(lambda: owner.residents.detached == 1)
        client = Client()
        await resumer.workers[0].host.attach(session.id, session.secret, client)
        owned(there, session.id).come_up(Layer.ICE)
        await client.wait_layers("ice")


async def test_an_opener_that_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2, workers_each=2) as (here, there):
        for patience in (0.0, 0.0001, 0.0005, 0.001, 0.002, 0.004):
            with trio.move_on_after(patience):
                session = await open_at(here, 2, Client())
                session.close(ByeReason.HANG_UP)
        await wait_for(lambda: not any(each.living for each in there.workers))
        await trio.sleep(0.05)
        assert not any(each.living for each in there.workers)
        assert here.workers[0].host.remote_sessions == 0


async def test_many_sessions_are_regained_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "REQUESTS_MAX", 120)
    async with fleet_hosts(tmp_path, 1, 2, workers_each=2, sessions_max=1000) as (here, there):
        clients = [Client() for _ in range(400)]
        for client in clients:
            await open_at(here, 2, client)
        gateway = next(each for each in there.workers if each.host.remote_sessions)
        survivor = next(each for each in there.workers if each is not gateway)
        kept = len(survivor.living)
        assert kept > 120
        gateway.die()
        await wait_for(lambda: sum(client.last == "going-away" for client in clients) == 400 - kept)
        await wait_for(lambda: here.workers[0].host.remote_sessions == kept)
        assert survivor.residents.detached == 0


async def test_a_host_that_is_out_of_reach_is_waited_for_once(tmp_path: Path) -> None:
    """However many offers come at the same time."""
    async with fleet_hosts(tmp_path, 1, 2) as (here, there):
        busy: list[str] = []

        async def offer() -> None:
            with pytest.raises(SignalError) as caught:
                await open_at(here, 2, Client())
            busy.append(caught.value.reason)

        address = there.fleet.control_address(there.fleet.here)
        await there.die()
        with socket.socket() as deaf:  # it accepts and says nothing
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deaf.bind(address)
            deaf.listen()
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(offer)
            assert busy == ["busy"] * 20
            assert trio.current_time() - began < HANDSHAKE_TIME + 1


async def test_sessions_outlive_a_rotation_of_the_fleet_keys(tmp_path: Path) -> None:
    """Three steps on all hosts; at every step one of them is ahead."""
    async with fleet_hosts(tmp_path, 1, 2) as hosts:
        here, there = hosts
        client = Client()
        sessions = [await open_at(here, 2, client) for _ in range(20)]
        for step in ((KEY, NEXT_KEY), (NEXT_KEY, KEY), (NEXT_KEY,)):
            for host in hosts:
                host.ring.use(step)
                host.workers[0].use_fleet_keys(*step)
                late = await open_at(here, 2, client)
                sessions.append(late)
                assert await late.restart("at once") == "answer to at once"
                await trio.sleep(0.1)
        assert there.workers[0].drops["control-key-removed"] <= 1, "but the voice's"
        assert here.workers[0].host.remote_sessions == len(sessions)
        for each in sessions:
            owner = owned(there, each.id)
            assert owner.ended is None
            assert await each.restart("later") == "answer to later"
        owned(there, sessions[0].id).end(EndReason.BACKEND_ENDED)
        await client.wait_last("backend-ended")
        sessions[1].close(ByeReason.HANG_UP)
        await wait_for(lambda: owned(there, sessions[1].id).ended is EndReason.CLIENT_BYE)
        assert [each for each in client.reports if isinstance(each, Bye)] == client.reports


async def test_what_is_asked_for_while_keys_change_is_answered(tmp_path: Path) -> None:
    keys = (KEY, NEXT_KEY)
    async with fleet_hosts(tmp_path, 1, 2, sessions_max=10_000, keys=keys) as (here, there):
        answered, done = 0, False

        async def keep_calling() -> None:
            nonlocal answered
            while not done:
                session = await open_at(here, 2, Client())
                await trio.sleep(0.005)
                session.close(ByeReason.HANG_UP)
                answered += 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(keep_calling)
            for step in [(NEXT_KEY, KEY), (KEY, NEXT_KEY)] * 3:
                await trio.sleep(0.05)
                here.workers[0].use_fleet_keys(*step)
            done = True
        assert answered > 20
        await wait_for(lambda: not there.workers[0].living)
        await wait_for(lambda: here.workers[0].host.remote_sessions == 0)


async def test_without_descriptors_a_host_is_one_that_cannot_be_reached(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (here, there):
        client = Client()
        session = await open_at(here, 2, client)
        there.scope.cancel()
        with no_descriptors():
            await client.wait_last("going-away")
            with pytest.raises(NeighbourError, match="Too many open files"):
                await call_member(here.fleet, there.fleet.here, here.ring)
            await trio.sleep(2.2)  # the voice tries again, too
        assert here.workers[0].host.remote_sessions == 0
        with pytest.raises(SignalError):
            await session.restart("too late")
