"""Session hosts that ask each other: placement, resume, and what happens when a worker dies."""

import itertools
from pathlib import Path

import pytest
import trio

from edge.errors import AccessError, SdpError, SignalError
from edge.signal.host import OpenedSession, SessionRequest
from edge.signal.messages import ByeReason, ErrorCode, Layer
from edge.signal.sdp import OFFER_BYTES_MAX
from edge.transceiver.channel import listen_for_neighbours, neighbour_paths
from edge.transceiver.session import EndReason
from tests.support.hosts import Client, Owned, Permit, Worker, wait_for, workers

REQUEST = SessionRequest("offer", "sales", {"user": 7})


def owner_of(session: str) -> int:
    return int(session.split(".")[1])


def owned(made: list[Worker], session: str) -> Owned:
    return made[owner_of(session)].sessions[session]


async def open_elsewhere(
    made: list[Worker], client: Client, request: SessionRequest = REQUEST
) -> tuple[OpenedSession, Owned]:
    """Open a session at worker 0 that another worker owns."""
    made[0].placement.note_sessions(50)
    session = await made[0].host.open_session(request, client)
    assert owner_of(session.id) != 0
    return session, owned(made, session.id)


async def wait_detached(owner: Worker) -> None:
    await wait_for(lambda: owner.residents.detached == 1)


