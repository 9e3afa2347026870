"""What a sender report says of our stream."""

from edge.rtp.packet import RtpPacket, encode_rtp
from edge.rtp.rtcp import ReportBlock, SenderReport
from edge.rtp.transmission import Transmission

SSRC = 0xCAFE


def encoded(timestamp: int, extension: tuple[int, bytes] | None = None) -> bytes:
    return encode_rtp(
        RtpPacket(
            payload_type=111,
            marker=False,
            sequence_number=1,
            timestamp=timestamp,
            ssrc=SSRC,
            payload=b"x" * 40,
            extension=extension,
        )
    )


def test_counts_payloads_only() -> None:
    transmission = Transmission(SSRC)
    transmission.send(encoded(0), 1.0)
    transmission.send(encoded(960, (0xBEDE, b"\x40\x30\xa0\xaa")), 1.02)
    transmission.send(encoded(1920, (0xBEDE, b"")), 1.04)
    assert (transmission.packets_sent, transmission.bytes_sent) == (3, 120)


def test_rtp_timestamp_is_that_of_the_ntp_timestamp() -> None:
    transmission = Transmission(SSRC)
    transmission.send(encoded(2**32 - 4800), 20.0)
    blocks = (ReportBlock(1, 2, 3, 4, 5, 6, 7),)
    # RFC 3550 figure 2's instant, 0.25 s after the last packet: 12000 ticks, which wraps.
    report = transmission.report(blocks, 816_003_205.125 - 20.25, 20.25)
    assert report == SenderReport(SSRC, 0xB44D_B705_2000_0000, 7200, 1, 40, blocks)


def test_counters_wrap_at_32_bits() -> None:
    transmission = Transmission(SSRC)
    transmission.send(encoded(0), 0.0)
    transmission.packets_sent += 2**32
    transmission.bytes_sent += 2**32
    report = transmission.report((), 0.0, 0.0)
    assert (report.packet_count, report.octet_count) == (1, 40)
