"""What RTCP says of the network, counted once for all sessions."""

import pytest

from edge.rtp.clock import compact_ntp, ntp_from_unix
from edge.rtp.packet import RtpPacket, encode_rtp
from edge.rtp.quality import BELIEVED_MAX, Quality
from edge.rtp.reporter import Reporter
from edge.rtp.rtcp import ReceiverReport, ReportBlock, encode_rtcp

OURS, THEIRS = 0xCAFE, 7
UNIX_TIME = 1_800_000_000.0


def reporter(quality: Quality, clock_rate_hz: int = 48_000) -> Reporter:
    return Reporter(OURS, b"cname", UNIX_TIME, bytes, clock_rate_hz=clock_rate_hz, quality=quality)


def packet(sequence_number: int, ssrc: int) -> RtpPacket:
    return RtpPacket(
        111, marker=False, sequence_number=sequence_number, timestamp=0, ssrc=ssrc, payload=b"x"
    )


def block(*, lost: int = 0, jitter: int = 0, answered: float | None = None) -> bytes:
    """Return the client's report on our stream; ``answered``: when our report came there."""
    report = ReportBlock(
        ssrc=OURS,
        fraction_lost=lost,
        packets_lost=0,
        highest_sequence=1,
        jitter=jitter,
        last_sender_report=0
        if answered is None
        else compact_ntp(ntp_from_unix(answered + UNIX_TIME)),
        delay_since_last=0,
    )
    return encode_rtcp((ReceiverReport(THEIRS, (report,)),))


def test_our_reports_count_when_they_are_due_and_at_the_end() -> None:
    quality = Quality()
    machine = reporter(quality)
    for number in (1, 2, 3, 5):
        machine.note_received(packet(number, THEIRS), 0.0)
    assert sum(quality.loss.counts) == 0
    machine.handle_timeout(0.5)
    assert quality.loss.total == 51 / 256  # one of five, in the 1/256 of a report
    assert sum(quality.jitter.counts) == 1
    machine.note_received(packet(6, THEIRS), 1.0)
    machine.close(1.5)
    assert sum(quality.loss.counts) == 2


def test_sessions_count_together() -> None:
    quality = Quality()
    for _ in range(3):
        machine = reporter(quality)
        machine.note_received(packet(1, THEIRS), 0.0)
        machine.handle_timeout(0.5)
    assert sum(quality.loss.counts) == 3


def test_the_clients_reports_count_with_their_round_trip() -> None:
    quality = Quality()
    machine = reporter(quality)
    machine.note_sent(encode_rtp(packet(1, OURS)), 0.0)
    machine.receive(block(lost=64, jitter=480), 1.0)
    assert (quality.remote_loss.total, quality.remote_jitter.total) == (0.25, 0.01)
    assert sum(quality.round_trip.counts) == 0
    machine.receive(block(answered=1.9), 2.0)
    assert quality.round_trip.total == pytest.approx(0.1, abs=1e-4)


def test_jitter_is_in_seconds_whatever_the_clock() -> None:
    quality = Quality()
    reporter(quality, 8_000).receive(block(jitter=80), 1.0)
    assert quality.remote_jitter.total == 0.01


def test_no_client_can_spoil_the_sums() -> None:
    quality = Quality()
    reporter(quality).receive(block(jitter=2**32 - 1, answered=-30_000.0), 1.0)
    assert quality.remote_jitter.total == BELIEVED_MAX
    assert quality.round_trip.total <= BELIEVED_MAX
