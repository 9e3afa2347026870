"""Receivers of the same packets at the same virtual times: ours, and aiortc's.

aiortc's is what its ``RTCRtpReceiver`` does with an audio packet, without threads and sockets: the
jitter buffer as it sets it up, its decoder, and frames handed on as soon as they are decoded. It
knows neither FEC nor concealment nor RED.
"""

from collections.abc import Sequence
from typing import NamedTuple

import av
import numpy as np
from aiortc.codecs.opus import OpusDecoder
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import RtpPacket as AiortcPacket

from edge.media.frames import AudioFormat, Encoding, Label
from edge.media.inbound import Inbound
from edge.media.payloads import PayloadTypes
from edge.rtp.jitter import JitterLimits
from tests.support.listening.network import Arrival
from tests.support.listening.stream import RATE_HZ

FORMAT = AudioFormat(Encoding.PCM16, RATE_HZ)
PULLS_MAX = 1_000
"""Frames and time-outs at one instant; more is an endless loop."""
EPSILON = 1e-9
"""Of two things at one instant, the packet comes first; sums of floats are not exact."""

_AIORTC_RATE_HZ = 48_000


class Heard(NamedTuple):
    """One frame as it was handed to the backend."""

    at: float
    media_time: float
    """On the sender's clock: without the silence that a receiver has put in."""
    label: Label
    pcm: bytes


class Hearing(NamedTuple):
    """All that one receiver handed on."""

    rate_hz: int
    frames: list[Heard]


def hear(
    arrivals: Sequence[Arrival], payloads: PayloadTypes, limits: JitterLimits, until: float
) -> Hearing:
    """Let an ``Inbound`` receive the packets, and its clock run to ``until``."""
    inbound = Inbound(payloads, FORMAT, limits)
    heard: list[Heard] = []
    for at, _, packet in arrivals:
        _run_clock(inbound, at, heard)
        inbound.receive(packet, at)
        _pull(inbound, at, heard)
    _run_clock(inbound, until, heard)
    return Hearing(RATE_HZ, heard)


def hear_as_aiortc(arrivals: Sequence[Arrival]) -> Hearing:
    """Do with the packets what aiortc does."""
    buffer = JitterBuffer(capacity=16, prefetch=4)
    decoder = OpusDecoder()
    first = arrivals[0].packet.timestamp
    heard: list[Heard] = []
    for at, _, packet in arrivals:
        theirs = AiortcPacket(
            payload_type=packet.payload_type,
            marker=int(packet.marker),
            sequence_number=packet.sequence_number,
            timestamp=packet.timestamp,
            ssrc=packet.ssrc,
            payload=packet.payload,
        )
        theirs._data = packet.payload  # type: ignore[attr-defined]  # where it keeps them, too
        _, encoded = buffer.add(theirs)
        if encoded is None:
            continue
        encoded.timestamp = (encoded.timestamp - first) & 0xFFFF_FFFF
        for frame in decoder.decode(encoded):
            assert isinstance(frame, av.AudioFrame)
            assert frame.pts is not None
            stereo = frame.to_ndarray().reshape(-1, 2).astype(np.float64)
            pcm = stereo.mean(axis=1).astype("<i2").tobytes()
            heard.append(Heard(at, frame.pts / _AIORTC_RATE_HZ, Label.RECEIVED, pcm))
    return Hearing(_AIORTC_RATE_HZ, heard)


def _run_clock(inbound: Inbound, until: float, heard: list[Heard]) -> None:
    """Pull at every time-out before ``until``."""
    at_once = 0
    last = -1.0
    while (due := inbound.next_timeout()) is not None and due < until - EPSILON:
        at_once = at_once + 1 if due <= last else 0
        assert at_once < PULLS_MAX, "a time-out that does not move on"
        last = max(due, last)
        _pull(inbound, last, heard)


def _pull(inbound: Inbound, now: float, heard: list[Heard]) -> None:
    for _ in range(PULLS_MAX):
        frame = inbound.next_frame(now)
        if frame is None:
            return
        media_time = frame.media_time - inbound.statistics().stretched
        heard.append(Heard(now, media_time, frame.label, frame.audio))
    raise AssertionError("frames without end")
