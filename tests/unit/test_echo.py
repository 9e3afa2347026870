"""The echo's stream must look to a jitter buffer like the client's own stream."""

import random

import pytest

from edge.backend.echo import Echo
from edge.rtp.packet import RtpPacket, decode_rtp
from edge.rtp.serial import sequence_difference, timestamp_difference

OPUS = 111
EVENTS = 126
FRAME = 960


def packet(sequence_number: int, timestamp: int | None = None, ssrc: int = 7) -> RtpPacket:
    """Return a packet whose timestamp, unless given, says 20 ms per sequence number."""
    if timestamp is None:
        timestamp = sequence_number * FRAME
    return RtpPacket(
        payload_type=OPUS,
        marker=False,
        sequence_number=sequence_number & 0xFFFF,
        timestamp=timestamp & 0xFFFF_FFFF,
        ssrc=ssrc,
        payload=b"frame %d" % sequence_number,
    )


class Player:
    """An echo, and the step from each packet that it sent to the next."""

    def __init__(self, seed: int = 0) -> None:
        self.echo = Echo(frozenset({OPUS, EVENTS}), random.Random(seed).randbytes)
        self.out: list[RtpPacket] = []

    def play(self, incoming: RtpPacket, now: float) -> tuple[int, int]:
        """Echo a packet; return by how much sequence number and timestamp moved."""
        data = self.echo.receive_audio(incoming, now)
        assert data is not None
        self.out.append(decode_rtp(data))
        if len(self.out) == 1:
            return 0, 0
        before, after = self.out[-2:]
        return (
            sequence_difference(after.sequence_number, before.sequence_number),
            timestamp_difference(after.timestamp, before.timestamp),
        )


def test_starting_points_are_random() -> None:
    one, other = Player(1), Player(2)
    for player in (one, other):
        player.play(packet(500), 10.0)
    (first,), (second,) = one.out, other.out
    assert first.ssrc == one.echo.ssrc != second.ssrc == other.echo.ssrc
    assert first.sequence_number != second.sequence_number
    assert first.timestamp != second.timestamp
    assert first.marker


def test_ssrc_that_the_answer_has_named() -> None:
    echo = Echo(frozenset({OPUS}), random.Random(1).randbytes, ssrc=0xCAFE)
    data = echo.receive_audio(packet(1), 0.0)
    assert data is not None
    assert decode_rtp(data).ssrc == echo.ssrc == 0xCAFE


def test_first_sequence_number_leaves_room_for_lost_packets() -> None:
    echo = Echo(frozenset({OPUS}), lambda count: b"\xff" * count)
    data = echo.receive_audio(packet(1), 0.0)
    assert data is not None
    assert decode_rtp(data).sequence_number == 0x7FFF


def test_keeps_payload_type_marker_and_payload_and_drops_extensions() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    incoming = packet(2)._replace(marker=True, payload_type=EVENTS, extension=(0xBEDE, bytes(4)))
    player.play(incoming, 0.04)
    echoed = player.out[-1]
    assert (echoed.payload_type, echoed.marker, echoed.payload) == (EVENTS, True, b"frame 2")
    assert echoed.extension is None
    player.play(packet(3), 0.06)
    assert not player.out[-1].marker


def test_payload_type_that_was_not_negotiated() -> None:
    player = Player()
    assert player.echo.receive_audio(packet(1)._replace(payload_type=0), 0.0) is None
    assert player.echo.drops == {"echo-payload-type": 1}


def test_steady_stream_across_both_wraps() -> None:
    player = Player()
    player.play(packet(65_530, 2**32 - 5 * FRAME), 0.0)
    for i in range(1, 70_000):
        moved = player.play(packet(65_530 + i, 2**32 + (i - 5) * FRAME), i * 0.02)
        assert moved == (1, FRAME)
    assert not any(echoed.marker for echoed in player.out[1:])


def test_loss_stays_loss() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    assert player.play(packet(4), 0.08) == (3, 3 * FRAME)
    assert player.play(packet(1004), 20.08) == (1000, 1000 * FRAME)


