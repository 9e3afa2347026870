"""When the reporter speaks, what it says, and what it makes of what it hears."""

import pytest

from edge.errors import LocalProtocolError
from edge.rtp.packet import RtpPacket, encode_rtp
from edge.rtp.reporter import Reporter, SourceLeft
from edge.rtp.rtcp import (
    Goodbye,
    OtherPacket,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    decode_rtcp,
    encode_rtcp,
)

OURS = 0xCAFE
THEIRS = 7
CNAME = b"kZ1-aQ_4x0Yb7sPd"
WALL_OFFSET = 816_000_000.0


def entropy(count: int) -> bytes:
    return bytes(count)


def reporter() -> Reporter:
    return Reporter(OURS, CNAME, WALL_OFFSET, entropy)


def packet(sequence_number: int, ssrc: int = THEIRS) -> RtpPacket:
    return RtpPacket(
        payload_type=111,
        marker=False,
        sequence_number=sequence_number,
        timestamp=sequence_number * 960,
        ssrc=ssrc,
        payload=b"x" * 40,
    )


def sent(sequence_number: int) -> bytes:
    return encode_rtp(packet(sequence_number, ssrc=OURS))


def due(machine: Reporter) -> float:
    timeout = machine.next_timeout()
    assert timeout is not None
    return timeout


def report(machine: Reporter) -> SenderReport | ReceiverReport:
    """Let the reporter report when it wants to; return the report."""
    compound = machine.handle_timeout(due(machine))
    assert compound is not None
    first, description = decode_rtcp(compound)
    assert description == SourceDescription(((OURS, CNAME),))
    assert isinstance(first, SenderReport | ReceiverReport)
    assert first.ssrc == OURS
    return first


def test_silent_until_there_is_media() -> None:
    machine = reporter()
    machine.receive(encode_rtcp([ReceiverReport(THEIRS)]), 1.0)
    assert machine.next_timeout() is None
    assert machine.handle_timeout(100.0) is None


def test_first_report_half_a_second_after_the_first_packet_received() -> None:
    machine = reporter()
    machine.note_received(packet(1), 3.0)
    machine.note_received(packet(2), 3.02)
    assert machine.next_timeout() == 3.5
    assert machine.handle_timeout(3.49) is None
    assert isinstance(report(machine), ReceiverReport)


def test_first_report_half_a_second_after_the_first_packet_sent() -> None:
    machine = reporter()
    machine.note_sent(sent(1), 3.0)
    assert machine.next_timeout() == 3.5
    assert isinstance(report(machine), SenderReport)


@pytest.mark.parametrize(("draw", "interval"), [(b"\0\0", 1.25), (b"\x80\0", 2.5)])
def test_interval_is_random(draw: bytes, interval: float) -> None:
    machine = Reporter(OURS, CNAME, WALL_OFFSET, lambda count: draw if count == 2 else bytes(count))
    machine.note_received(packet(1), 0.0)
    report(machine)
    assert machine.next_timeout() == 0.5 + interval
    assert machine.handle_timeout(0.5) is None


def test_interval_stays_below_one_and_a_half_times_the_mean() -> None:
    machine = Reporter(OURS, CNAME, WALL_OFFSET, lambda count: b"\xff" * count)
    machine.note_received(packet(1), 0.0)
    report(machine)
    assert 0.5 + 3.7 < due(machine) < 0.5 + 3.75


def test_sender_report() -> None:
    machine = reporter()
    machine.note_sent(sent(1), 1.0)
    machine.note_sent(sent(2), 1.02)
    assert report(machine) == SenderReport(
        ssrc=OURS,
        ntp_timestamp=int((2_208_988_800 + WALL_OFFSET + 1.5) * 2**32),
        rtp_timestamp=2 * 960 + 48 * 480,
        packet_count=2,
        octet_count=80,
    )


def test_receiver_report_when_nothing_was_sent_since_the_last_one() -> None:
    machine = reporter()
    machine.note_sent(sent(1), 0.0)
    assert isinstance(report(machine), SenderReport)
    assert report(machine) == ReceiverReport(OURS)
    machine.note_sent(sent(2), due(machine) - 0.01)
    assert isinstance(report(machine), SenderReport)


