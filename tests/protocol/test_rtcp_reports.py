"""Two reporters, each sending voice to the other, tell the truth about the network between them."""

import random

import pytest

from edge.demux import Kind, classify
from edge.machine import Address, Machine
from edge.rtp.packet import RtpPacket, decode_rtp, encode_rtp
from edge.rtp.reporter import Reporter, ReporterEvent, RtpStatistics, SourceLeft
from tests.support.link import Endpoint, Link, Path

LEFT, RIGHT = Address("192.0.2.1", 40_000), Address("198.51.100.1", 3478)
FRAME_TIME = 0.02


class Voice(Machine[ReporterEvent]):
    """Sends a frame of voice every 20 ms, and what its reporter has to say."""

    def __init__(self, peer: Address, ssrc: int, wall_offset: float, *, talks: bool = True) -> None:
        super().__init__()
        self.reporter = Reporter(ssrc, b"cname", wall_offset, random.Random(ssrc).randbytes)
        self.frames = 0
        self.reports = 0
        self.peer = peer
        self.talks = talks

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        assert source == self.peer
        if classify(data) is Kind.RTCP:
            self.reporter.receive(data, now)
            while (event := self.reporter.next_event()) is not None:
                self._emit(event)
        else:
            self.reporter.note_received(decode_rtp(data), now)

    def handle_timeout(self, now: float) -> None:
        if self.talks and now >= self.frames * FRAME_TIME:
            self.talk(now)
        self.report(self.reporter.handle_timeout(now))

    def close(self, now: float) -> None:
        self.talks = False
        self.report(self.reporter.close(now))

    def next_timeout(self) -> float | None:
        report_at = self.reporter.next_timeout()
        if not self.talks:
            return report_at
        frame_at = self.frames * FRAME_TIME
        return frame_at if report_at is None else min(frame_at, report_at)

    def report(self, compound: bytes | None) -> None:
        if compound is not None:
            assert classify(compound) is Kind.RTCP
            self.reports += 1
            self._transmit(compound, self.peer)

    def talk(self, now: float) -> None:
        data = encode_rtp(
            RtpPacket(
                payload_type=111,
                marker=False,
                sequence_number=(65_000 + self.frames) & 0xFFFF,
                timestamp=(2**32 - 100_000 + self.frames * 960) & 0xFFFF_FFFF,
                ssrc=self.reporter.ssrc,
                payload=b"x" * 80,
            )
        )
        self.frames += 1
        self.reporter.note_sent(data, now)
        self._transmit(data, self.peer)


def talk(
    forward: Path, backward: Path, *, seconds: float = 30.0, right_talks: bool = True
) -> tuple[Link, Voice, Voice]:
    """Let the two talk; their wall clocks are a year apart."""
    left = Voice(RIGHT, 0x1111, 1_700_000_000.0)
    right = Voice(LEFT, 0x2222, 1_731_536_000.0, talks=right_talks)
    link = Link(
        Endpoint(left, LEFT), Endpoint(right, RIGHT), seed=5, forward=forward, backward=backward
    )
    assert not link.run(lambda: False, deadline=seconds)
    return link, left, right


def both(left: Voice, right: Voice) -> list[RtpStatistics]:
    return [left.reporter.statistics(), right.reporter.statistics()]


@pytest.mark.parametrize(("there", "back"), [(0.0, 0.0), (0.01, 0.01), (0.02, 0.15)])
def test_round_trip_is_the_sum_of_both_delays(there: float, back: float) -> None:
    _, left, right = talk(Path(delay=there), Path(delay=back))
    for statistics in both(left, right):
        assert statistics.round_trip_ms == pytest.approx((there + back) * 1000, abs=0.05)
        assert statistics.jitter_ms == pytest.approx(0, abs=1e-3)
        assert statistics.packets_lost == statistics.remote_packets_lost == 0


def test_reports_come_every_two_and_a_half_seconds() -> None:
    _, left, right = talk(Path(), Path(), seconds=250.0)
    assert 90 <= left.reports <= 110
    assert 90 <= right.reports <= 110


def test_loss_and_jitter_are_seen_by_both_ends() -> None:
    forward = Path(loss=0.1, delay=0.05, jitter=0.01)
    _, left, right = talk(forward, Path(delay=0.05), seconds=60.0)
    sender, receiver = both(left, right)
    assert sender.packets_sent == pytest.approx(3000, abs=2)
    missing = sender.packets_sent - receiver.packets_received
    assert receiver.packets_lost == pytest.approx(missing, abs=5)  # some are still in flight
    assert 240 < receiver.packets_lost < 360
    # Two independent uniform delays of 0..10 ms differ by 10/3 ms on average.
    assert receiver.jitter_ms == pytest.approx(10 / 3, abs=1.2)
    # The sender knows all this from reports that are a few seconds old.
    assert sender.remote_packets_lost == pytest.approx(receiver.packets_lost, abs=40)
    assert sender.remote_jitter_ms == pytest.approx(10 / 3, abs=1.2)
    assert sender.round_trip_ms == pytest.approx(105, abs=6)
    # And nothing is wrong in the other direction.
    assert sender.packets_lost == 0
    assert receiver.remote_packets_lost == 0
    assert receiver.remote_fraction_lost == 0.0


def test_who_only_listens_reports_too() -> None:
    _, left, right = talk(Path(delay=0.03), Path(delay=0.03), right_talks=False)
    sender, receiver = both(left, right)
    assert sender.round_trip_ms == pytest.approx(60, abs=0.05)
    assert receiver.round_trip_ms is None  # it sends no sender reports
    assert receiver.packets_received == pytest.approx(1500, abs=4)
    assert sender.packets_received == 0


def test_goodbye_reaches_the_other_end() -> None:
    link, left, right = talk(Path(), Path(), seconds=2.0)
    left.close(link.now)
    left_at_last = SourceLeft(0x1111)
    assert link.run(lambda: left_at_last in link.right.events, deadline=link.now + 1.0)
    assert link.right.events[-1] == left_at_last
    assert not left.reporter.drops
    assert not right.reporter.drops
