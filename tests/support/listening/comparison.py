"""Our receiver, eager and steady, and aiortc's, through the same networks."""

from collections.abc import Sequence

from attrs import frozen

from edge.rtp.jitter import JitterLimits
from tests.support.listening.measures import (
    Measures,
    delays_by_time,
    frames_without_voice,
    measure,
)
from tests.support.listening.network import Arrival, Conditions, cross
from tests.support.listening.receivers import Hearing, hear, hear_as_aiortc
from tests.support.listening.stream import (
    FRAME_TIME,
    PAYLOADS,
    PAYLOADS_WITH_RED,
    Sent,
    Stream,
    make_stream,
    with_redundancy,
)

EAGER = JitterLimits(delay_min=0.0, delay_max=0.3, steady=False)
STEADY = JitterLimits(delay_min=0.0, delay_max=0.3, steady=True)

DISTANCE_TOLERANCE_DB = 0.1
"""Decoding at another rate changes more than this."""

SPIKE_FROM, SPIKE_LENGTH, SPIKE_DELAY = 10.0, 1.0, 0.25
SPIKE_SECONDS = 20.0
CALM_DELAY = 0.04

_AROUND = 50
"""Packets before and behind the one that is lost."""


@frozen
class Scenario:
    """One row of the table."""

    conditions: Conditions
    dtx: bool = False
    redundancy: bool = False

    @property
    def name(self) -> str:
        conditions = self.conditions
        words = [f"{100 * conditions.loss:.0f} %, {1e3 * conditions.jitter:.0f} ms"]
        words += ["reordered"] * conditions.reordering + ["DTX"] * self.dtx
        words += ["RED"] * self.redundancy
        return ", ".join(words)


@frozen
class Row:
    scenario: Scenario
    eager: Measures
    steady: Measures
    aiortc: Measures


@frozen
class SingleLoss:
    """What the loss of one packet costs; the worst of all that were lost in turn."""

    gap_frames: int
    """Frames made up or never delivered."""
    lasting_delay: float
    """Seconds of delay that are left half a second later."""


def compare(scenario: Scenario, seconds: float, seed: int) -> Row:
    """Measure all receivers. aiortc does not negotiate RED and so gets plain packets."""
    conditions = scenario.conditions
    stream = make_stream(seconds, expected_loss=conditions.loss, dtx=scenario.dtx)
    plain = cross(stream.packets, conditions, seed)
    arrivals, payloads = plain, PAYLOADS
    if scenario.redundancy:
        arrivals = cross(with_redundancy(stream.packets), conditions, seed)
        payloads = PAYLOADS_WITH_RED
    eager, steady = (
        measure(stream, arrivals, hear(arrivals, payloads, limits, seconds))
        for limits in (EAGER, STEADY)
    )
    return Row(scenario, eager, steady, measure(stream, plain, hear_as_aiortc(plain)))


def worse_than(ours: Measures, theirs: Measures) -> list[str]:
    """Return in what respects ours is worse. Loss and gaps are in the distance."""
    pairs = {
        "delay": ours.delay_mean < theirs.delay_mean,
        "delay p95": ours.delay_p95 < theirs.delay_p95,
        "distance": ours.distance <= theirs.distance + DISTANCE_TOLERANCE_DB,
    }
    return [name for name, fine in pairs.items() if not fine]


def lose_one(limits: JitterLimits | None, *, expected_loss: float, count: int) -> SingleLoss:
    """Lose each of ``count`` packets, evenly spread over 10 s, for itself. None: aiortc.

    ``expected_loss`` is what the client knows of: with 0 it sends no FEC.
    """
    stream = make_stream(10.0, expected_loss=expected_loss)
    packets = stream.packets
    numbers = range(_AROUND, len(packets) - _AROUND)
    worst_gap, worst_delay = 0, 0.0
    for number in numbers[:: max(1, len(numbers) // count)]:
        around = packets[number - _AROUND : number + _AROUND]
        gap, delay = _lose_one_of(stream, around, limits)
        worst_gap, worst_delay = max(worst_gap, gap), max(worst_delay, delay)
    return SingleLoss(worst_gap, worst_delay)


def time_to_calm(limits: JitterLimits | None) -> float:
    """Return how many seconds after a spike of delay the frames' delay stays below 40 ms.

    For a second every packet takes 250 ms longer than before and behind, where the network has no
    jitter. None: aiortc, whose delay is never below 40 ms.
    """
    stream = make_stream(SPIKE_SECONDS, expected_loss=0.0)

    def spike(sent_at: float) -> float:
        return SPIKE_DELAY if SPIKE_FROM <= sent_at < SPIKE_FROM + SPIKE_LENGTH else 0.0

    arrivals = cross(stream.packets, Conditions(), 1, extra=spike)
    hearing = _hear(arrivals, limits, SPIKE_SECONDS)
    spike_end = SPIKE_FROM + SPIKE_LENGTH
    late = [
        media_time + delay
        for media_time, delay in delays_by_time(stream, hearing)
        if delay > CALM_DELAY
    ]
    return max(0.0, max(late, default=0.0) - spike_end)


def _lose_one_of(
    stream: Stream, packets: Sequence[Sent], limits: JitterLimits | None
) -> tuple[int, float]:
    """Return frames lost and lasting delay when the packet in the middle is lost."""
    first = packets[0].slot
    moved = [Sent(sent.slot - first, sent.packet) for sent in packets]
    arrivals = [Arrival(slot * FRAME_TIME, slot, packet) for slot, packet in moved]
    without = arrivals[:_AROUND] + arrivals[_AROUND + 1 :]
    until = len(packets) * FRAME_TIME
    hearing = _hear(without, limits, until)
    reference = _hear(arrivals, limits, until)
    last = len(packets) - _AROUND // 2
    gap = frames_without_voice(stream, hearing, 0, last)
    settled = (_AROUND + _AROUND // 2) * FRAME_TIME
    delays = [
        delay for media_time, delay in delays_by_time(stream, hearing) if media_time >= settled
    ]
    usual = [
        delay for media_time, delay in delays_by_time(stream, reference) if media_time >= settled
    ]
    return gap, max(delays, default=1.0) - max(usual)


def _hear(arrivals: list[Arrival], limits: JitterLimits | None, until: float) -> Hearing:
    if limits is None:
        return hear_as_aiortc(arrivals)
    return hear(arrivals, PAYLOADS, limits, until)
