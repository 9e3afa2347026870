"""A backend that does its worst disturbs neither its session's sender nor other sessions."""

import signal

import pytest
import trio

from edge.backend.connection import TURN_MESSAGES
from edge.backend.policy import LinkEnd
from edge.poller import Poller
from tests.support.fake_backend import Visitor, fake_backend, never_read, record
from tests.support.fake_backend_process import flooding_process, recording_process
from tests.support.fake_session import frame, linked


async def test_who_never_reads_loses_the_oldest_sound() -> None:
    sent = 20_000  # 640 bytes each: far more than all socket buffers take
    async with fake_backend(never_read) as backend, linked(backend.url) as session:
        await session.wait_until("s.link.state == 'open'")
        for number in range(sent):
            session.link.hear(frame(number))
        figures = session.link.statistics()
        assert figures.queued == pytest.approx(5.0)
        assert figures.frames_dropped + figures.messages_sent - 1 == sent - 250
        assert figures.frames_dropped > sent / 2
        assert session.ends == []


async def test_who_reads_again_gets_the_newest_sound_in_order() -> None:
    released = trio.Event()

    async def pausing(visitor: Visitor) -> None:
        await visitor.accept()
        await released.wait()
        await visitor.read()

    async with fake_backend(pausing) as backend, linked(backend.url, queue_max=1.0) as session:
        await session.wait_until("s.link.state == 'open'")
        for number in range(20_000):
            session.link.hear(frame(number))
        released.set()
        visitor = await backend.visitor()
        await visitor.wait_for(frame(19_999).audio)
        numbers = [int.from_bytes(each[:4]) for each in visitor.messages if each != "start"]  # type: ignore[arg-type]
        assert numbers == sorted(numbers)
        assert numbers[-50:] == list(range(19_950, 20_000))
        dropped = session.link.statistics().frames_dropped
        assert len(numbers) == 20_000 - dropped
        session.link.hear(frame(1))
        await visitor.wait_for(frame(1).audio)


async def test_messages_that_are_not_read_end_the_link() -> None:
    async def chatty(visitor: Visitor) -> None:
        await visitor.accept()
        while True:
            await visitor.send("x" * 1000)

    async with fake_backend(chatty) as backend, linked(backend.url) as session:
        await session.returned.wait()
        assert session.ends == [(LinkEnd.LOST, "leaves 1024 messages unread")]


async def test_pings_whose_answers_are_not_read_end_the_link() -> None:
    pings = b"\x89\x7d" + bytes(125)

    async def pinging(visitor: Visitor) -> None:
        await visitor.accept()
        while True:
            await visitor.send_raw(pings * 100)

    async with fake_backend(pinging) as backend, linked(backend.url) as session:
        await session.returned.wait()
        assert session.ends == [(LinkEnd.LOST, "does not read")]


@pytest.mark.parametrize(
    ("pattern", "total_bytes"),
    [
        pytest.param(b"\x82\x7e\x05\x00" + bytes(1280), 50_000_000, id="sound"),
        pytest.param(b"\x82\x00", 1_000_000, id="empty messages"),
        pytest.param(b"\x8a\x00", 1_000_000, id="pongs"),
    ],
)
async def test_a_flood_leaves_the_others_their_turns(pattern: bytes, total_bytes: int) -> None:
    """The flood comes out of a process of its own, so that only the link's work is measured."""
    async with fake_backend(record) as calm, flooding_process(pattern, total_bytes) as flooder:
        poller = Poller()
        async with (
            linked(flooder.url, poller=poller) as flooded,
            linked(calm.url, poller=poller) as other,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(poller.run)
            await other.wait_until("s.link.state == 'open'")
            await flooded.wait_until("s.link.state == 'open'")
            turns = 0
            late: list[float] = []
            until = trio.current_time() + 1.0
            while (before := trio.current_time()) < until:
                await trio.sleep(0.001)
                late.append(trio.current_time() - before - 0.001)
                turns += 1
                other.link.hear(frame(turns))
            received = len(flooded.commands)
            visitor = await calm.visitor()
            await visitor.wait_for(frame(turns).audio)
            assert other.link.statistics().frames_dropped == 0
            late.sort()
            median, p99 = late[turns // 2] * 1e3, late[-turns // 100] * 1e3
            print(f"turns {turns}, late {median:.2f} ms, p99 {p99:.2f} ms, taken {received}")
            assert turns > 200
            assert median < 2
            # What one connection may bring in a second, and no more.
            assert received <= 1.3 * 100 * TURN_MESSAGES * 1.1
            flooded.link.finish("caller-left")
            await flooded.returned.wait()
            nursery.cancel_scope.cancel()


async def test_a_stopped_backend_does_not_stop_its_session() -> None:
    """SIGSTOP: the kernel still takes connections and bytes, for a while."""
    async with (
        recording_process() as backend,
        linked(backend.url, close_timeout=0.2) as session,
    ):
        await session.wait_until("s.link.state == 'open'")
        backend.process.send_signal(signal.SIGSTOP)
        for number in range(20_000):
            session.link.hear(frame(number))
        assert session.link.statistics().frames_dropped > 0
        async with linked(backend.url, connect_timeout=0.2, attempts=1) as other:
            await other.returned.wait()
            assert other.ends == [(LinkEnd.UNREACHABLE, "no answer in time")]
        session.link.finish("caller-left")
        with trio.fail_after(1):
            await session.returned.wait()
