"""Workers that are processes: one of them gets a token, and limits hold for all together."""

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import TypeVar

import pytest

from edge.access.quota import Account, Limits
from edge.access.tables import AccessTables, TableSizes, open_tables
from edge.errors import AccessError
from edge.memory import HeldMemory

WORKERS = 4
TOKENS = 400
SESSIONS_MAX = 37
NOW = 1_800_000_000.0
Result = TypeVar("Result")
SIZES = TableSizes(TOKENS, 64, WORKERS)


def insist(attempt: Callable[[], Result]) -> Result:
    """Try again as long as another worker keeps the lock."""
    for _ in range(1000):
        try:
            return attempt()
        except AccessError as exc:
            if exc.reason != "access-busy":
                raise
    raise AssertionError("the lock is never to be had")


def claim_all(tables: AccessTables) -> list[int]:
    won = []
    for number in range(TOKENS):
        try:
            insist(partial(tables.used.claim, str(number), NOW + 60, NOW))
        except AccessError as exc:
            if exc.reason != "token-used":
                raise
        else:
            won.append(number)
    return won


def open_all(tables: AccessTables) -> int:
    account = Account("tenant", Limits(sessions_max=SESSIONS_MAX))
    opened = 0
    for number in range(SESSIONS_MAX):
        try:
            lease = insist(partial(tables.quotas.open_session, [account], NOW))
        except AccessError as exc:
            if exc.reason != "quota-sessions":
                raise
            continue
        if number % 3:
            opened += 1
        else:
            lease.release()
    return opened


def work(memory: HeldMemory, worker: int, pipe: Connection) -> None:
    tables = open_tables(memory.map(), memory.lock, bytes(16), worker, SIZES)
    pipe.send(None)
    begin_at = pipe.recv()
    while time.monotonic() < begin_at:
        pass
    pipe.send((claim_all(tables), open_all(tables)))
    pipe.recv()


def test_racing_workers() -> None:
    memory = HeldMemory.create("access", SIZES.memory_bytes)
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for worker in range(WORKERS):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=work, args=(memory, worker, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    begin_at = time.monotonic() + 0.05
    for pipe in pipes:
        pipe.send(begin_at)
    results = [pipe.recv() for pipe in pipes]
    won = [number for claimed, _ in results for number in claimed]
    print("claimed by worker:", [len(claimed) for claimed, _ in results])
    assert sorted(won) == list(range(TOKENS)), "each by exactly one"
    opened = [count for _, count in results]
    print("sessions by worker:", opened)
    observer = open_tables(memory.map(), memory.lock, bytes(16), 0, SIZES).quotas
    # The observer is the successor of worker 0, whose sessions are gone with it.
    left = SESSIONS_MAX - sum(opened[1:])
    account = Account("tenant", Limits(sessions_max=SESSIONS_MAX))
    for _ in range(left):
        observer.open_session([account], NOW)
    with pytest.raises(AccessError, match="Too many sessions"):
        observer.open_session([account], NOW)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join()
        assert process.exitcode == 0
        pipe.close()
    memory.close()