async def test_sessions_spread_evenly_whoever_accepts_them(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        for _ in range(30):
            await made[0].host.open_session(REQUEST, Client())
        assert [len(worker.living) for worker in made] == [10, 10, 10]
        host = made[0].host
        assert (host.opened_here, host.opened_elsewhere, host.remote_sessions) == (10, 20, 20)
        assert [worker.residents.opened_for_others for worker in made] == [0, 10, 10]


async def test_a_burst_spreads_too(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(made[0].host.open_session, REQUEST, Client())
        assert max(len(worker.living) for worker in made) <= 12


async def test_all_workers_at_once_never_open_more_than_there_is_room(tmp_path: Path) -> None:
    refused = []

    async def call(worker: Worker) -> None:
        try:
            await worker.host.open_session(REQUEST, Client())
        except SignalError as exc:
            refused.append((exc.reason, exc.retry_after))

    async with workers(tmp_path, sessions_max=5) as made:
        async with trio.open_nursery() as nursery:
            for _, worker in zip(range(60), itertools.cycle(made), strict=False):
                nursery.start_soon(call, worker)
        assert [len(worker.living) for worker in made] == [5, 5, 5]
        assert refused == [("busy", 5.0)] * 45


async def test_a_session_elsewhere_is_used_as_one_here(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        client = Client()
        session, there = await open_elsewhere(made, client)
        assert (session.id, session.answer_sdp) == (there.id, "answer")
        assert len(session.secret) >= 22
        assert "." not in session.secret
        for layer in (Layer.ICE, Layer.DTLS, Layer.MEDIA):
            there.come_up(layer)
        await wait_for(lambda: len(client.reports) == 3)
        assert client.layers == ["ice", "dtls", "media"]
        assert await session.restart("again") == session.answer_sdp == "answer to again"
        there.failure = SdpError("codec-changed", "another codec")
        with pytest.raises(SdpError, match="another codec") as caught:
            await session.restart("worse")
        assert caught.value.reason == "codec-changed"
        session.close(ByeReason.HANG_UP)
        await wait_for(lambda: there.ended is not None)
        assert there.ended is EndReason.CLIENT_BYE
        assert client.last is None, "who ends a session is told nothing more"
        with pytest.raises(SignalError, match="no such session"):
            await session.restart("too late")
        assert made[0].host.remote_sessions == 0
        assert len(made[owner_of(session.id)].residents) == 0


async def test_what_the_owner_ends_is_told(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        client = Client()
        session, there = await open_elsewhere(made, client)
        there.end(EndReason.BACKEND_ENDED)
        await client.wait_last("backend-ended")
        session.close(ByeReason.HANG_UP)
        assert made[0].host.remote_sessions == 0


async def test_reports_come_when_the_session_is_known(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as made:
        for accepting in made:
            first, second = Client(), Client()
            session = await accepting.host.open_session(REQUEST, first)
            there = owned(made, session.id)
            there.come_up(Layer.ICE)
            await first.wait_layers("ice")
            await accepting.host.attach(session.id, session.secret, second)
            assert second.reports == [], "not before attach has returned"
            there.come_up(Layer.DTLS)
            await second.wait_layers("ice", "dtls")


@pytest.mark.parametrize("resumer", [0, 1, 2])
async def test_a_session_is_resumed_from_any_worker(tmp_path: Path, resumer: int) -> None:
    async with workers(tmp_path) as made:
        first, second = Client(), Client()
        session, there = await open_elsewhere(made, first)
        there.come_up(Layer.ICE)
        await first.wait_layers("ice")
        resumed = await made[resumer].host.attach(session.id, session.secret, second)
        await first.wait_last("replaced")
        assert (resumed.id, resumed.secret) == (session.id, session.secret)
        there.come_up(Layer.DTLS)
        await second.wait_layers("ice", "dtls")
        assert first.layers == ["ice"]
        session.detach()
        session.close(ByeReason.HANG_UP)
        with pytest.raises(SignalError) as caught:
            await session.restart("from behind")
        assert caught.value.reason == "unknown-session"
        assert await resumed.restart("mine") == "answer to mine"
        assert there.ended is None
        resumed.close(ByeReason.HANG_UP)
        await wait_for(lambda: there.ended is EndReason.CLIENT_BYE)


async def test_what_is_not_there_cannot_be_attached_to(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        session, there = await open_elsewhere(made, Client())
        wrong = ["1.0.x", "1.1.x", "1.7.x", "2.1.x", "1.-1.x", "1", "", "1.²", "1." + 99 * "1"]
        refusals = set()
        for host in (made[0].host, made[owner_of(session.id)].host):
            for name, secret in [
                *((each, session.secret) for each in wrong),
                (session.id, session.secret[:-1]),
                (session.id, ""),
                (session.id, "ü\udc80"[:1]),
                (session.id + "x", None),
            ]:
                with pytest.raises(SignalError) as caught:
                    await host.attach(name, secret, Client())
                refusals.add((caught.value.reason, str(caught.value)))
        assert len(refusals) == 1, "nobody learns whether the id or the secret was wrong"
        assert {reason for reason, _ in refusals} == {"unknown-session"}
        there.end(EndReason.PEER_CLOSED)
        with pytest.raises(SignalError):
            await made[0].host.attach(session.id, session.secret, Client())


async def test_a_visit_takes_nothing_away(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        client = Client()
        session, there = await open_elsewhere(made, client)
        for worker in made:
            visit = await worker.host.attach(session.id, None, None)
            assert await visit.restart(f"by {worker.index}") == f"answer to by {worker.index}"
            visit.detach()
        there.come_up(Layer.ICE)
        await client.wait_layers("ice")
        assert await session.restart("still mine") == "answer to still mine"
        visit = await made[2].host.attach(session.id, None, None)
        visit.close(ByeReason.HANG_UP)
        await client.wait_last("hang-up")
        assert there.ended is EndReason.CLIENT_BYE


@pytest.mark.parametrize(
    "failure",
    [
        SdpError("no-audio", "no audio"),
        SignalError(ErrorCode.UNKNOWN_ROUTE, "no such route"),
        AccessError("token-used", "used before"),
        AccessError("quota-sessions", "too many", retry_after=10.0),
    ],
)
async def test_refusals_of_the_owner_arrive_as_they_were(
    tmp_path: Path, failure: SdpError | SignalError | AccessError
) -> None:
    async with workers(tmp_path, 2) as made:
        made[0].placement.note_sessions(50)
        made[1].failure = failure
        with pytest.raises(type(failure)) as caught:
            await made[0].host.open_session(REQUEST, Client())
        assert str(caught.value) == str(failure)
        assert caught.value.reason == failure.reason
        if not isinstance(failure, SdpError):
            assert getattr(caught.value, "retry_after", None) == failure.retry_after
        assert made[0].host.remote_sessions == 0


async def test_a_fault_of_the_owner_ends_nothing_else(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as made:
        client = Client()
        _, there = await open_elsewhere(made, client)
        made[1].failure = ValueError("a bug")
        with pytest.raises(SignalError) as caught:
            await made[0].host.open_session(REQUEST, Client())
        assert caught.value.reason == "internal"
        there.come_up(Layer.ICE)
        await client.wait_layers("ice")


@pytest.mark.parametrize("sdp", ["x" * (1 << 20), "\U0001f600" * OFFER_BYTES_MAX])
async def test_an_offer_that_is_too_long_to_send_is_refused(tmp_path: Path, sdp: str) -> None:
    async with workers(tmp_path, 2) as made:
        session, there = await open_elsewhere(made, Client())
        with pytest.raises(SdpError) as caught:
            await made[0].host.open_session(SessionRequest(sdp), Client())
        assert caught.value.reason == "too-large"
        with pytest.raises(SdpError):
            await session.restart(sdp)
        assert there.ended is None
        assert made[0].host.remote_sessions == 1


async def test_a_worker_that_filled_up_meanwhile_is_passed_over(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        made[0].placement.note_sessions(50)
        made[1].failure = SignalError(ErrorCode.BUSY, "full since a moment ago")
        session = await made[0].host.open_session(REQUEST, Client())
        assert owner_of(session.id) == 2
        made[2].failure = made[1].failure
        session = await made[0].host.open_session(REQUEST, Client())
        assert owner_of(session.id) == 0


async def test_a_worker_that_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    """What it makes of the request later is undone."""
    async with workers(tmp_path, 2, deaf=frozenset({1})) as made:
        made[0].placement.note_sessions(50)
        with trio.fail_after(5):
            session = await made[0].host.open_session(REQUEST, Client())
        assert owner_of(session.id) == 0
        assert made[0].host.remote_sessions == 0
        made[1].hears.set()
        await wait_for(lambda: len(made[1].sessions) == 1)
        await wait_for(lambda: not made[1].living)


async def test_an_opener_that_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as made:
        made[0].placement.note_sessions(50)
        for patience in (0.0, 0.0, 0.0001, 0.0005, 0.001, 0.002):
            with trio.move_on_after(patience):
                session = await made[0].host.open_session(REQUEST, Client())
                session.close(ByeReason.HANG_UP)
        await wait_for(lambda: made[0].host.remote_sessions == 0 and not made[1].living)
        await trio.sleep(0.05)
        assert not made[1].living


async def test_the_death_of_the_owner_is_told(tmp_path: Path) -> None:
    async with workers(tmp_path) as made:
        client = Client()
        session, _ = await open_elsewhere(made, client)
        made[owner_of(session.id)].die()
        await client.wait_last("internal")
        with pytest.raises(SignalError) as caught:
            await session.restart("offer")
        assert caught.value.reason == "unknown-session"
        session.close(ByeReason.HANG_UP)
        session.detach()


async def test_sessions_outlive_the_worker_that_accepted_them(tmp_path: Path) -> None:
    async with workers(tmp_path, grace=10.0) as made:
        session, there = await open_elsewhere(made, Client())
        owner = made[owner_of(session.id)]
        made[0].die()
        await wait_detached(owner)
        owner.residents.tick()
        assert there.ended is None
        client = Client()
        resumer = next(each for each in made if each not in (made[0], owner))
        await resumer.host.attach(session.id, session.secret, client)
        owner.ahead = 11.0
        owner.residents.tick()
        assert there.ended is None, "it is not alone any more"
        there.come_up(Layer.MEDIA)
        await client.wait_layers("media")


async def test_the_grace_time_ends_what_nobody_resumes(tmp_path: Path) -> None:
    async with workers(tmp_path, grace=10.0) as made:
        for worker in made:  # here, and elsewhere
            session = await made[0].host.open_session(REQUEST, Client())
            owner, there = made[owner_of(session.id)], owned(made, session.id)
            assert owner is worker
            session.detach()
            await wait_detached(owner)
            owner.ahead = 9.0
            owner.residents.tick()
            assert there.ended is None
            owner.ahead = 10.1
            owner.residents.tick()
            assert there.ended is EndReason.CLIENT_GONE
            made[owner.index].placement.note_sessions(50)


async def test_without_grace_it_ends_at_once(tmp_path: Path) -> None:
    async with workers(tmp_path, 1, grace=0.0) as made:
        session = await made[0].host.open_session(REQUEST, Client())
        session.detach()
        assert owned(made, session.id).ended is EndReason.CLIENT_GONE


async def test_a_lasting_session_needs_nobody(tmp_path: Path) -> None:
    async with workers(tmp_path, grace=0.0) as made:
        request = SessionRequest("offer", lasting=True)
        session, there = await open_elsewhere(made, Client(), request)
        owner = made[owner_of(session.id)]
        made[0].die()
        await wait_detached(owner)
        owner.residents.tick()
        assert there.ended is None
        resumer = next(each for each in made if each not in (made[0], owner))
        visit = await resumer.host.attach(session.id, session.secret, None)
        visit.close(ByeReason.HANG_UP)
        await wait_for(lambda: there.ended is EndReason.CLIENT_BYE)


async def test_a_session_ends_with_its_time(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as made:
        permit = Permit(max_duration=60.0)
        made[1].admit = lambda request: permit if request == REQUEST else None
        client = Client()
        _, there = await open_elsewhere(made, client)
        made[1].ahead = 59.0
        made[1].residents.tick()
        assert there.ended is None
        made[1].ahead = 61.0
        made[1].residents.tick()
        await client.wait_last("time-limit")
        assert (permit.released, permit.withdrawn) == (1, 0)


async def test_a_permit_is_given_back_if_no_session_comes_of_it(tmp_path: Path) -> None:
    async with workers(tmp_path, 1) as made:
        permit = Permit()
        made[0].admit = lambda _: permit
        made[0].failure = SdpError("no-audio")
        with pytest.raises(SdpError):
            await made[0].host.open_session(REQUEST, Client())
        assert (permit.released, permit.withdrawn) == (0, 1)


async def test_a_second_connection_is_made_when_the_first_has_ended(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as made:
        for _ in range(3):
            session, _ = await open_elsewhere(made, Client())
            neighbour = made[0].host._neighbours[1]
            assert neighbour._end is not None
            neighbour._end.channel.close()
            await wait_for(lambda: made[0].host.remote_sessions == 0)
            assert owner_of(session.id) == 1


def test_the_sockets_are_for_nobody_else(tmp_path: Path) -> None:
    directory = tmp_path / "workers"
    directory.mkdir(mode=0o755)
    for _ in range(2):  # those of a predecessor that was killed are replaced
        for each in listen_for_neighbours(directory, 2):
            each.close()
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in neighbour_paths(directory, 2):
        assert Path(path).stat().st_mode & 0o777 == 0o600
