"""What is kept in Redis: signed, bound to its place, dated; and what is not believed."""

import time

import pytest
from attrs import evolve

from edge.directory.flow_entry import Owner, decode_flow, encode_flow, flow_subject
from edge.directory.host_entry import HostEntry, HostName, SlotLoad, decode_host, encode_host
from edge.directory.hosts import HOSTS_MAX, HostDirectory
from edge.directory.signing import DirectoryKey, Signer
from edge.errors import StoreError
from edge.routing.sockaddr import encode_sockaddr

OLD = DirectoryKey.derive((1, b"a" * 32))
NEW = DirectoryKey.derive((2, b"b" * 32))
SIGNER = Signer([OLD])
CLIENT = encode_sockaddr("192.0.2.7", 4000)
PUBLIC = ("203.0.113.5", 3478)
OWNER = Owner(7, 0x1203)
NOW = 1_800_000_000.0
PLACE = b"edge:hosts"
ENTRY = HostEntry(
    HostName(7, 18),
    "10.0.0.18",
    3500,
    (SlotLoad(3, 120, 1000, 0.995, draining=False), SlotLoad(9, 4, 1000, 1.0, draining=True)),
    NOW,
)


def name_of(signer: Signer, client: bytes = CLIENT, public: tuple[str, int] = PUBLIC) -> bytes:
    return signer.names(flow_subject(client, public))[0]


def test_a_flow_comes_back_as_it_was_written() -> None:
    name = name_of(SIGNER)
    value = encode_flow(SIGNER, name, OWNER, NOW)
    assert len(name) == 16
    assert len(value) == 26
    assert decode_flow(SIGNER, name, value, 300.0, NOW + 299) == OWNER


def test_names_differ_by_client_public_address_and_key() -> None:
    other = encode_sockaddr("192.0.2.7", 4001)
    names = {
        name_of(SIGNER),
        name_of(SIGNER, other),
        name_of(SIGNER, CLIENT, ("203.0.113.6", 3478)),
        name_of(Signer([NEW])),
    }
    assert len(names) == 4
    assert b"192.0.2.7" not in b"".join(names)


def test_a_value_is_of_no_use_at_another_place() -> None:
    value = encode_flow(SIGNER, name_of(SIGNER), OWNER, NOW)
    elsewhere = name_of(SIGNER, encode_sockaddr("192.0.2.8", 4000))
    with pytest.raises(StoreError, match="entry-forged"):
        decode_flow(SIGNER, elsewhere, value, 300.0, NOW)


def test_no_changed_byte_is_believed() -> None:
    name = name_of(SIGNER)
    value = encode_flow(SIGNER, name, OWNER, NOW)
    for at in range(len(value)):
        changed = value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]
        with pytest.raises(StoreError):
            decode_flow(SIGNER, name, changed, 300.0, NOW)
    for length in range(len(value)):
        with pytest.raises(StoreError):
            decode_flow(SIGNER, name, value[:length], 300.0, NOW)


@pytest.mark.parametrize("later", [306.0, -6.0])
def test_an_old_value_and_one_of_the_future_are_not_believed(later: float) -> None:
    name = name_of(SIGNER)
    value = encode_flow(SIGNER, name, OWNER, NOW)
    with pytest.raises(StoreError, match="entry-stale"):
        decode_flow(SIGNER, name, value, 300.0, NOW + later)


@pytest.mark.parametrize("junk", [None, 5, b"", b"x" * 26, [b"x"], StoreError("redis-refused")])
def test_junk_is_not_believed(junk: object) -> None:
    with pytest.raises(StoreError):
        decode_flow(SIGNER, name_of(SIGNER), junk, 300.0, NOW)


def test_keys_rotate() -> None:
    both_old_first, both_new_first = Signer([OLD, NEW]), Signer([NEW, OLD])
    old_name = name_of(SIGNER)
    value = encode_flow(SIGNER, old_name, OWNER, NOW)
    assert old_name in both_new_first.names(flow_subject(CLIENT, PUBLIC))
    assert decode_flow(both_new_first, old_name, value, 300.0, NOW) == OWNER
    new_name = name_of(both_new_first)
    value = encode_flow(both_new_first, new_name, OWNER, NOW)
    assert decode_flow(both_old_first, new_name, value, 300.0, NOW) == OWNER
    with pytest.raises(StoreError, match="entry-unknown-key"):
        decode_flow(SIGNER, new_name, value, 300.0, NOW)


def test_keys_never_show() -> None:
    assert "key=" not in repr(OLD)


