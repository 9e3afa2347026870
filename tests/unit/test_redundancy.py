"""RFC 2198 payloads."""

import pytest

from edge.errors import RtpError
from edge.rtp.redundancy import BLOCKS_MAX, RedundantBlock, decode_redundancy


def test_primary_alone() -> None:
    assert decode_redundancy(b"\x6fsound") == (RedundantBlock(111, 0, b"sound"),)


def test_two_redundant_blocks() -> None:
    # As Chromium builds them for 20 ms of Opus, payload type 111: 1920 and 960 ticks back.
    headers = bytes.fromhex("ef1e0003 ef0f0002 6f")
    assert decode_redundancy(headers + b"old" + b"er" + b"new") == (
        RedundantBlock(111, 1920, b"old"),
        RedundantBlock(111, 960, b"er"),
        RedundantBlock(111, 0, b"new"),
    )


def test_shape_of_the_rfcs_example() -> None:
    # RFC 2198 §5: 14 bytes of LPC (payload type 7), 20 ms before DVI4 (5) at 8 kHz.
    payload = bytes.fromhex("8702800e05") + bytes(14) + bytes(84)
    assert decode_redundancy(payload) == (
        RedundantBlock(7, 160, bytes(14)),
        RedundantBlock(5, 0, bytes(84)),
    )


def test_largest_offset_and_length() -> None:
    payload = b"\xffabc".replace(b"abc", b"\xff\xff\xff") + b"\x01" + bytes(1023)
    assert decode_redundancy(payload) == (
        RedundantBlock(127, 0x3FFF, bytes(1023)),
        RedundantBlock(1, 0, b""),
    )


@pytest.mark.parametrize(
    "payload",
    ["", "ef", "ef0f00", "ef0f0002", "ef0f00026f", "ef0f00026f01"],
)
def test_truncated(payload: str) -> None:
    with pytest.raises(RtpError) as caught:
        decode_redundancy(bytes.fromhex(payload))
    assert caught.value.reason == "redundancy-truncated"


def test_too_many_blocks() -> None:
    header = bytes.fromhex("ef000000")
    assert len(decode_redundancy(header * (BLOCKS_MAX - 1) + b"\x6f")) == BLOCKS_MAX
    with pytest.raises(RtpError) as caught:
        decode_redundancy(header * BLOCKS_MAX + b"\x6f")
    assert caught.value.reason == "redundancy-blocks"
