"""What links count, over real sockets."""

import trio

from edge.backend.policy import OnFailure
from edge.backend.tally import LinkTally
from tests.support.fake_backend import close_with, drop, fake_backend, record, refuse, say
from tests.support.fake_session import frame, linked


def present(tally: LinkTally) -> dict[str, int]:
    """Return the links by state."""
    return {state: count for state, count in tally.states.items() if count}


async def test_a_link_counts_as_what_it_is_until_it_is_over() -> None:
    async with fake_backend(say(b"hello", "question")) as backend, linked(backend.url) as session:
        visitor = await backend.visitor()
        await visitor.wait_for("answer to question")
        session.link.hear(frame(1))
        await visitor.wait_for(frame(1).audio)
        tally = session.tally
        assert present(tally) == {"open": 1}
        assert (tally.messages_sent, tally.messages_received) == (3, 2)
        assert sum(tally.connect.counts) == 1
        assert 0.0 < tally.connect.total < 1.0
        session.link.finish("hang-up")
        await session.returned.wait()
        assert present(tally) == {}
        assert not tally.failures
        assert not tally.ends


async def test_failures_count_by_what_they_were() -> None:
    scripts = [close_with(1012), refuse(503), record]
    async with (
        fake_backend(*scripts) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT) as session,
    ):
        await (await backend.visitor(2)).wait_for("again")
        assert session.tally.failures == {"lost": 1, "unavailable": 1}
        assert sum(session.tally.connect.counts) == 2
        assert not session.tally.ends


async def test_a_link_that_gives_up_counts_as_ended() -> None:
    async with fake_backend(drop) as backend, linked(backend.url) as session:
        await session.returned.wait()
        assert session.tally.failures == {"lost": 1}
        assert session.tally.ends == {"lost": 1}
        assert present(session.tally) == {}


async def test_a_link_without_a_connection_counts_as_connecting_and_its_losses() -> None:
    async with (
        fake_backend(refuse(503)) as backend,
        linked(backend.url, queue_max=0.1, attempts=1000) as session,
    ):
        await backend.visitor()
        for number in range(20):
            session.link.hear(frame(number))
        assert present(session.tally) == {"connecting": 1}
        assert session.tally.frames_dropped == 15


async def test_pings_are_timed() -> None:
    async with fake_backend(record) as backend, linked(backend.url, ping_interval=0.02) as session:
        while not sum(session.tally.round_trip.counts):
            await trio.sleep(0.005)
        assert 0.0 < session.tally.round_trip.total < 1.0