@pytest.mark.parametrize("internal", ["10.0.0.18", "2001:db8::18"])
def test_a_host_comes_back_as_it_was_written(internal: str) -> None:
    entry = evolve(ENTRY, internal=internal)
    value = encode_host(SIGNER, PLACE, entry)
    assert decode_host(SIGNER, PLACE, b"7.18", value) == entry


def test_a_host_cannot_stand_in_for_another_one() -> None:
    value = encode_host(SIGNER, PLACE, ENTRY)
    with pytest.raises(StoreError, match="entry-forged"):
        decode_host(SIGNER, PLACE, b"7.19", value)
    with pytest.raises(StoreError, match="entry-forged"):
        decode_host(SIGNER, b"other:hosts", b"7.18", value)


def make_directory() -> HostDirectory:
    return HostDirectory(SIGNER, PLACE)


def note(directory: HostDirectory, entry: HostEntry, now: float) -> None:
    directory.note(entry.name.field, encode_host(SIGNER, PLACE, entry), now)


def test_a_registered_worker_has_an_address_until_its_host_does_not_renew_it() -> None:
    directory = make_directory()
    note(directory, ENTRY, NOW + 1)
    assert directory.places() == {
        (7, 0x1203): ("10.0.0.18", 3503),
        (7, 0x1209): ("10.0.0.18", 3509),
    }
    directory.prune(NOW + 14)
    assert len(directory) == 1
    directory.prune(NOW + 16)
    assert directory.places() == {}


def test_a_host_that_moves_leaves_its_old_address() -> None:
    directory = make_directory()
    note(directory, ENTRY, NOW)
    note(directory, evolve(ENTRY, internal="10.0.0.99", written_at=NOW + 3), NOW + 3)
    assert directory.places()[7, 0x1203] == ("10.0.0.99", 3503)


def test_an_older_entry_takes_nothing_back() -> None:
    directory = make_directory()
    note(directory, evolve(ENTRY, internal="10.0.0.99", written_at=NOW + 3), NOW + 3)
    note(directory, ENTRY, NOW + 4)
    assert directory.places()[7, 0x1203] == ("10.0.0.99", 3503)
    assert directory.drops == {"entry-stale": 1}


def test_what_was_read_while_the_clock_was_ahead_gives_way_once_it_is_right() -> None:
    directory = make_directory()
    ahead = NOW + 3600
    gone = evolve(ENTRY, name=HostName(7, 19), written_at=ahead)
    for entry in (evolve(ENTRY, written_at=ahead), gone):
        note(directory, entry, ahead)
    note(directory, evolve(ENTRY, internal="10.0.0.99"), NOW)
    assert directory.places()[7, 0x1203] == ("10.0.0.99", 3503)
    assert not directory.drops
    assert len(directory) == 2
    directory.prune(NOW)
    assert len(directory) == 1, "the other one has not renewed its entry since"


def test_forged_stale_and_odd_entries_are_counted_and_lead_nowhere() -> None:
    directory = make_directory()
    note(directory, evolve(ENTRY, written_at=NOW - 60), NOW)
    stranger = encode_host(Signer([NEW]), PLACE, ENTRY)
    directory.note(b"7.18", stranger, NOW)
    directory.note(b"7.18", b"junk" * 20, NOW)
    directory.note(None, 5, NOW)
    assert len(directory) == 0
    assert directory.drops == {
        "entry-stale": 1,
        "entry-unknown-key": 2,
        "entry-malformed": 1,
    }


def test_the_number_of_hosts_is_bounded() -> None:
    directory = make_directory()
    for number in range(HOSTS_MAX + 3):
        name = HostName(number // 256, number % 256)
        note(directory, evolve(ENTRY, name=name, slots=()), NOW)
    assert len(directory) == HOSTS_MAX
    assert directory.drops == {"entry-too-many": 3}


def test_what_signing_costs() -> None:
    """For a flow: name, value and the way back; printed, and bounded far above what it takes."""
    began = time.perf_counter()
    for _ in range(1000):
        name = name_of(SIGNER)
        decode_flow(SIGNER, name, encode_flow(SIGNER, name, OWNER, NOW), 300.0, NOW)
    took = (time.perf_counter() - began) / 1000
    print(f"name + write + read of a flow: {took * 1e6:.1f} µs")
    assert took < 1e-3


def test_a_slot_that_no_host_has_is_not_believed() -> None:
    odd = evolve(ENTRY, slots=(SlotLoad(64, 0, 1, 1.0, draining=False),))
    directory = make_directory()
    note(directory, odd, NOW)
    assert directory.drops == {"entry-malformed": 1}
