"""RTCP packets against aiortc's bytes and RFC 3550 §6."""

import pytest

from edge.errors import LocalProtocolError, RtpError
from edge.rtp.rtcp import (
    Goodbye,
    OtherPacket,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    decode_rtcp,
    encode_rtcp,
)

BLOCK = ReportBlock(
    ssrc=0x11223344,
    fraction_lost=64,
    packets_lost=-2,
    highest_sequence=0x1FFFE,
    jitter=1234,
    last_sender_report=0xB7052000,
    delay_since_last=0x54000,
)
SSRC = 0x55667788
SENDER_REPORT = SenderReport(SSRC, 0xB44DB705_20000000, 160, 3, 300, (BLOCK,))

# Serialised by aiortc 1.16: bytes() of RtcpSrPacket, RtcpRrPacket, RtcpSdesPacket, RtcpByePacket.
SR = bytes.fromhex(
    "81c8000c55667788b44db70520000000000000a0000000030000012c"
    "1122334440fffffe0001fffe000004d2b705200000054000"
)
RR = bytes.fromhex("81c90007556677881122334440fffffe0001fffe000004d2b705200000054000")
SDES = bytes.fromhex("81ca0006556677880110303132333435363738396162636465660000")
BYE = bytes.fromhex("81cb000155667788")
PADDED_BYE = bytes.fromhex("a1cb0003556677880000000000000008")  # by hand


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (SR, SENDER_REPORT),
        (RR, ReceiverReport(SSRC, (BLOCK,))),
        (SDES, SourceDescription(((SSRC, b"0123456789abcdef"),))),
        (BYE, Goodbye((SSRC,))),
        (bytes.fromhex("80c9000155667788"), ReceiverReport(SSRC)),
        (bytes.fromhex("81cb000355667788") + b"\x04gone\0\0\0", Goodbye((SSRC,), b"gone")),
        (bytes.fromhex("80cb0000"), Goodbye(())),
        (bytes.fromhex("8fcd0002") + b"feedback", OtherPacket(205, 15, b"feedback")),
    ],
)
def test_one_packet(data: bytes, packet: RtcpPacket) -> None:
    assert decode_rtcp(data) == (packet,)
    assert encode_rtcp([packet]) == data


def test_compound() -> None:
    packets = decode_rtcp(SR + SDES + BYE)
    assert [type(packet) for packet in packets] == [SenderReport, SourceDescription, Goodbye]
    assert encode_rtcp(packets) == SR + SDES + BYE


def test_compound_of_reduced_size() -> None:
    assert decode_rtcp(SDES + RR) == (*decode_rtcp(SDES), *decode_rtcp(RR))


def test_31_blocks() -> None:
    report = ReceiverReport(SSRC, (BLOCK,) * 31)
    assert decode_rtcp(encode_rtcp([report])) == (report,)


def test_profile_specific_extension_of_a_report_is_ignored() -> None:
    assert decode_rtcp(bytes.fromhex("80c9000255667788") + b"more") == (ReceiverReport(SSRC),)


def test_padding_at_the_end_of_a_compound() -> None:
    assert decode_rtcp(RR + PADDED_BYE) == (*decode_rtcp(RR), Goodbye((SSRC,)))


def test_description_keeps_cnames_only() -> None:
    chunks = (
        b"\0\0\0\1" + b"\x02\x03Ann" + b"\x01\x02c1" + b"\0\0\0"  # NAME, CNAME
        + b"\0\0\0\2" + b"\x03\x02me" + b"\0\0\0\0"  # EMAIL, four bytes of end
        + b"\0\0\0\3" + b"\x01\x05three" + b"\0"
    )  # fmt: skip
    data = bytes((0x83, 202, 0, len(chunks) // 4)) + chunks
    assert decode_rtcp(data) == (SourceDescription(((1, b"c1"), (3, b"three"))),)


def test_16_packets_and_no_more() -> None:
    assert len(decode_rtcp(BYE * 16)) == 16
    with pytest.raises(RtpError, match="rtcp-packet-count"):
        decode_rtcp(BYE * 17)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "rtcp-truncated"),
        (SR[:3], "rtcp-truncated"),
        (SR[:-1], "rtcp-truncated"),
        (SR + BYE[:2], "rtcp-truncated"),
        (b"\x41" + SR[1:], "rtcp-version"),
        (SR + b"\x01" + BYE[1:], "rtcp-version"),
        (b"\x82" + SR[1:], "rtcp-report"),
        (b"\x82" + RR[1:], "rtcp-report"),
        (bytes.fromhex("80c80005") + bytes(20), "rtcp-report"),
        (bytes.fromhex("80c90000"), "rtcp-report"),
        (b"\x82" + SDES[1:], "rtcp-description"),
        (bytes.fromhex("81ca0000"), "rtcp-description"),
        (bytes.fromhex("81ca000155667788"), "rtcp-description"),  # no end of items
        (bytes.fromhex("81ca00025566778801026162"), "rtcp-description"),
        (bytes.fromhex("81ca00025566778801036162"), "rtcp-description"),  # text overruns
        (bytes.fromhex("81ca00025566778801016101"), "rtcp-description"),  # type without length
        (b"\x82" + BYE[1:], "rtcp-goodbye"),
        (bytes.fromhex("81cb00025566778804676f6e"), "rtcp-goodbye"),
        (PADDED_BYE + RR, "rtcp-padding"),  # only the last may have padding
        (bytes.fromhex("a0cb0000"), "rtcp-padding"),
        (bytes.fromhex("a1cb00025566778800000000"), "rtcp-padding"),
        (bytes.fromhex("a1cb00025566778800000003"), "rtcp-padding"),
        (bytes.fromhex("a1cb0002556677880000000c"), "rtcp-padding"),
    ],
)
def test_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(RtpError) as caught:
        decode_rtcp(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "packet",
    [
        ReceiverReport(SSRC, (BLOCK,) * 32),
        ReceiverReport(2**32),
        ReceiverReport(SSRC, (ReportBlock(1, 256, 0, 0, 0, 0, 0),)),
        ReceiverReport(SSRC, (ReportBlock(1, 0, 2**23, 0, 0, 0, 0),)),
        SourceDescription(((SSRC, bytes(256)),)),
        SourceDescription(((SSRC, b"c"),) * 200),
        Goodbye((SSRC,), bytes(256)),
        OtherPacket(205, 32, b""),
        OtherPacket(205, 0, b"abc"),
        OtherPacket(256, 0, b""),
    ],
)
def test_encoding_what_does_not_fit_is_our_bug(packet: RtcpPacket) -> None:
    with pytest.raises(LocalProtocolError):
        encode_rtcp([packet])
