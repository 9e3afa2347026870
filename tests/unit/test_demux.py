"""RFC 7983 §7 and RFC 5761 §4, over every first byte."""

import pytest

from edge.demux import Kind, classify


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        *((first, Kind.STUN) for first in range(4)),
        *((first, Kind.UNKNOWN) for first in range(4, 20)),  # unassigned, ZRTP
        *((first, Kind.DTLS) for first in range(20, 64)),
        *((first, Kind.UNKNOWN) for first in range(64, 128)),  # TURN channels, QUIC
        *((first, Kind.RTP) for first in range(128, 192)),
        *((first, Kind.UNKNOWN) for first in range(192, 256)),  # QUIC
    ],
)
def test_first_byte_decides(first: int, kind: Kind) -> None:
    assert classify(bytes([first, 0x60])) is kind


@pytest.mark.parametrize("second", [192, 200, 201, 205, 223])
def test_rtcp_packet_types_are_rtcp(second: int) -> None:
    assert classify(bytes([0x80, second])) is Kind.RTCP


@pytest.mark.parametrize("second", [0, 111, 111 | 0x80, 191, 224])
def test_other_second_bytes_are_rtp(second: int) -> None:
    assert classify(bytes([0x80, second])) is Kind.RTP


def test_empty_and_one_byte_datagrams() -> None:
    assert classify(b"") is Kind.UNKNOWN
    assert classify(b"\x80") is Kind.RTP
