"""A client's RTP packets, a seeded bad network, and an owner that pulls as it should.

All on virtual time. ``talk`` makes a stream, ``travel`` gives each packet its fate, ``listen``
feeds a ``JitterBuffer`` or an ``Inbound`` and collects what comes out, with the time of it.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from attrs import frozen

from edge.rtp.packet import RtpPacket

PieceT_co = TypeVar("PieceT_co", covariant=True)
DELAY = 0.05
"""Seconds from client to us on the fastest path."""
START = 1000.0


class Sent(NamedTuple):
    at: float
    packet: RtpPacket


class Arrival(NamedTuple):
    at: float
    packet: RtpPacket


@frozen(kw_only=True)
class Network:
    """What happens on the way. Times are seconds."""

    loss: float = 0.0
    jitter: float = 0.0
    """Uniform extra delay in 0..jitter, so that packets overtake each other."""
    ordered: bool = False
    """They do not: whoever would overtake arrives with the one before."""
    duplicate: float = 0.0
    stalls: Sequence[tuple[float, float]] = ()
    """From the first time to the second, nothing arrives; then all of it."""


def talk(
    frames: int,
    *,
    frame: float = 0.02,
    clock_rate_hz: int = 48_000,
    payload: Callable[[int], bytes] = lambda number: b"%d" % number,
    sequence: int = 1,
    timestamp: int = 0,
    ssrc: int = 1,
    payload_type: int = 111,
    start: float = START,
    silent: Callable[[int], bool] = lambda _: False,
    ppm: float = 0.0,
) -> list[Sent]:
    """Return one packet per frame, but for ``silent`` frames, in which only the clock runs.

    ``ppm``: how much faster than ours the client's clock is.
    """
    sent: list[Sent] = []
    ticks = round(frame * clock_rate_hz)
    for number in range(frames):
        if silent(number):
            continue
        packet = RtpPacket(
            payload_type=payload_type,
            marker=False,
            sequence_number=(sequence + len(sent)) & 0xFFFF,
            timestamp=(timestamp + number * ticks) & 0xFFFF_FFFF,
            ssrc=ssrc,
            payload=payload(number),
        )
        sent.append(Sent(start + number * frame / (1 + ppm / 1e6), packet))
    return sent


def travel(sent: Iterable[Sent], network: Network, seed: int = 1) -> list[Arrival]:
    """Return what arrives, in order of arrival."""
    rng = random.Random(seed)
    arrivals: list[Arrival] = []
    latest = 0.0
    for at, packet in sent:
        if rng.random() < network.loss:
            continue
        for _ in range(2 if rng.random() < network.duplicate else 1):
            arrival = at + DELAY + rng.random() * network.jitter
            for begin, end in network.stalls:
                if begin <= arrival < end:
                    arrival = end
            if network.ordered:
                arrival = latest = max(latest, arrival)
            arrivals.append(Arrival(arrival, packet))
    return sorted(arrivals, key=lambda arrival: arrival.at)


class Listener(Protocol[PieceT_co]):
    """Something that is fed with packets and pulled for pieces of sound."""

    def feed(self, packet: RtpPacket, now: float) -> None: ...
    def pull(self, now: float) -> PieceT_co | None: ...
    def due(self) -> float | None: ...


def listen(
    listener: "Listener[PieceT_co]", arrivals: Iterable[Arrival], until: float
) -> list[tuple[float, PieceT_co]]:
    """Feed all arrivals and let timeouts pass up to ``until``; return what came out, and when."""
    out: list[tuple[float, PieceT_co]] = []

    def drain(now: float) -> None:
        while (piece := listener.pull(now)) is not None:
            out.append((now, piece))
        due = listener.due()
        assert due is None or due > now, "a deadline that has passed stays armed"

    def pass_time(end: float) -> None:
        while (due := listener.due()) is not None and due <= end:
            drain(due)

    for at, packet in arrivals:
        pass_time(at)
        listener.feed(packet, at)
        drain(at)
    pass_time(until)
    return out
