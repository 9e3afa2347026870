"""The jitter buffer on good, bad and odd networks, on virtual time."""

import math
from itertools import pairwise
from typing import Any

import pytest

from edge.rtp.jitter import EAGER_WAIT, JitterBuffer, JitterLimits
from edge.rtp.packet import RtpPacket
from edge.rtp.pieces import Kind, Piece
from tests.support.rtp_trace import DELAY, START, Arrival, Network, listen, talk, travel

EAGER = JitterLimits(delay_min=0.02, delay_max=0.2, steady=False)
STEADY = JitterLimits(delay_min=0.02, delay_max=0.2, steady=True)
BOTH = pytest.mark.parametrize("limits", [EAGER, STEADY], ids=["eager", "steady"])
FRAME = 960
Timed = list[tuple[float, Piece]]


class Feeder:
    """A buffer whose packets all last ``ticks``; empty ones are soundless, ``Q`` quiet."""

    def __init__(self, limits: JitterLimits, rate_hz: int = 48_000, ticks: int = FRAME) -> None:
        self.buffer = JitterBuffer(rate_hz, limits)
        self.ticks = ticks
        self.targets: list[tuple[float, float]] = []

    def feed(self, packet: RtpPacket, now: float) -> None:
        if packet.payload:
            self.buffer.receive(packet, self.ticks, now, quiet=packet.payload == b"Q")
        else:
            self.buffer.receive_soundless(packet)
        self.targets.append((now, self.buffer.target))

    def pull(self, now: float) -> Piece | None:
        return self.buffer.next_piece(now)

    def due(self) -> float | None:
        return self.buffer.next_timeout()


def run(feeder: Feeder, arrivals: list[Arrival], after: float = 0.0) -> Timed:
    """Listen until ``after`` seconds behind the last arrival, and check the line of media time."""
    out = listen(feeder, arrivals, arrivals[-1].at + after)
    jumped = 0
    for (_, piece), (_, following) in pairwise(out):
        jumped += following.start - piece.start - piece.ticks
        assert following.start >= piece.start + piece.ticks, "media time goes back"
    assert math.isclose(jumped / feeder.buffer._rate, feeder.buffer.jumped, abs_tol=1e-6)
    return out


def kinds(out: Timed, kind: Kind) -> list[Piece]:
    return [piece for _, piece in out if piece.kind is kind]


def payloads(out: Timed) -> list[bytes]:
    return [piece.payload for _, piece in out if piece.kind in (Kind.PACKET, Kind.QUIET)]


def numbers(*ranges: range) -> list[bytes]:
    return [b"%d" % number for each in ranges for number in each]


def without(arrivals: list[Arrival], *missing: int) -> list[Arrival]:
    return [each for number, each in enumerate(arrivals) if number not in missing]


def test_eager_releases_at_once() -> None:
    feeder = Feeder(EAGER)
    arrivals = travel(talk(500), Network(jitter=0.03, ordered=True))
    out = run(feeder, arrivals)
    assert [at for at, piece in out] == [arrival.at for arrival in arrivals]
    assert payloads(out) == numbers(range(500))
    assert feeder.buffer.waited == 0


def test_steady_releases_at_an_even_pace() -> None:
    out = run(Feeder(STEADY), travel(talk(500), Network()), after=0.1)
    assert payloads(out) == numbers(range(500))
    for number, (at, piece) in enumerate(out):
        assert piece.start == number * FRAME
        assert at == pytest.approx(START + DELAY + number * 0.02 + 0.02)


@BOTH
def test_lateness_is_told(limits: JitterLimits) -> None:
    arrivals = [
        each._replace(at=each.at + (0.01 if number % 5 == 4 else 0))
        for number, each in enumerate(travel(talk(50), Network()))
    ]
    out = run(Feeder(limits), arrivals, after=0.03)
    for number, (_, piece) in enumerate(out):
        assert piece.lateness == pytest.approx(0.01 if number % 5 == 4 else 0, abs=1e-9)


