"""What hosts tell of their room, in shared memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.fleet import states
from edge.fleet.states import STALE_AFTER, STATE_TABLE_BYTES, HostState, StateTable
from edge.transceiver.load import Load, LoadTable, host_state, load_table_bytes

STATE = HostState(10, 2000, 1990, 0.999, relays=2)
counts = st.integers(0, 2**32 - 1)
told = st.builds(
    HostState,
    sessions=counts,
    sessions_max=counts,
    room=counts,
    on_time_ratio=st.floats(0, 1),
    draining=st.booleans(),
    relays=counts,
)


def table() -> StateTable:
    return StateTable(memoryview(bytearray(STATE_TABLE_BYTES)))


@given(told, st.text(max_size=64), st.floats(0, 1e9))
def test_what_a_host_tells_is_read(state: HostState, name: str, now: float) -> None:
    known = table()
    known.publish(name, state, now)
    assert known.heard(name, now + STALE_AFTER / 2) == (state, now)
    assert known.read(f"{name}x", now) is None


def test_silence_makes_it_unknown() -> None:
    known = table()
    assert known.read("a", 0.0) is None
    known.publish("a", STATE, 5.0)
    assert known.read("a", 5.0 + STALE_AFTER) == STATE
    assert known.read("a", 5.1 + STALE_AFTER) is None


def test_a_fleet_of_the_largest_size_has_places() -> None:
    known = table()
    names = [f"host-{number}" for number in range(4096)]
    for each in names:
        known.publish(each, STATE, 1.0)
    found = sum(known.read(each, 1.0) == STATE for each in names)
    assert found >= 0.999 * len(names)


def test_entries_of_hosts_that_are_gone_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "ENTRIES", 4)
    known = table()
    for number in range(100):
        now = number * 2 * STALE_AFTER
        known.publish(f"host-{number}", STATE, now)
        assert known.read(f"host-{number}", now) == STATE


def test_without_a_place_a_host_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "ENTRIES", 4)
    known = table()
    for number in range(10):
        known.publish(f"host-{number}", STATE, 1.0)
    assert sum(known.read(f"host-{number}", 1.0) is not None for number in range(10)) == 4


def test_a_torn_entry_is_nothing() -> None:
    memory = bytearray(STATE_TABLE_BYTES)
    known = StateTable(memoryview(memory))
    known.publish("a", STATE, 1.0)
    for at in [at for at, byte in enumerate(memory) if byte]:
        memory[at] ^= 1
        assert known.read("a", 1.0) is None
        memory[at] ^= 1
    assert known.read("a", 1.0) == STATE


def test_a_host_is_the_sum_of_the_workers_that_take_sessions() -> None:
    loads = LoadTable(memoryview(bytearray(load_table_bytes(8))))
    loads.publish(0, Load(10, 100), 1.0)
    loads.publish(1, Load(100, 100, 0.99), 1.0)
    loads.publish(2, Load(5, 100, 0.5), 1.0)  # late: it gets none now
    loads.publish(3, Load(40, 100, 0.1, draining=True), 1.0)
    loads.publish(4, Load(1, 100), -5.0)
    expected = HostState(115, 300, 90, 0.5, draining=False, relays=2)
    assert host_state(loads, 1.0, 0.98, relays=2) == expected
    for slot in range(3):
        loads.publish(slot, Load(10, 100, draining=True), 1.0)
    assert host_state(loads, 1.0, 0.98) == HostState(0, 0, 0, draining=True)


def test_a_host_that_only_relays_has_no_room_and_does_not_drain() -> None:
    loads = LoadTable(memoryview(bytearray(load_table_bytes(8))))
    assert host_state(loads, 1.0, 0.98, relays=2) == HostState(0, 0, 0, relays=2)
