"""A link that is to survive its connection."""

import trio

from edge.backend.link import LinkState
from edge.backend.policy import LinkEnd, OnFailure
from edge.media.dialogue import Digit
from tests.support.fake_backend import (
    Visitor,
    close_with,
    drop,
    fake_backend,
    record,
    refuse,
    stall_in_handshake,
)
from tests.support.fake_session import frame, linked


async def test_a_new_connection_gets_the_newest_sound() -> None:
    released = trio.Event()

    async def late(visitor: Visitor) -> None:
        await visitor.read_request()
        await released.wait()
        await record(visitor)

    async with (
        fake_backend(drop, late) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT, queue_max=0.1) as session,
    ):
        await session.wait_until("s.link.state == 'reconnecting'")
        session.link.tell(Digit("1", 0.0))
        for number in range(20):
            session.link.hear(frame(number))
        released.set()
        visitor = await backend.visitor(1)
        await visitor.wait_for(frame(19).audio)
        assert visitor.messages == ["again", *(frame(n).audio for n in range(15, 20)), "Digit"] or (
            visitor.messages == ["again", "Digit", *(frame(n).audio for n in range(15, 20))]
        )
        figures = session.link.statistics()
        assert (figures.connects, figures.frames_dropped) == (2, 15)
        assert session.ends == []


async def test_a_restart_of_the_backend_is_waited_for() -> None:
    scripts = [close_with(1012), refuse(503), refuse(503), record]
    async with (
        fake_backend(*scripts) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT, attempts=1) as session,
    ):
        await (await backend.visitor(3)).wait_for("again")
        assert session.link.statistics().state is LinkState.OPEN


async def test_a_refusal_ends_the_waiting() -> None:
    async with (
        fake_backend(drop, refuse(403)) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT) as session,
    ):
        await session.returned.wait()
        assert session.ends == [(LinkEnd.REFUSED, "HTTP status 403")]


async def test_the_time_to_reconnect_is_limited() -> None:
    async with (
        fake_backend(drop, refuse(503)) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT, reconnect_limit=0.3) as session,
    ):
        await session.returned.wait()
        assert session.ends == [(LinkEnd.LOST, "HTTP status 503")]
        assert 3 <= len(backend.visitors) < 15


async def test_a_backend_that_takes_and_drops_is_not_tried_for_ever() -> None:
    async with (
        fake_backend(drop) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT, reconnect_limit=0.3) as session,
    ):
        await session.returned.wait()
        assert [end for end, _ in session.ends] == [LinkEnd.LOST]
        assert 3 <= len(backend.visitors) < 15


async def test_finish_while_reconnecting_just_ends() -> None:
    async with (
        fake_backend(drop, stall_in_handshake) as backend,
        linked(backend.url, on_failure=OnFailure.RECONNECT) as session,
    ):
        visitor = await backend.visitor(1)
        while visitor.request is None:
            await trio.sleep(0.002)
        session.link.finish("caller-left")
        await session.returned.wait()
        assert session.ends == []
