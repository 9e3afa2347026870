"""The flow mirror: shared between workers, torn without harm, expiring, bounded."""

from edge.routing.flows import UNKNOWN, FlowTable, Verdict
from edge.routing.shared import ENTRY_BYTES, PROBES, FlowMirror, table_bytes

LIFETIME = 45


def make_memory(flows_max: int = 100) -> memoryview:
    return memoryview(bytearray(table_bytes(flows_max)))


def client(number: int) -> bytes:
    return number.to_bytes(28)


def test_what_one_worker_stores_another_finds() -> None:
    memory = make_memory()
    one, other = (FlowMirror(memory, 0, LIFETIME) for _ in range(2))
    one.store(client(1), 3)
    assert other.find(client(1)) == 3
    assert other.find(client(2)) is None
    other.store(client(1), 4)
    assert one.find(client(1)) == 4
    one.remove(client(1))
    assert other.find(client(1)) is None


def test_public_sockets_do_not_share_flows() -> None:
    memory = make_memory()
    first, second = (FlowMirror(memory, index, LIFETIME) for index in range(2))
    first.store(client(1), 3)
    assert second.find(client(1)) is None


def test_flows_live_from_their_last_touch() -> None:
    mirror = FlowMirror(make_memory(), 0, LIFETIME)
    mirror.now = 1000
    mirror.store(client(1), 3)
    mirror.now += LIFETIME
    assert mirror.find(client(1)) == 3
    mirror.touch(client(1))
    mirror.now += LIFETIME
    assert mirror.find(client(1)) == 3
    mirror.now += 1
    assert mirror.find(client(1)) is None
    mirror.touch(client(1))
    assert mirror.find(client(1)) is None, "what is gone is not revived"


def test_a_clock_slightly_behind_the_writers_is_no_expiry() -> None:
    memory = make_memory()
    ahead, behind = (FlowMirror(memory, 0, LIFETIME) for _ in range(2))
    ahead.now, behind.now = 100, 85
    ahead.store(client(1), 3)
    assert behind.find(client(1)) == 3


def test_a_torn_entry_is_no_flow() -> None:
    memory = make_memory()
    mirror = FlowMirror(memory, 0, LIFETIME)
    mirror.store(client(1), 3)
    for position in range(len(memory)):
        if memory[position]:
            saved, memory[position] = memory[position], memory[position] ^ 0x10
            owner = mirror.find(client(1))
            in_time_stamp = position % ENTRY_BYTES in range(36, 40)
            assert owner is None or (in_time_stamp and owner == 3)
            memory[position] = saved
    assert mirror.find(client(1)) == 3


def test_a_key_is_found_at_entry_borders_only() -> None:
    """An address whose bytes stand across two entries is not taken for a flow."""
    memory = make_memory(1)
    mirror = FlowMirror(memory, 0, LIFETIME)
    key = client(7) + b"\0\0"
    for shift in range(1, ENTRY_BYTES):
        memory[:] = bytes(len(memory))
        memory[shift : shift + len(key)] = key
        assert mirror.find(client(7)) is None


def test_it_holds_what_it_was_made_for_and_counts_the_rest() -> None:
    mirror = FlowMirror(make_memory(1000), 0, LIFETIME)
    for number in range(1000):
        mirror.store(client(number), number & 0xFF)
    assert mirror.full == 0
    assert all(mirror.find(client(number)) == number & 0xFF for number in range(1000))
    for number in range(1000, 10_000):
        mirror.store(client(number), 1)
    assert mirror.full > 0
    mirror.now += LIFETIME + 1
    full = mirror.full
    for number in range(20_000, 21_000):
        mirror.store(client(number), 2)
    assert mirror.full == full, "expired entries make room"


def test_the_smallest_table_has_one_window() -> None:
    mirror = FlowMirror(memoryview(bytearray(PROBES * ENTRY_BYTES)), 0, LIFETIME)
    for number in range(PROBES + 1):
        mirror.store(client(number), number)
    assert mirror.full == 1
    assert mirror.find(client(PROBES - 1)) == PROBES - 1


def test_a_successor_takes_over_flows_and_their_protection() -> None:
    memory = make_memory()
    killed = FlowTable(100, 10, FlowMirror(memory, 0, LIFETIME))
    killed.confirm(client(1), 3)
    successor = FlowTable(100, 10, FlowMirror(memory, 0, LIFETIME))
    assert not successor.propose(client(1), 5), "another's valid ufrag"
    assert successor.confirm(client(1), 5) is Verdict.CONFLICT
    assert successor.find(client(1)) == 3
    assert successor.current == {client(1): 3}
    assert successor.statistics().taken_over == 1


def test_a_release_anywhere_is_a_release_in_the_mirror() -> None:
    memory = make_memory()
    one, other = (FlowTable(100, 10, FlowMirror(memory, 0, LIFETIME)) for _ in range(2))
    one.confirm(client(1), 3)
    other.release(client(1), 4)
    assert other.find(client(1)) == 3
    other.release(client(1), 3)
    assert FlowTable(100, 10, FlowMirror(memory, 0, LIFETIME)).find(client(1)) == UNKNOWN