@BOTH
@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.08])
def test_one_lost_packet_is_one_piece_and_no_lasting_delay(
    limits: JitterLimits, jitter: float
) -> None:
    arrivals = travel(talk(400), Network(jitter=jitter, ordered=True), seed=5)
    feeder = Feeder(limits)
    out = run(feeder, without(arrivals, 200), after=0.3)
    undisturbed = run(Feeder(limits), arrivals, after=0.3)
    missing = {piece.start: piece for piece in kinds(out, Kind.MISSING)}
    anyway = {piece.start for piece in kinds(undisturbed, Kind.MISSING)}
    assert missing.keys() - anyway == {200 * FRAME}
    if limits is EAGER:
        assert missing[200 * FRAME].payload == b"201", "the packet behind it was not waited for"
        assert all(start >= 400 * FRAME for start in anyway)
    after_loss = {piece.start: at for at, piece in out}
    for at, piece in undisturbed:
        if 205 * FRAME <= piece.start < 400 * FRAME:
            assert after_loss[piece.start] - at < 0.002


def test_a_lost_packet_is_waited_for_no_longer_than_needed() -> None:
    out = run(Feeder(EAGER), without(travel(talk(100), Network()), 50))
    at, piece = out[50]
    assert piece.kind is Kind.MISSING
    assert at - (START + DELAY + 50 * 0.02) <= 0.03 + 1e-6


@BOTH
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.08])
@pytest.mark.parametrize("seed", [1, 2])
def test_loss_and_jitter(limits: JitterLimits, loss: float, jitter: float, seed: int) -> None:
    """Packets overtake each other wildly here: 80 ms of jitter at 20 ms frames."""
    feeder = Feeder(limits)
    sent = talk(3000)
    arrivals = travel(sent, Network(loss=loss, jitter=jitter, duplicate=0.01), seed)
    out = run(feeder, arrivals, after=0.2)
    arrived = len({arrival.packet.sequence_number for arrival in arrivals})
    late = feeder.buffer.drops["jitter-late"]
    assert len(kinds(out, Kind.PACKET)) == arrived - late
    assert late <= 0.01 * arrived
    assert len(kinds(out, Kind.MISSING)) <= 3000 - arrived + late + 10  # 10: at the end
    assert not kinds(out, Kind.SILENCE)
    heard = [(at, piece) for at, piece in out[150:] if piece.kind is Kind.PACKET]
    lag = [at - START - DELAY - int(piece.payload) * 0.02 for at, piece in heard]
    assert sum(lag) / len(lag) <= jitter + 0.025
    if jitter == 0.03:
        assert feeder.buffer.waited / feeder.buffer.released <= 0.06
        assert sum(lag) / len(lag) <= 0.06
    assert feeder.buffer.drops["jitter-duplicate"] + late >= len(arrivals) - arrived


@BOTH
def test_target_goes_up_quickly_and_comes_back(limits: JitterLimits) -> None:
    feeder = Feeder(limits)
    stall = START + 10.0
    network = Network(jitter=0.03, ordered=True, stalls=[(stall, stall + 1.0)])
    run(feeder, travel(talk(1000), network))
    assert max(target for at, target in feeder.targets if at <= stall + 1.0) == 0.2
    before = [target for at, target in feeder.targets if at < stall]
    assert max(before) < 0.04
    assert max(target for at, target in feeder.targets if at > stall + 1.0 + 5.0) < 0.04


@BOTH
@pytest.mark.parametrize("stall", [0.1, 0.3, 1.0])
def test_a_stall_costs_only_what_was_made_up_meanwhile(limits: JitterLimits, stall: float) -> None:
    feeder = Feeder(limits)
    begin = START + 5.001
    arrivals = travel(talk(500), Network(ordered=True, stalls=[(begin, begin + stall)]))
    out = run(feeder, arrivals, after=0.05)
    lost = 3 if limits.steady or stall > EAGER_WAIT else 0
    made_up = kinds(out, Kind.MISSING)
    assert len([piece for piece in made_up if piece.start < 490 * FRAME]) == lost
    assert feeder.buffer.drops["jitter-late"] == lost
    assert len(kinds(out, Kind.PACKET)) == 500 - lost
    assert feeder.buffer.jumps == 0
    ends = [at for at, piece in out if piece.start > 260 * FRAME + stall * 48_000]
    lag = ends[0] - START - DELAY - (500 - len(ends)) * 0.02
    assert lag < (0.25 if limits.steady else 0.001)


