"""Whatever Redis sends and holds: a value, or the one error."""

from hypothesis import given
from hypothesis import strategies as st

from edge.directory.flow_entry import Owner, decode_flow, encode_flow
from edge.directory.host_entry import HostEntry, HostName, SlotLoad, decode_host, encode_host
from edge.directory.signing import Signer
from edge.errors import StoreError
from edge.redis.pipeline import Pipeline
from edge.redis.resp import Replies

SIGNER = Signer.of([(1, b"k" * 32)])
NAME, PLACE = b"n" * 16, b"edge:hosts"
NOW = 1_800_000_000.0

numbers = st.integers(0, 0xFFFF)
slots = st.builds(
    SlotLoad,
    st.integers(0, 63),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.5, 0.985, 1.0]),
    draining=st.booleans(),
)
addresses = st.ip_addresses().map(str)
entries = st.builds(
    HostEntry,
    st.builds(HostName, numbers, st.integers(0, 255)),
    addresses,
    st.integers(1024, 65_535 - 63),
    st.lists(slots, max_size=64).map(tuple),
    st.integers(0, 2**40).map(lambda milliseconds: milliseconds / 1000),
)
resp = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"*", b"$", b"%", b"~", b":", b"+", b"-", b"_", b"#t", b",", b"(", b"=", b">", b"|"]
        ),
        st.sampled_from([b"0", b"1", b"2", b"-1", b"inf", b"nan", b"txt:a", b"99999999999999"]),
        st.just(b"\r\n"),
    ),
    max_size=30,
).map(b"".join)


@given(st.builds(Owner, numbers, numbers), st.floats(-5, 300))
def test_a_flow_comes_back(owner: Owner, age: float) -> None:
    value = encode_flow(SIGNER, NAME, owner, NOW)
    assert decode_flow(SIGNER, NAME, value, 300.0, NOW + age) == owner


@given(st.binary(max_size=60) | st.integers() | st.none())
def test_any_value_is_a_flow_or_not(value: object) -> None:
    try:
        decode_flow(SIGNER, NAME, value, 300.0, NOW)
    except StoreError:
        return
    raise AssertionError("nobody has signed that")


@given(entries)
def test_a_host_comes_back(entry: HostEntry) -> None:
    value = encode_host(SIGNER, PLACE, entry)
    assert decode_host(SIGNER, PLACE, entry.name.field, value) == entry


@given(st.binary(max_size=120))
def test_even_a_signed_body_is_a_host_or_not(body: bytes) -> None:
    field = b"1.2"
    value = SIGNER.sign(PLACE + field, b"\1\0\1\2" + body)
    try:
        entry = decode_host(SIGNER, PLACE, field, value)
    except StoreError:
        return
    assert entry.name == HostName(1, 2)


@given(st.lists(resp, max_size=5))
def test_any_bytes_are_replies_or_the_end_of_the_connection(parts: list[bytes]) -> None:
    replies = Replies()
    try:
        for part in parts:
            replies.receive(part)
    except StoreError:
        return


@given(st.lists(resp, max_size=5), st.integers(0, 5))
def test_everybody_who_waits_is_told_once(parts: list[bytes], waiting: int) -> None:
    pipeline, told = Pipeline(1.0), [0] * waiting

    def done(number: int) -> None:
        told[number] += 1

    for number in range(waiting):
        pipeline.submit(lambda _, n=number: done(n), "PING", now=0.0)  # type: ignore[misc]
    try:
        for part in parts:
            pipeline.receive(part)
    except StoreError as exc:
        pipeline.fail(exc)
    else:
        pipeline.fail(StoreError("redis-lost"))
    assert told == [1] * waiting
