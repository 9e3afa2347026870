"""The handshake and the records of the control channel between hosts, on the wire."""

import itertools
import os
from collections.abc import Callable

import pytest

from edge.errors import FleetError, LocalProtocolError
from edge.fleet.map import FleetKey
from edge.fleet.seal import KeyRing
from edge.fleet.secure import MESSAGE_BYTES_MAX, SecureEnd

OLD, NEW = FleetKey(1, bytes(range(32))), FleetKey(2, bytes(range(32, 64)))
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
HELLO = 38
PROOF = 4 + 16


def caller(*keys: FleetKey, here: str = A, there: str = B) -> SecureEnd:
    return SecureEnd(KeyRing(keys or (OLD,)), here, there, calls=True, entropy=os.urandom)


def answerer(*keys: FleetKey, here: str = B, there: str = A) -> SecureEnd:
    return SecureEnd(KeyRing(keys or (OLD,)), here, there, calls=False, entropy=os.urandom)


def join(one: SecureEnd, other: SecureEnd) -> None:
    """Carry the handshake over."""
    for _ in range(3):
        assert other.feed(one.next_bytes()) == []
        assert one.feed(other.next_bytes()) == []


def joined() -> tuple[SecureEnd, SecureEnd]:
    one, other = caller(), answerer()
    join(one, other)
    assert one.established
    assert other.established
    return one, other


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(FleetError) as caught:
        act()
    return caught.value.reason


def test_messages_go_both_ways_however_the_stream_is_cut() -> None:
    one, other = joined()
    stream = b"".join(one.frame(b"%d" % number) for number in range(20))
    arrived = [each for at in range(len(stream)) for each in other.feed(stream[at : at + 1])]
    assert arrived == [b"%d" % number for number in range(20)]
    assert one.feed(other.frame(b"back") + other.frame(b"again")) == [b"back", b"again"]


def test_the_handshake_may_arrive_byte_by_byte() -> None:
    one, other = caller(), answerer()
    for _ in range(3):
        for source, sink in ((one, other), (other, one)):
            for byte in source.next_bytes():
                sink.feed(bytes([byte]))
    assert one.established
    assert other.established


def test_a_message_right_behind_the_proof_is_taken() -> None:
    one, other = caller(), answerer()
    other.feed(one.next_bytes())
    one.feed(other.next_bytes())
    assert other.feed(one.next_bytes() + one.frame(b"early")) == [b"early"]


def test_nothing_is_said_before_the_other_end_is_known() -> None:
    one, other = caller(), answerer()
    with pytest.raises(LocalProtocolError):
        one.frame(b"secret")
    other.feed(one.next_bytes())
    with pytest.raises(LocalProtocolError):
        other.frame(b"secret")


def test_what_is_sent_is_not_to_be_read() -> None:
    one, _ = joined()
    assert b"password" not in one.frame(b"the password is password")


@pytest.mark.parametrize(
    ("calling", "answering"),
    [
        ((FleetKey(1, bytes(32)),), (OLD,)),
        ((OLD,), (FleetKey(1, bytes(32)),)),
    ],
)
def test_another_key_with_the_same_id_is_found_out(
    calling: tuple[FleetKey, ...], answering: tuple[FleetKey, ...]
) -> None:
    one, other = caller(*calling), answerer(*answering)
    other.feed(one.next_bytes())
    assert refusal(lambda: one.feed(other.next_bytes())) == "forged"
    assert not one.established


def test_an_answerer_believes_no_caller_without_the_key() -> None:
    one, other = caller(), answerer()
    other.feed(one.next_bytes())
    assert refusal(lambda: other.feed((16).to_bytes(4) + bytes(16))) == "forged"
    assert not other.established


@pytest.mark.parametrize(("here", "there"), [(C, B), (A, C)])
def test_the_addresses_of_both_ends_count(here: str, there: str) -> None:
    one, other = caller(here=here, there=there), answerer()
    other.feed(one.next_bytes())
    assert refusal(lambda: one.feed(other.next_bytes())) == "forged"


def test_keys_rotate_without_a_refusal() -> None:
    """A key is added behind everywhere, then put first everywhere, then the old one goes."""
    stages = [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]
    for before, after in itertools.pairwise(stages):
        for calling, answering in ((before, after), (after, before)):
            one, other = caller(*calling), answerer(*answering)
            join(one, other)
            assert one.established
            assert other.established
            assert one.key_is_first
            assert one.key_in_force
            assert other.key_in_force