def test_blocks_for_the_sources_heard_since_the_last_report() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    machine.note_received(packet(90, ssrc=8), 0.1)
    machine.note_received(packet(92, ssrc=8), 0.2)
    first, second = report(machine).blocks
    assert (first.ssrc, first.highest_sequence, first.packets_lost) == (THEIRS, 1, 0)
    assert (second.ssrc, second.highest_sequence, second.packets_lost) == (8, 92, 1)
    machine.note_received(packet(2), 1.0)
    assert [block.ssrc for block in report(machine).blocks] == [THEIRS]
    assert report(machine).blocks == ()


def test_block_tells_of_the_last_sender_report() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    machine.receive(encode_rtcp([SenderReport(THEIRS, 0xB44DB705_20000000, 0, 1, 1)]), 0.25)
    machine.receive(encode_rtcp([SenderReport(999, 0x11111111_11111111, 0, 1, 1)]), 0.3)
    (block,) = report(machine).blocks
    assert (block.last_sender_report, block.delay_since_last) == (0xB7052000, 0x4000)


FIGURE_2_BLOCK = ReportBlock(OURS, 64, 5, 1, 480, 0xB7052000, 0x00054000)
FIGURE_2_NOW = 0xB44DB710 + 0.5 - 2_208_988_800 - WALL_OFFSET


@pytest.mark.parametrize(
    "incoming",
    [
        SenderReport(THEIRS, 0, 0, 0, 0, (FIGURE_2_BLOCK,)),
        ReceiverReport(THEIRS, (FIGURE_2_BLOCK,)),
    ],
)
def test_round_trip_time_of_rfc_3550_figure_2(incoming: SenderReport | ReceiverReport) -> None:
    """A = b710:8000, LSR = b705:2000, DLSR = 0005:4000: the round trip takes 6.125 s."""
    machine = reporter()
    machine.receive(encode_rtcp([incoming]), FIGURE_2_NOW)
    statistics = machine.statistics()
    assert statistics.round_trip_ms == 6125.0
    assert statistics.remote_fraction_lost == 0.25
    assert statistics.remote_packets_lost == 5
    assert statistics.remote_jitter_ms == 10.0


def test_round_trip_never_below_zero() -> None:
    machine = reporter()
    block = ReportBlock(OURS, 0, 0, 1, 0, 0xB7108000, 1)
    machine.receive(encode_rtcp([ReceiverReport(THEIRS, (block,))]), FIGURE_2_NOW)
    assert machine.statistics().round_trip_ms == 0.0


def test_blocks_about_others_and_blocks_without_a_sender_report_tell_no_round_trip() -> None:
    machine = reporter()
    other = ReportBlock(OURS + 1, 9, 9, 9, 9, 0xB7052000, 9)
    machine.receive(encode_rtcp([ReceiverReport(THEIRS, (other,))]), 1.0)
    assert machine.statistics().remote_packets_lost is None
    early = ReportBlock(OURS, 0, 1, 1, 0, 0, 0)
    machine.receive(encode_rtcp([ReceiverReport(THEIRS, (early,))]), 1.0)
    assert machine.statistics().remote_packets_lost == 1
    assert machine.statistics().round_trip_ms is None


def test_malformed_compound_changes_nothing() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    before = machine.statistics()
    machine.receive(encode_rtcp([Goodbye((THEIRS,))]) + b"\x81\xcb", 0.1)
    assert machine.drops == {"rtcp-truncated": 1}
    assert machine.next_event() is None
    assert machine.statistics() == before


def test_other_packets_are_let_by() -> None:
    machine = reporter()
    machine.receive(encode_rtcp([OtherPacket(206, 1, bytes(8))]), 0.1)
    assert not machine.drops


def test_goodbye_frees_the_source() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    machine.receive(encode_rtcp([Goodbye((THEIRS, 99))]), 0.1)
    assert machine.next_event() == SourceLeft(THEIRS)
    assert machine.next_event() is None
    assert report(machine).blocks == ()
    assert machine.statistics().packets_received == 1


