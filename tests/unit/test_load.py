"""The load table, the on-time window, and where new sessions go."""

from collections.abc import Callable

import pytest

from edge.media.punctuality import Punctuality
from edge.transceiver.load import (
    FRAMES_MIN,
    ON_TIME_SPAN,
    STALE_AFTER,
    Load,
    LoadTable,
    OnTimeWindow,
    load_table_bytes,
)
from edge.transceiver.placement import Placement

NOW = 1000.0


def table(workers: int = 3) -> LoadTable:
    return LoadTable(memoryview(bytearray(load_table_bytes(workers))))


def place(
    shared: LoadTable,
    worker: int = 0,
    clock: Callable[[], float] = lambda: NOW,
    sessions_max: int = 10,
) -> Placement:
    return Placement(shared, worker, sessions_max=sessions_max, on_time_min=0.98, clock=clock)


def test_a_load_is_read_as_it_was_published() -> None:
    shared = table()
    load = Load(7, 1000, 0.9876, draining=True)
    shared.publish(1, load, NOW)
    assert shared.read(1, NOW) == load
    assert shared.read(0, NOW) is None, "never written"
    assert shared.read(2, NOW) is None


def test_a_stale_load_is_none() -> None:
    shared = table()
    shared.publish(0, Load(7, 1000), NOW)
    assert shared.read(0, NOW + STALE_AFTER) is not None
    assert shared.read(0, NOW + STALE_AFTER + 0.01) is None


def test_a_torn_load_is_none() -> None:
    memory = memoryview(bytearray(load_table_bytes(1)))
    shared = LoadTable(memory)
    shared.publish(0, Load(1, 1000), NOW)
    before = bytes(memory)
    shared.publish(0, Load(513, 2000, 0.5, draining=True), NOW + 0.5)
    after = bytes(memory)
    whole = {bytes(before), bytes(after)}
    for cut in range(len(memory) + 1):
        memory[:] = after[:cut] + before[cut:]
        assert (shared.read(0, NOW) is not None) == (bytes(memory) in whole)


def note(window: OnTimeWindow, punctuality: Punctuality, now: float) -> float:
    window.note(punctuality.statistics(), now)
    return window.ratio


def test_the_on_time_ratio_is_that_of_the_last_seconds() -> None:
    window, punctuality = OnTimeWindow(), Punctuality()
    assert note(window, punctuality, NOW) == 1.0
    for _ in range(2 * FRAMES_MIN):
        punctuality.note(0.001)
    for _ in range(FRAMES_MIN):
        punctuality.note(0.006)
    punctuality.note_skipped(FRAMES_MIN)
    assert note(window, punctuality, NOW + 0.25) == 0.5
    assert note(window, punctuality, NOW + ON_TIME_SPAN) == 0.5
    assert note(window, punctuality, NOW + ON_TIME_SPAN + 0.25) == 1.0


def test_few_frames_do_not_make_a_worker_late() -> None:
    window, punctuality = OnTimeWindow(), Punctuality()
    note(window, punctuality, NOW)
    for lateness in (0.0, 0.05):
        punctuality.note(lateness)
    assert note(window, punctuality, NOW + 1) == 1 - 1 / FRAMES_MIN


def test_samples_are_bounded() -> None:
    window, punctuality = OnTimeWindow(), Punctuality()
    for tick in range(10_000):
        note(window, punctuality, NOW + tick * 0.25)
    assert len(window._samples) <= ON_TIME_SPAN / 0.25 + 2


def test_the_least_loaded_worker_is_chosen_for_its_size() -> None:
    shared = table()
    placement = place(shared)
    placement.note_sessions(5)
    shared.publish(1, Load(40, 100), NOW)
    shared.publish(2, Load(8, 10), NOW)
    assert placement.choose(()) == 1
    assert placement.choose({1}) == 0
    assert placement.choose({0, 1}) == 2
    assert placement.choose({0, 1, 2}) is None


def test_of_equal_workers_it_is_the_own_one_then_the_next() -> None:
    shared = table()
    for worker in range(3):
        shared.publish(worker, Load(0, 10), NOW)
    assert [place(shared, worker).choose(()) for worker in range(3)] == [0, 1, 2]
    assert [place(shared, worker).choose({worker}) for worker in range(3)] == [1, 2, 0]


@pytest.mark.parametrize(
    "load",
    [Load(10, 10), Load(1, 10, draining=True), Load(1, 10, on_time_ratio=0.97), Load(11, 10)],
)
def test_who_takes_none_is_not_chosen(load: Load) -> None:
    shared = table(2)
    placement = place(shared)
    placement.note_sessions(9)
    shared.publish(1, load, NOW)
    assert placement.choose(()) == 0
    placement.note_sessions(10)
    assert placement.choose(()) is None
    assert not placement.has_room


def test_stale_slots_are_not_chosen_and_the_own_one_cannot_be() -> None:
    shared = table(2)
    now = NOW
    placement = place(shared, clock=lambda: now)
    placement.note_sessions(9)
    shared.publish(1, Load(0, 10), NOW)
    assert placement.choose(()) == 1
    now = NOW + STALE_AFTER + 1
    assert placement.choose(()) == 0


def test_a_burst_spreads_while_nothing_is_opened_yet() -> None:
    shared = table()
    placement = place(shared, sessions_max=100)
    placement.note_sessions(50)
    for worker in (1, 2):
        shared.publish(worker, Load(0, 100), NOW)
    for _ in range(40):
        chosen = placement.choose(())
        assert chosen is not None
        placement.pending[chosen] += 1
    assert placement.pending == {1: 20, 2: 20}


def test_what_is_asked_for_never_exceeds_the_room() -> None:
    shared = table(2)
    placement = place(shared)
    placement.note_sessions(10)
    shared.publish(1, Load(8, 10), NOW)
    chosen = []
    while (worker := placement.choose(())) is not None:
        placement.pending[worker] += 1
        chosen.append(worker)
    assert chosen == [1, 1]


def test_a_worker_that_drains_tells_it() -> None:
    shared = table(2)
    place(shared, 1).drain()
    load = shared.read(1, NOW)
    assert load is not None
    assert load.draining


def test_a_slot_is_empty_until_somebody_works_there_and_when_it_is_cleared() -> None:
    shared = table()
    mine, other = place(shared, 0), place(shared, 1)
    assert not mine.has_worker(1)
    other.note_sessions(3)
    late = place(shared, 0, clock=lambda: NOW + STALE_AFTER + 1)
    assert late.has_worker(1), "it does not answer, but may again"
    shared.clear(1)
    assert not mine.has_worker(1)
    assert not mine.has_worker(-1)
    assert not mine.has_worker(3)


def test_a_worker_that_waits_gets_nothing_before_it_opens() -> None:
    shared = table(2)
    former, new = place(shared, 0), place(shared, 1)
    new.draining = True
    former.note_sessions(9)
    new.note_sessions(0)
    assert former.choose(()) == 0
    new.open()
    former.drain()
    assert former.choose(()) == 1
    assert new.choose(()) == 1