def test_a_stall_whose_burst_is_in_disorder_loses_nothing_more() -> None:
    arrivals = travel(talk(100), Network())
    held = [each.packet for each in arrivals[50:65]]
    held[3], held[9] = held[9], held[3]  # 10 ms are allowed for this
    end = arrivals[65].at
    burst = [Arrival(end + number * 0.0005, packet) for number, packet in enumerate(held)]
    out = run(Feeder(EAGER), arrivals[:50] + burst + arrivals[66:])
    assert set(numbers(range(50, 65))) <= set(payloads(out))


def test_a_longer_route_costs_no_packet() -> None:
    arrivals = travel(talk(1000), Network(jitter=0.01, ordered=True))
    moved = [
        each._replace(at=each.at + (0.4 if n >= 500 else 0)) for n, each in enumerate(arrivals)
    ]
    feeder = Feeder(EAGER)
    out = run(feeder, moved)
    assert len(kinds(out, Kind.PACKET)) == 1000
    assert not kinds(out, Kind.MISSING)


def test_a_long_hole_is_filled_up_to_100_ms_and_jumped_over() -> None:
    feeder = Feeder(EAGER)
    arrivals = travel(talk(100), Network())
    out = run(feeder, arrivals[:40] + arrivals[60:])
    made_up = kinds(out, Kind.MISSING)
    assert sum(piece.ticks for piece in made_up) == 4800
    assert [piece.payload for piece in made_up] == [b""] * 4 + [b"60"]
    assert feeder.buffer.jumps == 1
    assert feeder.buffer.jumped == pytest.approx(0.3)
    assert payloads(out) == numbers(range(40), range(60, 100))


@BOTH
def test_nothing_is_made_up_for_ever(limits: JitterLimits) -> None:
    feeder = Feeder(limits)
    out = run(feeder, travel(talk(50), Network()), after=60.0)
    assert [piece.kind for _, piece in out[50:]] == [Kind.MISSING] * 3
    assert feeder.buffer.next_timeout() is None


@BOTH
def test_duplicates(limits: JitterLimits) -> None:
    feeder = Feeder(limits)
    out = run(feeder, travel(talk(200), Network(duplicate=1.0, jitter=0.01)), after=0.05)
    assert payloads(out) == numbers(range(200))
    assert feeder.buffer.drops["jitter-duplicate"] == 200


def pausing(number: int) -> bool:
    """Three seconds of voice; two of silence, in which a packet comes every 400 ms."""
    return number % 250 > 150 and (number - 150) % 20 != 0


def quiet(number: int) -> bytes:
    return b"Q" if number % 250 >= 150 else b"%d" % number


