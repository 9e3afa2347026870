"""STUN: any bytes become a value or a StunError, and what is encoded decodes to itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import StunError
from edge.ice.credentials import Credentials
from edge.ice.message import Message, StunReason, decode_message
from edge.ice.stun import (
    Check,
    Refusal,
    Success,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from edge.machine import Address
from tests.support.stun_messages import seal

ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
LOCAL = Credentials("YbzzFnV+ByDtEbRvszE+6OYL", "localpasswordlocalpassword")

transaction_ids = st.binary(min_size=12, max_size=12)
addresses = st.builds(
    Address,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(0, 0xFFFF),
    st.just(0),
)
credentials = st.builds(
    Credentials,
    st.text(ICE_CHARS, min_size=4, max_size=32),
    st.text(ICE_CHARS, min_size=22, max_size=40),
)
usernames = st.sampled_from([f"{LOCAL.ufrag}:h6vY".encode(), b"evtj:h6vY", LOCAL.ufrag.encode()])
kinds = st.sampled_from([0x0001, 0x0011, 0x0101, 0x0111, 0x0003])
attributes = st.lists(
    st.one_of(
        st.tuples(st.just(0x0006), st.one_of(usernames, st.binary(max_size=12))),
        st.tuples(
            st.sampled_from([0x0001, 0x0008, 0x0009, 0x000A, 0x001C, 0x0020, 0x0024, 0x0025]),
            st.binary(max_size=24),
        ),
        st.tuples(st.sampled_from([0x8028, 0x8029, 0x802A, 0xC057]), st.binary(max_size=8)),
        st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=8)),
    ),
    max_size=12,
)


def decode_all(data: bytes) -> list[Message | Check | Success | Refusal]:
    """Run every decoder and return the values, after asking that the rest were StunErrors."""
    values: list[Message | Check | Success | Refusal] = []
    for decode in (
        decode_message,
        lambda one: decode_request(one, LOCAL),
        lambda one: decode_response(one, LOCAL),
    ):
        try:
            values.append(decode(data))
        except StunError as exc:
            assert exc.reason in set(StunReason)  # noqa: PT017 (which error is the point)
    return values


@given(st.binary(max_size=1600))
@settings(max_examples=300)
def test_any_bytes_are_a_value_or_a_stun_error(data: bytes) -> None:
    decode_all(data)


@given(
    st.integers(0, 0x3FFF), transaction_ids, st.binary(max_size=400).map(lambda b: b[: len(b) & ~3])
)
@settings(max_examples=300)
def test_any_body_is_a_value_or_a_stun_error(kind: int, transaction_id: bytes, body: bytes) -> None:
    header = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42"
    decode_all(header + transaction_id + body)


@given(kinds, attributes, attributes, st.booleans())
@settings(max_examples=500)
def test_any_authentic_attributes_are_a_value_or_a_stun_error(
    kind: int,
    protected: list[tuple[int, bytes]],
    unprotected: list[tuple[int, bytes]],
    username_first: bool,
) -> None:
    if username_first:
        protected = [(0x0006, f"{LOCAL.ufrag}:h6vY".encode()), *protected]
    data = seal(protected, LOCAL.password, kind=kind, after_integrity=unprotected)
    for value in decode_all(data):
        if isinstance(value, Refusal):
            encoded = encode_response(value, LOCAL) if value.code in (400, 420, 487) else None
            assert encoded is None or len(encoded) <= 96 + 2 * len(value.unknown)


@given(st.data(), attributes)
@settings(max_examples=300)
def test_a_damaged_message_is_a_value_or_a_stun_error(
    data: st.DataObject, protected: list[tuple[int, bytes]]
) -> None:
    message = bytearray(seal(protected, LOCAL.password))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    decode_all(bytes(message[: data.draw(st.integers(0, len(message)))]))


@given(credentials, credentials, st.integers(0, 2**32 - 1), st.booleans(), transaction_ids)
def test_requests_round_trip(
    local: Credentials,
    remote: Credentials,
    priority: int,
    nominated: bool,
    transaction_id: bytes,
) -> None:
    data = encode_request(
        local=local,
        remote=remote,
        priority=priority,
        tie_breaker=priority,
        use_candidate=nominated,
        transaction_id=transaction_id,
    )
    check = Check(transaction_id, local.ufrag, priority, nominated)
    assert decode_request(data, remote) == check


responses = st.one_of(
    st.builds(Success, transaction_ids, addresses),
    st.builds(
        Refusal,
        transaction_ids,
        st.sampled_from([400, 420, 487]),
        st.lists(st.integers(0, 0x7FFF), max_size=64).map(tuple),
    ),
)


@given(responses, credentials)
def test_responses_round_trip(response: Success | Refusal, local: Credentials) -> None:
    assert decode_response(encode_response(response, local), local) == response


@given(responses, credentials, credentials)
def test_another_password_opens_nothing(
    response: Success | Refusal, local: Credentials, other: Credentials
) -> None:
    data = encode_response(response, local)
    if other.password != local.password:
        with pytest.raises(StunError):
            decode_response(data, other)
