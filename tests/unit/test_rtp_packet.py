"""RTP packets against aiortc's bytes and against RFC 3550 §5.1, field by field."""

import pytest

from edge.errors import LocalProtocolError, RtpError
from edge.rtp.packet import RtpPacket, decode_rtp, encode_rtp

# Serialised by aiortc 1.16 (rtp.RtpPacket.serialize): extension with mid and audio level.
AIORTC_EXTENSION = bytes.fromhex("90effffffffffc409fb0f1a3bede00014030a0aaf8fffe")
# Likewise: two CSRCs and five bytes of padding, four of them random.
AIORTC_CSRC_PADDING = bytes.fromhex("a2080001000000020000000300000007000000086162639b900af005")

PLAIN = RtpPacket(
    payload_type=111,
    marker=False,
    sequence_number=0x1234,
    timestamp=0x89ABCDEF,
    ssrc=0xDEADBEEF,
    payload=b"opus",
)


def test_decodes_a_packet_with_extension() -> None:
    packet = decode_rtp(AIORTC_EXTENSION)
    assert packet == RtpPacket(
        payload_type=111,
        marker=True,
        sequence_number=65535,
        timestamp=2**32 - 960,
        ssrc=0x9FB0F1A3,
        payload=b"\xf8\xff\xfe",
        extension=(0xBEDE, b"\x40\x30\xa0\xaa"),
    )
    assert encode_rtp(packet) == AIORTC_EXTENSION


def test_leaves_out_csrc_list_and_padding() -> None:
    assert decode_rtp(AIORTC_CSRC_PADDING) == RtpPacket(
        payload_type=8, marker=False, sequence_number=1, timestamp=2, ssrc=3, payload=b"abc"
    )


def test_encodes_the_fixed_header() -> None:
    assert encode_rtp(PLAIN) == bytes.fromhex("806f123489abcdefdeadbeef") + b"opus"
    assert encode_rtp(PLAIN._replace(marker=True))[1] == 0xEF


def test_decodes_an_empty_payload() -> None:
    assert decode_rtp(encode_rtp(PLAIN)[:12]).payload == b""
    only_padding = bytearray(AIORTC_CSRC_PADDING)
    only_padding[-1] = 8
    assert decode_rtp(bytes(only_padding)).payload == b""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "rtp-truncated"),
        (AIORTC_EXTENSION[:11], "rtp-truncated"),
        (b"\x40" + AIORTC_EXTENSION[1:], "rtp-version"),
        (b"\xd0" + AIORTC_EXTENSION[1:], "rtp-version"),
        (b"\x8f" + AIORTC_EXTENSION[1:], "rtp-csrc"),
        (AIORTC_CSRC_PADDING[:19], "rtp-csrc"),
        (AIORTC_EXTENSION[:15], "rtp-extension"),
        (AIORTC_EXTENSION[:19], "rtp-extension"),
        (AIORTC_CSRC_PADDING[:-1] + b"\x00", "rtp-padding"),
        (AIORTC_CSRC_PADDING[:-1] + b"\x09", "rtp-padding"),
        (AIORTC_CSRC_PADDING[:-1] + b"\xff", "rtp-padding"),
    ],
)
def test_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(RtpError) as caught:
        decode_rtp(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "packet",
    [
        PLAIN._replace(payload_type=128),
        PLAIN._replace(payload_type=-1),
        PLAIN._replace(sequence_number=65536),
        PLAIN._replace(timestamp=2**32),
        PLAIN._replace(ssrc=-1),
        PLAIN._replace(extension=(0xBEDE, b"\x10\x00\x00")),
        PLAIN._replace(extension=(0x1_0000, b"")),
    ],
)
def test_encoding_a_field_out_of_range_is_our_bug(packet: RtpPacket) -> None:
    with pytest.raises(LocalProtocolError):
        encode_rtp(packet)
