"""RFC 5769 §2.1 to §2.3: sample request, IPv4 response and IPv6 response, byte for byte."""

import pytest

from edge.errors import StunError
from edge.ice.credentials import Credentials
from edge.ice.message import decode_message
from edge.ice.stun import Refusal, Success, decode_request, decode_response
from edge.machine import Address

# §2: the responder's credentials; the username is "evtj:h6vY".
RESPONDER = Credentials("evtj", "VOkJxbRl1RmTxUk/WvJxBt")
TRANSACTION_ID = bytes.fromhex("b7e7a701 bc34d686 fa87dfae")

REQUEST = bytes.fromhex(
    """
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff
    80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf
    """
)
IPV4_RESPONSE = bytes.fromhex(
    """
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96
    """
)
IPV6_RESPONSE = bytes.fromhex(
    """
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c
    """
)


def test_sample_request() -> None:
    """It is authentic, but its sender takes itself for controlled, as we always are."""
    assert decode_request(REQUEST, RESPONDER) == Refusal(TRANSACTION_ID, 487)
    attributes = decode_message(REQUEST).attributes
    assert attributes[0x8022] == b"STUN test client"
    assert attributes[0x0024] == bytes.fromhex("6e0001ff")
    assert attributes[0x8029] == bytes.fromhex("932ff9b151263b36")


def test_sample_ipv4_response() -> None:
    success = Success(TRANSACTION_ID, Address("192.0.2.1", 32853))
    assert decode_response(IPV4_RESPONSE, RESPONDER) == success


def test_sample_ipv6_response() -> None:
    mapped = Address("2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert decode_response(IPV6_RESPONSE, RESPONDER) == Success(TRANSACTION_ID, mapped)


@pytest.mark.parametrize("sample", [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE])
def test_every_flipped_bit_is_refused(sample: bytes) -> None:
    decode = decode_request if sample is REQUEST else decode_response
    for bit in range(len(sample) * 8):
        flipped = bytearray(sample)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(StunError):
            decode(bytes(flipped), RESPONDER)


@pytest.mark.parametrize("sample", [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE])
def test_another_password_is_refused(sample: bytes) -> None:
    decode = decode_request if sample is REQUEST else decode_response
    with pytest.raises(StunError) as refusal:
        decode(sample, Credentials("evtj", "VOkJxbRl1RmTxUk/WvJxBu"))
    assert refusal.value.reason == "bad-integrity"
