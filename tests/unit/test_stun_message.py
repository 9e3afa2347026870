"""The structural walk: what is not a well-formed STUN message is refused, whatever it means."""

import struct

import pytest

from edge.errors import StunError
from edge.ice.message import (
    ATTRIBUTES_MAX,
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    decode_message,
    encode_attribute,
    encode_message,
)

ID = b"transaction!"
REQUEST = 0x0001


def refusal(data: bytes) -> str:
    with pytest.raises(StunError) as caught:
        decode_message(data)
    return caught.value.reason


def test_header_and_attributes_come_apart() -> None:
    attributes = encode_attribute(0x0006, b"evtj:") + encode_attribute(0x0025, b"")
    message = decode_message(encode_message(REQUEST, ID, attributes))
    assert message.kind == REQUEST
    assert message.transaction_id == ID
    assert message.attributes == {0x0006: b"evtj:", 0x0025: b""}
    assert message.integrity_offset is None
    assert message.fingerprint is None


def test_padding_is_not_counted_and_may_hold_anything() -> None:
    padded = struct.pack("!HH", 0x0006, 5) + b"evtj:\xff\x20\x00"
    message = decode_message(encode_message(REQUEST, ID, padded + encode_attribute(0x24, b"1234")))
    assert message.attributes == {0x0006: b"evtj:", 0x0024: b"1234"}


def test_the_first_of_several_counts() -> None:
    attributes = encode_attribute(0x0006, b"first") + encode_attribute(0x0006, b"second")
    assert decode_message(encode_message(REQUEST, ID, attributes)).attributes == {6: b"first"}


@pytest.mark.parametrize("last", [MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256])
def test_nothing_counts_after_integrity_but_fingerprint(last: int) -> None:
    attributes = (
        encode_attribute(0x0024, b"1234")
        + encode_attribute(last, bytes(20))
        + encode_attribute(0x0025, b"")
        + encode_attribute(MESSAGE_INTEGRITY, bytes(20))
        + encode_attribute(FINGERPRINT, b"abcd")
    )
    message = decode_message(encode_message(REQUEST, ID, attributes))
    assert message.attributes == {0x0024: b"1234", last: bytes(20)}
    assert message.integrity_offset == (28 if last == MESSAGE_INTEGRITY else None)
    assert message.fingerprint == b"abcd"


GOOD = encode_message(REQUEST, ID, encode_attribute(0x0006, b"evtj:h6vY"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(GOOD[:19], id="cut-header"),
        pytest.param(GOOD[:-4], id="cut-attribute"),
        pytest.param(GOOD + bytes(4), id="longer-than-it-says"),
        pytest.param(b"\x40" + GOOD[1:], id="second-bit-set"),
        pytest.param(b"\x80" + GOOD[1:], id="first-bit-set"),
        pytest.param(GOOD[:4] + b"\x21\x12\xa4\x43" + GOOD[8:], id="no-cookie"),
        pytest.param(GOOD[:2] + b"\x00\x0f" + GOOD[4:-1], id="length-not-a-multiple-of-4"),
        pytest.param(GOOD[:22] + b"\x00\x0d" + GOOD[24:], id="attribute-overruns-by-1"),
        pytest.param(GOOD[:22] + b"\xff\xff" + GOOD[24:], id="attribute-overruns-by-far"),
        pytest.param(
            encode_message(
                REQUEST, ID, encode_attribute(FINGERPRINT, b"abcd") + encode_attribute(6, b"x")
            ),
            id="fingerprint-not-last",
        ),
        pytest.param(
            encode_message(REQUEST, ID, encode_attribute(FINGERPRINT, b"abcdefgh")),
            id="fingerprint-too-long",
        ),
        pytest.param(
            encode_message(REQUEST, ID, encode_attribute(FINGERPRINT, b"")),
            id="fingerprint-too-short",
        ),
    ],
)
def test_bad_structure_is_malformed(data: bytes) -> None:
    assert refusal(data) == "malformed"


def test_the_number_of_attributes_is_capped() -> None:
    one = encode_attribute(0x8000, b"")
    decode_message(encode_message(REQUEST, ID, one * ATTRIBUTES_MAX))
    assert refusal(encode_message(REQUEST, ID, one * (ATTRIBUTES_MAX + 1))) == (
        "too-many-attributes"
    )


def test_more_than_a_datagram_is_oversized() -> None:
    decode_message(encode_message(REQUEST, ID, encode_attribute(0x8000, bytes(1476))))
    assert refusal(encode_message(REQUEST, ID, encode_attribute(0x8000, bytes(1480)))) == (
        "oversized"
    )
