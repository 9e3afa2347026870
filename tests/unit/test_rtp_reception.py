"""Reception statistics: RFC 3550 A.1, A.3 and A.8 worked by hand, and over a simulated stream."""

import random

import pytest

from edge.rtp.packet import RtpPacket
from edge.rtp.reception import Reception

FRAME = 960


def packet(sequence_number: int, timestamp: int | None = None) -> RtpPacket:
    """Return a packet whose timestamp, unless given, says 20 ms per sequence number."""
    if timestamp is None:
        timestamp = sequence_number * FRAME
    return RtpPacket(
        payload_type=111,
        marker=False,
        sequence_number=sequence_number & 0xFFFF,
        timestamp=timestamp & 0xFFFF_FFFF,
        ssrc=7,
        payload=b"12345",
    )


def receive(*sequence_numbers: int) -> Reception:
    """Return the reception of these packets, each on time."""
    first = sequence_numbers[0]
    reception = Reception(packet(first), first * 0.02)
    for number in sequence_numbers[1:]:
        reception.receive(packet(number), number * 0.02)
    return reception


def test_first_packet() -> None:
    block = receive(500).report(10.0)
    assert block.ssrc == 7
    assert (block.highest_sequence, block.packets_lost, block.fraction_lost) == (500, 0, 0)
    assert (block.jitter, block.last_sender_report, block.delay_since_last) == (0, 0, 0)


def test_counts_packets_and_payload_bytes() -> None:
    reception = receive(1, 2, 4)
    assert (reception.packets_received, reception.bytes_received) == (3, 15)
    assert reception.heard_at == pytest.approx(0.08)


def test_loss_in_each_interval() -> None:
    reception = receive(10, 11, 13, 14)
    block = reception.report(1.0)
    assert (block.packets_lost, block.fraction_lost) == (1, 51)  # 1 of 5: 256 / 5 = 51.2
    for number in range(15, 19):
        reception.receive(packet(number), number * 0.02)
    block = reception.report(2.0)
    assert (block.packets_lost, block.fraction_lost) == (1, 0)
    reception.receive(packet(22), 22 * 0.02)
    block = reception.report(3.0)
    assert (block.packets_lost, block.fraction_lost) == (4, 192)  # 3 of 4
    assert reception.fraction_lost == 192
    block = reception.report(4.0)
    assert (block.packets_lost, block.fraction_lost) == (4, 0)  # nothing was expected


def test_late_packet_takes_back_its_loss() -> None:
    reception = receive(10, 11, 13)
    assert reception.report(1.0).packets_lost == 1
    reception.receive(packet(12), 1.1)
    block = reception.report(2.0)
    assert (block.packets_lost, block.fraction_lost, block.highest_sequence) == (0, 0, 13)


def test_packet_from_before_the_first_makes_the_loss_negative() -> None:
    assert receive(10, 9).report(1.0).packets_lost == -1


def test_sequence_number_wraps() -> None:
    block = receive(65534, 65535, 65537, 65536, 65538).report(1400.0)
    assert (block.highest_sequence, block.packets_lost) == (0x1_0002, 0)


def test_loss_across_the_wrap() -> None:
    block = receive(65530, 65540).report(1400.0)
    assert (block.highest_sequence, block.packets_lost) == (0x1_0004, 9)


def test_longest_loss_and_shortest_restart() -> None:
    assert receive(100, 100 + 2999).report(99.0).packets_lost == 2998
    assert receive(100, 100 + 3000).report(99.0).highest_sequence == 100


def test_one_stray_packet_is_no_restart() -> None:
    block = receive(100, 101, 40000, 102).report(1000.0)
    assert (block.highest_sequence, block.packets_lost) == (102, 0)


def test_two_in_a_row_are_a_restart() -> None:
    reception = receive(100, 105, 40000, 40001, 40003)
    block = reception.report(1000.0)
    assert (block.highest_sequence, block.packets_lost) == (40003, 1)
    assert block.fraction_lost == 85  # 1 of 3
    assert reception.packets_received == 5