def test_reordering_stays_reordering() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    assert player.play(packet(3), 0.06) == (2, 2 * FRAME)
    assert player.play(packet(2), 0.061) == (-1, -FRAME)
    assert player.play(packet(4), 0.08) == (2, 2 * FRAME)


def test_dtx_stays_dtx() -> None:
    player = Player()
    player.play(packet(1, 0), 0.0)
    assert player.play(packet(2, 20 * FRAME), 0.4) == (1, 20 * FRAME)
    assert player.play(packet(3, 3000 * FRAME), 60.0) == (1, 2980 * FRAME)
    assert not player.out[-1].marker


def test_held_key_keeps_its_timestamp() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    player.play(packet(2)._replace(payload_type=EVENTS), 0.04)
    for number in range(3, 400):  # nearly eight seconds
        event = packet(number, 2 * FRAME)._replace(payload_type=EVENTS)
        assert player.play(event, number * 0.02) == (1, 0)
    assert player.play(packet(400), 8.0) == (1, 398 * FRAME)
    assert not player.out[-1].marker


def test_new_ssrc_continues_the_stream() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    assert player.play(packet(9000, ssrc=8), 0.12) == (1, 5 * FRAME)
    assert player.out[-1].marker
    assert {echoed.ssrc for echoed in player.out} == {player.echo.ssrc}
    assert player.play(packet(9001, ssrc=8), 0.14) == (1, FRAME)
    assert not player.out[-1].marker


def test_new_ssrc_at_the_same_instant_still_advances() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    assert player.play(packet(9000, ssrc=8), 0.02) == (1, FRAME)


@pytest.mark.parametrize("jump", [1001, -1001, 32768])
def test_sequence_jump_continues_the_stream(jump: int) -> None:
    player = Player()
    player.play(packet(5000), 100.0)
    assert player.play(packet(5000 + jump, 12345), 100.04) == (1, 2 * FRAME)
    assert player.out[-1].marker


@pytest.mark.parametrize("timestamp", [2**31, 10 * 48_000, -10 * 48_000])
def test_timestamp_jump_continues_the_stream(timestamp: int) -> None:
    player = Player()
    player.play(packet(1, 0), 0.0)
    assert player.play(packet(2, timestamp), 0.06) == (1, 3 * FRAME)
    assert player.out[-1].marker
    assert player.play(packet(3, timestamp + FRAME), 0.08) == (1, FRAME)


def test_clock_that_stood_still_continues_the_stream() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    assert player.play(packet(2), 60.02) == (1, 60 * 48_000)  # the client slept
    assert player.out[-1].marker


def test_late_packet_from_before_the_rebase_is_dropped() -> None:
    player = Player()
    player.play(packet(1), 0.02)
    player.play(packet(501, ssrc=8), 0.04)
    assert player.echo.receive_audio(packet(500, ssrc=8), 0.05) is None
    assert player.echo.drops == {"echo-before-rebase": 1}
    assert player.play(packet(503, ssrc=8), 0.08) == (2, 2 * FRAME)
    assert player.play(packet(502, ssrc=8), 0.09) == (-1, -FRAME)


def test_no_sequence_number_is_used_twice() -> None:
    """Whatever distinct packets come, in whatever order and from however many sources."""
    chance = random.Random(3)
    player = Player()
    rows = [(ssrc, number) for ssrc in (1, 2) for number in range(100, 3000)]
    shuffled = sorted(rows, key=lambda _: chance.random())
    jumbled = sorted(rows, key=lambda row: (row[0], row[1] + chance.random() * 40))
    for i, (ssrc, number) in enumerate(shuffled + [(3, number) for _, number in jumbled[:2900]]):
        data = player.echo.receive_audio(packet(number, ssrc=ssrc), i * 0.02)
        if data is not None:
            player.out.append(decode_rtp(data))
    numbers = [echoed.sequence_number for echoed in player.out]
    assert len(numbers) + player.echo.drops.total() == 3 * 2900
    assert len(numbers) > 7000
    assert len(set(numbers)) == len(numbers)