def test_an_end_knows_when_its_key_has_been_removed() -> None:
    for calls in (True, False):
        ring = KeyRing((OLD,))
        one = SecureEnd(ring, A, B, calls=calls, entropy=os.urandom)
        join(one, answerer(here=B, there=A)) if calls else join(caller(here=B, there=A), one)
        for keys, in_force, is_first in (
            ((OLD, NEW), True, True),
            ((NEW, OLD), True, False),
            ((NEW,), False, False),
            ((FleetKey(OLD.id, NEW.key),), False, False),
            ((OLD,), True, True),
        ):
            ring.use(keys)
            assert (one.key_in_force, one.key_is_first) == (in_force, is_first)


def test_a_key_that_has_gone_is_refused() -> None:
    assert refusal(lambda: answerer(NEW).feed(caller(OLD).next_bytes())) == "unknown-key"


def test_an_answer_with_another_key_is_refused() -> None:
    one, other = caller(OLD, NEW), answerer(OLD, NEW)
    other.feed(one.next_bytes())
    answer = bytearray(other.next_bytes())
    answer[5] = NEW.id
    assert refusal(lambda: one.feed(bytes(answer))) == "unknown-key"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "malformed"),
        (b"x", "malformed"),
        (b"edge\x02", "unknown-version"),
        (b"edge\x01\xff" + bytes(32), "unknown-key"),
    ],
)
def test_strangers_are_found_out_at_once(data: bytes, reason: str) -> None:
    other = answerer()
    assert refusal(lambda: other.feed(data)) == reason
    assert other.next_bytes() == b""


def test_a_stranger_holds_no_memory() -> None:
    one, other = caller(), answerer()
    other.feed(one.next_bytes())
    assert refusal(lambda: other.feed((1 << 18).to_bytes(4))) == "forged"


def test_a_recorded_caller_is_refused() -> None:
    """The answerer's nonce is another one."""
    one, other = caller(), answerer()
    hello = one.next_bytes()
    other.feed(hello)
    one.feed(other.next_bytes())
    rest = one.next_bytes() + one.frame(b"open")
    assert other.feed(rest) == [b"open"]
    again = answerer()
    again.feed(hello)
    assert refusal(lambda: again.feed(rest)) == "forged"


def test_a_caller_is_not_answered_with_its_own_words() -> None:
    one = caller(there=A)
    hello = one.next_bytes()
    mirror = answerer(here=A, there=A)
    mirror.feed(hello)
    proof = mirror.next_bytes()[HELLO:]
    assert refusal(lambda: one.feed(hello + proof)) == "forged"


@pytest.mark.parametrize("at", [0, 3, 4, 10, -1])
def test_a_changed_record_ends_the_connection(at: int) -> None:
    one, other = joined()
    record = bytearray(one.frame(b"attach 7"))
    record[at] ^= 1
    rest = bytes(2 * MESSAGE_BYTES_MAX)  # whatever length it waits for
    assert refusal(lambda: other.feed(bytes(record) + rest)) in {"forged", "too-long"}


def test_records_are_taken_once_and_in_order() -> None:
    for order in ([0, 0], [1, 0], [0, 2]):
        one, other = joined()
        records = [one.frame(b"%d" % number) for number in range(3)]
        assert refusal(lambda: [other.feed(records[each]) for each in order]) == "forged"  # noqa: B023


def test_a_record_does_not_fit_the_other_direction_or_connection() -> None:
    one, other = joined()
    _, another = joined()
    record = one.frame(b"1")
    assert refusal(lambda: one.feed(record)) == "forged"
    assert refusal(lambda: another.feed(record)) == "forged"
    assert other.feed(record) == [b"1"]


def test_half_a_record_is_no_message() -> None:
    one, other = joined()
    record = one.frame(b"close 7")
    assert other.feed(record[:-1]) == []


def test_messages_are_bounded() -> None:
    one, other = joined()
    largest = bytes(MESSAGE_BYTES_MAX)
    assert other.feed(one.frame(largest)) == [largest]
    for message in (b"", bytes(MESSAGE_BYTES_MAX + 1)):
        with pytest.raises(LocalProtocolError):
            one.frame(message)
    too_long = (MESSAGE_BYTES_MAX + 17).to_bytes(4)
    assert refusal(lambda: other.feed(too_long)) == "too-long"