def test_events_are_bounded() -> None:
    machine = reporter()
    for ssrc in range(20):
        machine.note_received(packet(1, ssrc=ssrc), 0.0)
        machine.receive(encode_rtcp([Goodbye((ssrc,))]), 0.0)
    assert machine.drops == {"event-queue-full": 4}


def test_four_sources_at_most() -> None:
    machine = reporter()
    for ssrc in range(1, 7):
        machine.note_received(packet(1, ssrc=ssrc), 0.1 * ssrc)
    assert machine.drops == {"rtp-source-limit": 2}
    assert [block.ssrc for block in report(machine).blocks] == [1, 2, 3, 4]
    assert machine.statistics().packets_received == 4


def test_silent_source_makes_room() -> None:
    machine = reporter()
    for ssrc in range(1, 5):
        machine.note_received(packet(1, ssrc=ssrc), 0.1 * ssrc)
    machine.note_received(packet(1, ssrc=5), 30.05)
    assert machine.drops == {"rtp-source-limit": 1}
    machine.note_received(packet(1, ssrc=5), 30.15)
    assert machine.drops == {"rtp-source-limit": 1}
    statistics = machine.statistics()
    assert (statistics.packets_received, statistics.bytes_received) == (5, 200)


def test_silent_source_is_forgotten_by_the_timer() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    machine.note_received(packet(5), 0.1)
    assert machine.statistics().packets_lost == 3
    assert machine.handle_timeout(30.0) is not None
    assert machine.statistics().packets_lost == 3
    assert machine.handle_timeout(31.3) is not None
    assert machine.statistics().packets_lost == 0


def test_client_that_uses_our_ssrc() -> None:
    machine = reporter()
    machine.note_received(packet(1, ssrc=OURS), 0.0)
    assert machine.drops == {"rtp-ssrc-collision": 1}
    assert machine.next_timeout() is None


def test_close_says_goodbye_once() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    machine.note_sent(sent(1), 0.0)
    compound = machine.close(0.2)
    assert compound is not None
    first, description, goodbye = decode_rtcp(compound)
    assert isinstance(first, SenderReport)
    assert first.blocks
    assert description == SourceDescription(((OURS, CNAME),))
    assert goodbye == Goodbye((OURS,))
    assert machine.close(0.3) is None
    assert machine.next_timeout() is None


def test_no_goodbye_from_who_never_said_anything() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    assert machine.close(0.2) is None
    assert machine.next_timeout() is None


def test_goodbye_from_who_has_only_reported() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    report(machine)
    compound = machine.close(0.6)
    assert compound is not None
    assert isinstance(decode_rtcp(compound)[0], ReceiverReport)


def test_input_after_close_is_ignored() -> None:
    machine = reporter()
    machine.note_received(packet(1), 0.0)
    machine.close(0.1)
    before = machine.statistics()
    machine.note_received(packet(2), 0.2)
    machine.note_received(packet(1, ssrc=8), 0.2)
    machine.note_sent(sent(1), 0.2)
    machine.receive(encode_rtcp([Goodbye((THEIRS,))]), 0.2)
    machine.receive(b"", 0.2)
    assert machine.statistics() == before
    assert (machine.next_timeout(), machine.next_event(), machine.drops) == (None, None, {})


def test_statistics() -> None:
    machine = reporter()
    for number, now in ((1, 0.02), (2, 0.042), (5, 0.1)):
        machine.note_received(packet(number), now)
    machine.note_sent(sent(1), 0.1)
    report(machine)
    statistics = machine.statistics()
    assert (statistics.packets_received, statistics.bytes_received) == (3, 120)
    assert (statistics.packets_sent, statistics.bytes_sent) == (1, 40)
    assert (statistics.packets_lost, statistics.fraction_lost) == (2, 102 / 256)  # 2 of 5
    # D is 2 ms both times: J = 2/16, then + (2 - 2/16)/16.
    assert statistics.jitter_ms == pytest.approx(2 / 16 + (2 - 2 / 16) / 16)
    assert statistics.round_trip_ms is None


def test_ssrc_of_more_than_32_bits_is_our_bug() -> None:
    machine = Reporter(2**32, CNAME, WALL_OFFSET, entropy)
    machine.note_received(packet(1), 0.0)
    with pytest.raises(LocalProtocolError):
        machine.handle_timeout(1.0)