def test_loss_is_clamped_to_24_bits() -> None:
    reception = receive(0)
    for number in range(2999, 2**23 + 2**14, 2999):
        reception.receive(packet(number), number * 0.02)
    assert reception.packets_lost > 0x7F_FFFF
    assert reception.report(1e6).packets_lost == 0x7F_FFFF


def test_jitter_by_hand() -> None:
    # 8 kHz, 20 ms frames of 160 ticks; the second comes 2 ms (16 ticks) late, the third on time.
    reception = Reception(packet(1, timestamp=160), 0.0, clock_rate_hz=8000)
    reception.receive(packet(2, timestamp=320), 0.022)
    assert reception.jitter_ms == pytest.approx(1 / 8)  # D = 16, J = 16 / 16 = 1 tick
    reception.receive(packet(3, timestamp=480), 0.040)
    assert reception.jitter_ms == pytest.approx(1.9375 / 8)  # D = -16, J = 1 + (16 - 1) / 16
    assert reception.report(1.0).jitter == 1


def test_dtx_is_no_jitter() -> None:
    reception = receive(1, 2)
    reception.receive(packet(3, timestamp=2 * FRAME + 20 * FRAME), 0.04 + 0.4)
    assert reception.jitter_ms == pytest.approx(0, abs=1e-6)


def test_telephone_event_is_no_jitter() -> None:
    reception = receive(1, 2)
    for number in range(3, 8):  # one event of 100 ms, reported every 20 ms
        reception.receive(packet(number, timestamp=3 * FRAME), number * 0.02)
    reception.receive(packet(8, timestamp=8 * FRAME), 0.16)
    assert reception.jitter_ms == pytest.approx(0, abs=1e-6)


def test_jump_of_the_clock_is_no_jitter() -> None:
    reception = receive(1, 2)
    reception.receive(packet(3, timestamp=3_000_000_000), 0.06)
    reception.receive(packet(4, timestamp=3_000_000_960), 0.08)
    assert reception.jitter_ms == pytest.approx(0, abs=1e-6)


def test_timestamp_wraps() -> None:
    reception = Reception(packet(1, timestamp=-480), 0.02)
    reception.receive(packet(2, timestamp=480), 0.04)
    assert reception.jitter_ms == pytest.approx(0, abs=1e-6)


def test_last_sender_report_and_delay() -> None:
    reception = receive(1)
    reception.note_sender_report(0xB44D_B705_2000_0000, 10.0)
    block = reception.report(15.25)  # RFC 3550 figure 2: 5.250 s is 0005:4000
    assert (block.last_sender_report, block.delay_since_last) == (0xB705_2000, 0x0005_4000)


def test_delay_since_a_report_of_yesterday_is_clamped() -> None:
    reception = receive(1)
    reception.note_sender_report(1 << 32, 0.0)
    assert reception.report(90_000.0).delay_since_last == 0xFFFF_FFFF


@pytest.mark.parametrize("seed", range(5))
def test_simulated_stream_against_the_formulas(seed: int) -> None:
    """Loss 10 %, jitter 0..30 ms (so some reordering), both counters wrapping on the way."""
    chance = random.Random(seed)
    sent = [(65_000 + i, 2**32 - 500_000 + i * FRAME, i * 0.02) for i in range(1500)]
    kept = [sent[0], *(row for row in sent[1:-1] if chance.random() > 0.1), sent[-1]]
    arrivals = sorted((at + chance.random() * 0.03, number, ts) for number, ts, at in kept[1:])

    reception = Reception(packet(kept[0][0], kept[0][1]), 0.0)
    jitter, transit = 0.0, -float(kept[0][1])
    for now, number, ts in arrivals:
        reception.receive(packet(number, ts), now)
        previous, transit = transit, now * 48_000 - ts
        jitter += (abs(transit - previous) - jitter) / 16

    block = reception.report(31.0)
    lost = len(sent) - len(kept)
    assert lost > 100
    assert block.highest_sequence == sent[-1][0]
    assert block.packets_lost == lost
    assert block.fraction_lost == lost * 256 // len(sent)
    assert block.jitter == pytest.approx(jitter, abs=1)
    assert 5 < reception.jitter_ms < 15
