"""The lock of memory that workers share."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import pytest

from edge.memory import HeldMemory

ROUNDS = 2000


def add(memory: HeldMemory, rounds: int) -> None:
    """Count up, without anybody between reading and writing."""
    view = memory.map()
    done = 0
    while done < rounds:
        try:
            with memory.lock():
                view[:8] = (int.from_bytes(view[:8]) + 1).to_bytes(8)
        except TimeoutError:
            continue  # on a busy machine the other one may be paused while it has the lock
        done += 1


def hold(memory: HeldMemory, pipe: Connection) -> None:
    with memory.lock():
        pipe.send("held")
        pipe.recv()


@contextmanager
def holder(memory: HeldMemory) -> Iterator[multiprocessing.process.BaseProcess]:
    """Have another process hold the lock."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=hold, args=(memory, theirs))
    process.start()
    assert ours.recv() == "held"
    yield process
    process.kill()
    process.join()


def test_nobody_comes_between() -> None:
    memory = HeldMemory.create("test", 4096)
    spawn = multiprocessing.get_context("spawn")
    other = spawn.Process(target=add, args=(memory, ROUNDS))
    other.start()
    add(memory, ROUNDS)
    other.join()
    assert int.from_bytes(memory.map()[:8]) == 2 * ROUNDS
    memory.close()


def test_one_that_stays_does_not_stop_the_others_and_one_that_dies_lets_go() -> None:
    memory = HeldMemory.create("test", 4096)
    with holder(memory) as process:
        with pytest.raises(TimeoutError), memory.lock():
            pass
        process.kill()
        process.join()
        with memory.lock():
            pass
    memory.close()
