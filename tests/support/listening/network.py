"""What a network does to a stream's packets, on virtual time.

*Jitter* is the standard deviation of the delays beyond the network's least. They are one-sided with
a long tail: gamma-distributed of shape 2, that is, half the sum of four squared normal numbers.
With 30 ms of jitter their mean is 42 ms, one in twenty is above 101 ms, one in a hundred above 141.
With *reordering* every packet's delay is independent. Without, the delay wanders as a queue's does,
correlated by 0.81 from one packet to the next 20 ms later, and a packet waits for the one before.
*Loss* is independent. The first packet always comes, without delay: media time begins with it.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from attrs import frozen

from edge.rtp.packet import RtpPacket
from tests.support.listening.stream import FRAME_TIME, Sent

_NORMALS = 4
_SCALE = 0.5 / math.sqrt(2.0)
"""So that the standard deviation is 1."""
_MEMORY = 0.9
"""Of each normal number, from one packet to the next; its square is the delay's."""


class Arrival(NamedTuple):
    at: float
    slot: int
    packet: RtpPacket


@frozen
class Conditions:
    loss: float = 0.0
    jitter: float = 0.0
    """Seconds."""
    reordering: bool = False


def cross(
    packets: Sequence[Sent],
    conditions: Conditions,
    seed: int,
    *,
    extra: Callable[[float], float] = lambda _: 0.0,
) -> list[Arrival]:
    """Return what arrives, in the order in which it does.

    The network's least delay is 0; ``extra(sent_at)`` is added. A packet's fate depends on the seed
    and its place in the stream only: streams that differ in content lose and delay the same ones.
    """
    fate = random.Random(seed)
    arrivals: list[Arrival] = []
    latest = 0.0
    memory = 0.0 if conditions.reordering else _MEMORY
    fresh = math.sqrt(1.0 - memory**2)
    normals = [fate.gauss(0.0, 1.0) for _ in range(_NORMALS)]
    for number, (slot, packet) in enumerate(packets):
        lost = fate.random() < conditions.loss
        normals = [memory * each + fresh * fate.gauss(0.0, 1.0) for each in normals]
        delay = conditions.jitter * _SCALE * sum(each * each for each in normals)
        sent_at = slot * FRAME_TIME
        if number == 0:
            arrivals.append(Arrival(sent_at, slot, packet))
            continue
        at = sent_at + delay + extra(sent_at)
        if not conditions.reordering:
            at = latest = max(at, latest)
        if not lost:
            arrivals.append(Arrival(at, slot, packet))
    arrivals.sort(key=lambda arrival: arrival.at)
    return arrivals
