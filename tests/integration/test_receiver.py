"""When a transceiver reads its frames: as they come, or at ticks when they come fast."""

import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import pairwise

import pytest
import trio
import trio.testing
from attrs import define, field
from trio.abc import Instrument

from edge.transceiver.receiver import (
    BUSY_FRAMES,
    FRAMES_AT_ONCE,
    QUIET_TURNS,
    TICK,
    TICKS_PER_TURN,
    FrameReceiver,
)


async def test_frames_of_several_sockets_go_to_their_functions() -> None:
    with ExitStack() as undo:
        sockets = [undo.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        first, second, relay = sockets
        fed: list[tuple[str, bytes]] = []
        receiver = FrameReceiver(
            first,
            lambda data, _source, _now: fed.append(("first", bytes(data))),
            lambda _now: None,
            further=[(second, lambda data, _source, _now: fed.append(("second", bytes(data))))],
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            for number, one in enumerate((second, first, second)):
                relay.sendto(bytes([number]), one.getsockname())
                with trio.fail_after(5):
                    while len(fed) <= number:
                        await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert fed == [("second", b"\0"), ("first", b"\1"), ("second", b"\2")]


class Steps(Instrument):
    """Counts how often any task has been run, so that what one run does can be told apart."""

    def __init__(self) -> None:
        self.taken = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's name
        self.taken += 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        trio.lowlevel.add_instrument(self)
        yield
        trio.lowlevel.remove_instrument(self)


@define
class Rig:
    """A receiver on a virtual clock that stands still unless moved; a sleep moves it by a tick."""

    clock: trio.testing.MockClock
    internal: socket.socket
    relay: socket.socket
    fed: list[int] = field(factory=list)
    times: list[float] = field(factory=list)
    ticks: list[float] = field(factory=list)
    sleeps: int = 0
    on_sleep: Callable[[], None] = lambda: None
    on_feed: Callable[[], None] = lambda: None
    _sent: int = 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.relay.sendto(self._sent.to_bytes(4), self.internal.getsockname())
            self._sent += 1

    def feed(self, data: memoryview, source: tuple[str, int], now: float) -> None:
        assert source == self.relay.getsockname()
        self.fed.append(int.from_bytes(data))
        self.times.append(now)
        self.on_feed()

    def tick(self, now: float) -> None:
        self.ticks.append(now)

    def sleep(self, seconds: float) -> None:
        assert seconds == TICK
        assert self.sleeps < 10_000, "it sleeps for ever"
        self.sleeps += 1
        self.clock.jump(seconds)
        self.on_sleep()

    async def wait_fed(self) -> None:
        await wait_until(lambda: len(self.fed) == self._sent)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what real sockets bring, which the virtual clock knows nothing of."""
    for _ in range(100_000):
        if condition():
            return
        await trio.lowlevel.checkpoint()
    pytest.fail("it did not happen")


@asynccontextmanager
async def receiving(clock: trio.testing.MockClock) -> AsyncIterator[Rig]:
    with open_socket() as internal, open_socket() as relay:
        rig = Rig(clock, internal, relay)
        receiver = FrameReceiver(internal, rig.feed, rig.tick, rig.sleep)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            yield rig
            nursery.cancel_scope.cancel()


def open_socket() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    one.bind(("127.0.0.1", 0))
    return one


async def test_slow_frames_are_taken_as_they_come(mock_clock: trio.testing.MockClock) -> None:
    async with receiving(mock_clock) as rig:
        for _ in range(3 * BUSY_FRAMES):
            mock_clock.jump(1.5 * TICK)
            rig.send()
            await rig.wait_fed()
        assert rig.fed == list(range(3 * BUSY_FRAMES))
        assert rig.sleeps == 0


async def test_fast_frames_are_taken_at_ticks(mock_clock: trio.testing.MockClock) -> None:
    async with receiving(mock_clock) as rig:
        rig.on_sleep = lambda: rig.send(3 if rig.sleeps < 500 else 0)
        rig.send(BUSY_FRAMES)
        await wait_until(lambda: rig.sleeps >= 500)
        await rig.wait_fed()
        assert rig.fed == list(range(BUSY_FRAMES + 3 * 499))
        late = rig.times[BUSY_FRAMES:]
        assert all(math.isclose(late[i + 3] - late[i], TICK) for i in range(0, len(late) - 3, 3))
        assert all(math.isclose(b - a, TICK) for a, b in pairwise(dict.fromkeys(rig.ticks)))
        assert len(rig.ticks) >= 499


async def test_when_frames_get_rare_it_waits_for_them_again(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with receiving(mock_clock) as rig:
        rig.send(BUSY_FRAMES)
        await wait_until(lambda: rig.sleeps == QUIET_TURNS * TICKS_PER_TURN)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1.0)
        rig.send()
        await rig.wait_fed()
        assert rig.sleeps == QUIET_TURNS * TICKS_PER_TURN


async def test_other_tasks_get_turns_between_ticks(mock_clock: trio.testing.MockClock) -> None:
    steps = Steps()
    async with receiving(mock_clock) as rig:
        slept_in: Counter[int] = Counter()

        def on_sleep() -> None:
            slept_in[steps.taken] += 1
            rig.send(2)

        rig.on_sleep = on_sleep
        rig.send(BUSY_FRAMES)
        with steps.counted():
            await wait_until(lambda: rig.sleeps > 100)
        assert max(slept_in.values()) == TICKS_PER_TURN


async def test_other_tasks_get_turns_in_a_burst(mock_clock: trio.testing.MockClock) -> None:
    steps = Steps()
    async with receiving(mock_clock) as rig:
        fed_in: Counter[int] = Counter()
        rig.on_feed = lambda: fed_in.update((steps.taken,))
        await trio.testing.wait_all_tasks_blocked()
        rig.send(2 * FRAMES_AT_ONCE)
        with steps.counted():
            await rig.wait_fed()
        assert max(fed_in.values()) == FRAMES_AT_ONCE


async def test_an_unusable_socket_is_an_error() -> None:
    with open_socket() as one:
        receiver = FrameReceiver(one, lambda *_: None, lambda _: None)
        with pytest.raises(ExceptionGroup) as caught:
            await run_until_closed(receiver, one)
    assert caught.group_contains(trio.ClosedResourceError)


async def run_until_closed(receiver: FrameReceiver, internal: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(internal)