@BOTH
@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.08])
def test_silence_is_not_concealed_and_passes_as_it_does(
    limits: JitterLimits, jitter: float
) -> None:
    feeder = Feeder(limits)
    arrivals = travel(
        talk(2500, payload=quiet, silent=pausing), Network(jitter=jitter, ordered=True), 3
    )
    out = run(feeder, arrivals)
    assert all(piece.start // FRAME % 250 <= 150 for piece in kinds(out, Kind.MISSING))
    voice = [piece for _, piece in out if piece.kind is Kind.PACKET]
    assert len(voice) >= (1440 if limits.steady and jitter else 1500), "speech was lost"
    assert feeder.buffer.jumps == 0
    for (before, _), (at, piece) in pairwise(out):
        assert at - before < 0.02 + jitter + 0.021, piece
    assert feeder.buffer.stretched <= 10 * (0.001 + jitter)


@BOTH
def test_silence_that_only_the_timestamps_show(limits: JitterLimits) -> None:
    """A client that just stops, as with G.711 and no comfort noise."""
    feeder = Feeder(limits)
    out = run(feeder, travel(talk(400, silent=lambda n: 100 <= n < 130), Network()), after=0.05)
    assert [piece.kind for _, piece in out[100:130]] == [Kind.MISSING] * 3 + [Kind.SILENCE] * 27
    assert payloads(out) == numbers(range(100), range(130, 400))


def test_silence_that_is_over_holds_nothing_up() -> None:
    patient = JitterLimits(delay_min=0.15, delay_max=0.2, steady=False)
    arrivals = travel(talk(100, silent=lambda number: 50 <= number < 56), Network())
    out = run(Feeder(patient), arrivals)
    assert len(out) == 100
    assert [at for at, piece in out[50:57]] == [arrivals[50].at] * 7


def test_long_silence_is_jumped_over() -> None:
    feeder = Feeder(EAGER)
    out = run(feeder, travel(talk(600, silent=lambda n: 100 <= n < 500), Network()))
    assert len(kinds(out, Kind.SILENCE)) == 50
    assert feeder.buffer.jumped == pytest.approx(400 * 0.02 - 0.06 - 1.0)


def test_lost_packets_in_silence_are_no_loss() -> None:
    feeder = Feeder(EAGER)
    arrivals = travel(talk(500, payload=quiet, silent=pausing), Network())
    refreshes = [n for n, each in enumerate(arrivals) if each.packet.payload == b"Q"]
    out = run(feeder, without(arrivals, *refreshes[1:4]))
    assert not kinds(out, Kind.MISSING)
    assert len(kinds(out, Kind.PACKET)) == 300


def test_the_begin_of_silence_lost() -> None:
    feeder = Feeder(EAGER)
    arrivals = travel(talk(400, payload=quiet, silent=pausing), Network())
    first = next(n for n, each in enumerate(arrivals) if each.packet.payload == b"Q")
    out = run(feeder, without(arrivals, first))
    assert len(kinds(out, Kind.MISSING)) == 1
    assert feeder.buffer.jumps == 0
    assert len(kinds(out, Kind.PACKET)) == 300


@pytest.mark.parametrize("stall", [0.5, 8.0])
def test_speech_that_begins_in_a_stall_is_not_lost_in_silence(stall: float) -> None:
    feeder = Feeder(EAGER)
    begin = START + 249 * 0.02
    network = Network(ordered=True, stalls=[(begin, begin + stall)])
    arrivals = travel(talk(400, payload=quiet, silent=pausing), network)
    out = run(feeder, arrivals)
    assert set(numbers(range(250, 400))) <= set(payloads(out))
    assert feeder.buffer.stretched == pytest.approx(stall - 0.06, abs=0.05)
    assert feeder.buffer.restarts == 0


@BOTH
@pytest.mark.parametrize("ppm", [-200, 200])
def test_clock_drift(limits: JitterLimits, ppm: int) -> None:
    feeder = Feeder(limits)
    arrivals = travel(talk(30_000, ppm=ppm), Network(jitter=0.01, ordered=True))
    out = run(feeder, arrivals, after=0.05)
    assert len(kinds(out, Kind.PACKET)) == 30_000
    assert all(piece.kind is Kind.PACKET for _, piece in out[:30_000])
    sent = {
        piece.start: START + DELAY + n * 0.02 / (1 + ppm / 1e6) for n, (_, piece) in enumerate(out)
    }
    assert max(at - sent[piece.start] for at, piece in out[:30_000]) < 0.035
    assert max(target for _, target in feeder.targets) < 0.025


@BOTH
def test_sequence_and_timestamp_wrap(limits: JitterLimits) -> None:
    feeder = Feeder(limits)
    sent = talk(300, sequence=65_500, timestamp=2**32 - 100 * FRAME)
    arrivals = travel(sent, Network(jitter=0.05))
    out = run(feeder, arrivals, after=0.1)
    assert len(payloads(out)) + feeder.buffer.drops["jitter-late"] == 300
    assert feeder.buffer.drops["jitter-late"] < 10  # before the buffer knew the jitter
    assert feeder.buffer.restarts == feeder.buffer.jumps == 0


@BOTH
@pytest.mark.parametrize(
    ("second", "lost"),
    [
        ({"ssrc": 2, "sequence": 9, "timestamp": 77}, 0),
        ({"sequence": 30_000, "timestamp": 100 * FRAME}, 1),
        ({"sequence": 101, "timestamp": 2**31}, 0),
        ({"sequence": 101, "timestamp": 5 * FRAME}, 0),
    ],
    ids=["ssrc", "sequence", "timestamp-ahead", "timestamp-back"],
)
def test_a_restart_goes_on_where_it_was(
    limits: JitterLimits, second: dict[str, Any], lost: int
) -> None:
    feeder = Feeder(limits)
    first = travel(talk(100), Network())
    again = travel(talk(100, start=START + 2.0, **second), Network())
    out = run(feeder, first + again, after=0.03)
    assert feeder.buffer.restarts == 1
    waited = feeder.buffer.drops["jitter-restart"]
    assert waited <= (2 if limits.steady else 0)
    assert len(kinds(out, Kind.PACKET)) == 200 - lost - waited
    assert out[-1][1].start <= 203 * FRAME
    assert feeder.buffer.jumps == 0


@BOTH
@pytest.mark.parametrize("frame", [0.01, 0.04, 0.06])
def test_other_frame_lengths(limits: JitterLimits, frame: float) -> None:
    ticks = round(frame * 48_000)
    feeder = Feeder(limits, ticks=ticks)
    arrivals = travel(talk(300, frame=frame), Network(jitter=0.01, ordered=True))
    out = run(feeder, without(arrivals, 100, 200), after=0.03)
    assert [p.start for p in kinds(out, Kind.MISSING)][:2] == [100 * ticks, 200 * ticks]
    assert len(kinds(out, Kind.PACKET)) == 298


def test_soundless_packets_are_no_loss() -> None:
    """Telephone events take numbers of the sequence, and the client is silent meanwhile."""
    feeder = Feeder(EAGER)
    sent = talk(300, payload=lambda n: b"" if 100 <= n < 150 else b"%d" % n)
    out = run(feeder, travel(sent, Network()))
    assert not kinds(out, Kind.MISSING)
    assert len(kinds(out, Kind.SILENCE)) == 50
    assert payloads(out) == numbers(range(100), range(150, 300))


def test_soundless_packets_that_overtake_are_no_loss() -> None:
    buffer = JitterBuffer(48_000, EAGER)
    sent = [each.packet for each in talk(4)]
    buffer.receive(sent[0], FRAME, 1.0)
    buffer.receive_soundless(sent[2])
    buffer.receive(sent[1], FRAME, 1.04)
    buffer.receive(sent[3], FRAME, 1.06)
    pieces = [buffer.next_piece(1.06) for _ in range(4)]
    assert [piece and piece.kind for piece in pieces] == [
        Kind.PACKET,
        Kind.PACKET,
        Kind.SILENCE,
        Kind.PACKET,
    ]


def test_copies_fill_holes_at_once_and_originals_win() -> None:
    buffer = JitterBuffer(48_000, EAGER)
    sent = [each.packet for each in talk(5)]
    assert buffer.receive(sent[0], FRAME, 1.0) is not None
    assert buffer.next_piece(1.0) is not None
    sequence = buffer.receive(sent[2], FRAME, 1.04)
    assert sequence is not None
    buffer.receive_copy(sequence - 1, sent[1].timestamp, b"copy", FRAME, 1.04)
    buffer.receive_copy(sequence - 2, sent[0].timestamp, b"old", FRAME, 1.04)
    pieces = [buffer.next_piece(1.04) for _ in range(3)]
    assert [piece and (piece.kind, piece.payload) for piece in pieces] == [
        (Kind.COPY, b"copy"),
        (Kind.PACKET, b"2"),
        None,
    ]
    assert buffer.receive(sent[1], FRAME, 1.05) is None
    assert buffer.drops == {"jitter-duplicate": 1}
    sequence = buffer.receive(sent[4], FRAME, 1.08)
    assert sequence is not None
    buffer.receive_copy(sequence - 1, sent[3].timestamp, b"copy", FRAME, 1.08)
    buffer.receive(sent[3], FRAME, 1.08)
    piece = buffer.next_piece(1.08)
    assert piece is not None
    assert (piece.kind, piece.payload) == (Kind.PACKET, b"3")


def test_what_waits_is_bounded() -> None:
    buffer = JitterBuffer(48_000, JitterLimits(delay_min=0.02, delay_max=10.0, steady=False))
    sent = [each.packet for each in talk(1000)]
    buffer.receive(sent[0], FRAME, 1.0)
    for packet in sent[2:]:
        buffer.receive(packet, FRAME, 1.01)
    assert buffer.waiting == 256
    assert buffer.drops["jitter-full"] == 1000 - 1 - 256
    buffer = JitterBuffer(48_000, EAGER)
    for packet in sent[2:]:
        buffer.receive(packet._replace(payload=bytes(1500)), FRAME, 1.01)
    assert buffer.waiting == 87


def test_a_worker_that_was_asleep_catches_up_within_a_bound() -> None:
    feeder = Feeder(EAGER)
    arrivals = travel(talk(10, payload=lambda _: b"Q"), Network())
    run(feeder, arrivals)
    pieces = 0
    while feeder.pull(START + 3600.0) is not None:
        pieces += 1
    assert 49 <= pieces <= 52
    assert feeder.buffer.jumps == 1
