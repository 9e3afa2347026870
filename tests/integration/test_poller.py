"""The poller with sockets whose other ends are the test's."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest
import trio
from attrs import define, field

from edge.poller import Poller


@define(eq=False)
class Reader:
    """Reads a byte at a time; ``then`` says what comes of it."""

    socket: socket.socket
    then: Callable[[float], float | None] = lambda _: None
    read_at: list[float] = field(factory=list)
    writes: int = 0
    crashes: list[Exception] = field(factory=list)

    def fileno(self) -> int:
        return self.socket.fileno()

    def read(self, now: float) -> float | None:
        self.socket.recv(1)
        self.read_at.append(now)
        return self.then(now)

    def write(self) -> None:
        self.writes += 1

    def crash(self, error: Exception) -> None:
        self.crashes.append(error)


@pytest.fixture
def pairs() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    opened: list[socket.socket] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        both = socket.socketpair()
        opened.extend(both)
        for each in both:
            each.setblocking(False)
        return both

    yield pair
    for each in opened:
        each.close()


@pytest.fixture
async def poller(nursery: trio.Nursery) -> Poller:
    poller = Poller()
    nursery.start_soon(poller.run)
    return poller


Pairs = Callable[[], tuple[socket.socket, socket.socket]]


async def test_a_rest_is_kept(poller: Poller, pairs: Pairs) -> None:
    here, there = pairs()
    reader = Reader(here, lambda now: now + 0.05)
    poller.add(reader)
    there.send(b"abc")
    with trio.fail_after(5):
        while len(reader.read_at) < 3:
            await trio.sleep(0.005)
    first, second, third = reader.read_at
    assert second - first >= 0.05
    assert third - second >= 0.05


async def test_a_peer_that_left_is_not_asked_while_at_rest(poller: Poller, pairs: Pairs) -> None:
    here, there = pairs()
    reader = Reader(here, lambda now: now + 60.0)
    poller.add(reader)
    there.send(b"a")
    there.close()
    await trio.sleep(0.05)
    assert len(reader.read_at) == 1


async def test_writing_is_asked_for_and_goes_on_at_rest(poller: Poller, pairs: Pairs) -> None:
    here, there = pairs()
    reader = Reader(here, lambda now: now + 60.0)
    poller.add(reader)
    there.send(b"a")
    await trio.sleep(0.02)
    assert reader.writes == 0
    poller.want_write(reader, wanted=True)
    await trio.sleep(0.02)
    assert reader.writes > 0
    poller.want_write(reader, wanted=False)
    before = reader.writes
    await trio.sleep(0.02)
    assert reader.writes == before
    poller.remove(reader)


async def test_who_is_removed_in_a_turn_is_not_called(poller: Poller, pairs: Pairs) -> None:
    (here, there), (other_here, other_there) = pairs(), pairs()
    readers: list[Reader] = []

    def remove_the_other(_: float) -> float | None:
        poller.remove(readers[1] if readers[0].read_at else readers[0])
        return None

    readers += [Reader(here, remove_the_other), Reader(other_here, remove_the_other)]
    there.send(b"a")
    other_there.send(b"a")
    for reader in readers:
        poller.add(reader)
    await trio.sleep(0.05)
    assert sorted(len(reader.read_at) for reader in readers) == [0, 1]


async def test_a_crash_is_one_connections_own(poller: Poller, pairs: Pairs) -> None:
    (here, there), (other_here, other_there) = pairs(), pairs()

    def fail(_: float) -> float | None:
        raise ValueError("bug")

    bad, good = Reader(here, fail), Reader(other_here)
    poller.add(bad)
    poller.add(good)
    there.send(b"a")
    await trio.sleep(0.02)
    other_there.send(b"a")
    await trio.sleep(0.02)
    assert [str(each) for each in bad.crashes] == ["bug"]
    assert len(good.read_at) == 1
    assert good.crashes == []


async def test_a_long_turn_is_interrupted_for_others(poller: Poller, pairs: Pairs) -> None:
    """Twenty connections with 5 ms of work each do not hold the loop for 100 ms."""

    def work(_: float) -> float | None:
        until = time.perf_counter() + 0.005
        while time.perf_counter() < until:
            pass
        return None

    ends = [pairs() for _ in range(20)]
    readers = [Reader(here, work) for here, _ in ends]
    for reader, (_, there) in zip(readers, ends, strict=True):
        there.send(b"a")
        poller.add(reader)
    turns = 0
    with trio.fail_after(5):
        while not all(reader.read_at for reader in readers):
            await trio.lowlevel.checkpoint()
            turns += 1
    assert turns >= len(readers)
