"""What a receiver made of a stream: delay, loss, and distance from the voice that was sent.

Delays are beyond the network's least, which is 0, and beyond the 20 ms that a packet takes to
speak. They and the counts are of the slots that had sound of their own, so not of DTX. The sound
that is compared is put together by media time; where a receiver gave nothing, there is silence.
"""

import functools
from statistics import fmean

import numpy as np
import soxr
from attrs import frozen

from edge.audio.opus import OpusDecoder
from edge.media.frames import Label
from tests.support.listening.network import Arrival
from tests.support.listening.receivers import Heard, Hearing
from tests.support.listening.stream import FRAME_BYTES, FRAME_TIME, RATE_HZ, Stream, make_stream
from tests.support.speech import lag_of, log_spectral_distance


@frozen
class Measures:
    """Times in ms."""

    delay_mean: float
    """Of every frame, made up or not."""
    delay_p95: float
    delay_max: float
    buffer_mean: float
    """From a packet's arrival to its frame."""
    fec: float
    """Share of the frames whose packet did not come in time, but a copy."""
    concealed: float
    """Share of the frames that were made up."""
    missing: float
    """Share of the frames that never came."""
    gap_frames: int
    """The longest run of frames concealed or missing."""
    distance: float
    """Log spectral distance in dB."""

    @property
    def lost(self) -> float:
        """Share of the voice that the backend never got."""
        return self.concealed + self.missing


def measure(stream: Stream, arrivals: list[Arrival], hearing: Hearing) -> Measures:
    """Compare what was heard with what was sent."""
    by_slot: dict[int, Heard] = {}
    for frame in hearing.frames:
        by_slot.setdefault(round(frame.media_time / FRAME_TIME), frame)
    arrived: dict[int, float] = {}
    for arrival in arrivals:
        arrived.setdefault(arrival.slot, arrival.at)
    heard = {slot: by_slot[slot] for slot in sorted(stream.spoken & by_slot.keys())}
    delays = [1e3 * (frame.at - slot * FRAME_TIME) for slot, frame in heard.items()]
    buffered = [
        1e3 * (frame.at - arrived[slot])
        for slot, frame in heard.items()
        if frame.label is Label.RECEIVED
    ]
    spoken = len(stream.spoken)
    labels = [frame.label for frame in heard.values()]
    made_up = labels.count(Label.CONCEALED) + labels.count(Label.DTX)
    return Measures(
        delay_mean=fmean(delays),
        delay_p95=float(np.percentile(delays, 95)),
        delay_max=max(delays),
        buffer_mean=fmean(buffered),
        fec=labels.count(Label.FEC) / spoken,
        concealed=made_up / spoken,
        missing=1 - len(heard) / spoken,
        gap_frames=_longest_gap(stream, heard),
        distance=_distance(stream, hearing),
    )


def delays_by_time(stream: Stream, hearing: Hearing) -> list[tuple[float, float]]:
    """Return (sent at, delay) of every frame that had sound, in media time; seconds."""
    return sorted(
        (frame.media_time, frame.at - frame.media_time)
        for frame in hearing.frames
        if round(frame.media_time / FRAME_TIME) in stream.spoken
    )


def frames_without_voice(stream: Stream, hearing: Hearing, first: int, last: int) -> int:
    """Count the slots of ``range(first, last)`` that were made up or never came."""
    real = {
        round(frame.media_time / FRAME_TIME)
        for frame in hearing.frames
        if frame.label in {Label.RECEIVED, Label.FEC}
    }
    return sum(1 for slot in range(first, last) if slot in stream.spoken and slot not in real)


def _longest_gap(stream: Stream, heard: dict[int, Heard]) -> int:
    longest = run = 0
    for slot in range(stream.slots):
        if slot not in stream.spoken:
            run = 0
            continue
        frame = heard.get(slot)
        real = frame is not None and frame.label in {Label.RECEIVED, Label.FEC}
        run = 0 if real else run + 1
        longest = max(longest, run)
    return longest


def _distance(stream: Stream, hearing: Hearing) -> float:
    rate_hz = hearing.rate_hz
    length = len(stream.voice) // 2 * rate_hz // RATE_HZ
    sound = np.zeros(length, dtype=np.int16)
    for frame in hearing.frames:
        pcm = np.frombuffer(frame.pcm, dtype="<i2")
        at = round(frame.media_time * rate_hz)
        pcm = pcm[: max(0, length - at)]
        sound[at : at + len(pcm)] = pcm
    if rate_hz != RATE_HZ:
        sound = soxr.resample(sound, rate_hz, RATE_HZ, quality="HQ")
    heard = sound[_codec_lag() :].astype("<i2").tobytes()
    return log_spectral_distance(stream.voice[: len(heard)], heard, RATE_HZ)


@functools.cache
def _codec_lag() -> int:
    """Return by how many samples the codec alone comes late."""
    stream = make_stream(5.0, expected_loss=0.0)
    decoder = OpusDecoder(RATE_HZ)
    heard = b"".join(decoder.decode(sent.packet.payload) for sent in stream.packets)
    assert len(heard) == len(stream.packets) * FRAME_BYTES
    return lag_of(stream.voice, heard, RATE_HZ, 0.1)
