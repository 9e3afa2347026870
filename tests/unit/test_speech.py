"""The measures of sound quality can tell good from bad before anything is judged by them."""

import numpy as np
import pytest

from edge.audio.opus import OpusDecoder, OpusEncoder
from tests.support.speech import aligned, lag_of, log_spectral_distance, speech

RATES_HZ = (8_000, 16_000, 24_000, 48_000)
SECONDS = 4.0


def cut(pcm: bytes, rate_hz: int) -> list[bytes]:
    size = rate_hz // 50 * 2
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


def with_holes(pcm: bytes, rate_hz: int, every: int) -> bytes:
    frames = cut(pcm, rate_hz)
    return b"".join(bytes(len(f)) if n % every == 0 else f for n, f in enumerate(frames))


def through_opus(pcm: bytes, rate_hz: int, bitrate_bps: int) -> bytes:
    encoder = OpusEncoder(rate_hz, bitrate_bps=bitrate_bps, complexity=5, fec=False, dtx=False)
    decoder = OpusDecoder(rate_hz)
    out = b"".join(decoder.decode(encoder.encode(frame)) for frame in cut(pcm, rate_hz))
    return aligned(pcm, out, rate_hz, 0.1)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_speech_is_as_long_as_asked_and_as_loud_at_every_rate(rate_hz: int) -> None:
    pcm = speech(SECONDS, rate_hz, seed=1)
    assert len(pcm) == 2 * SECONDS * rate_hz
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    assert 1_500 < np.sqrt((samples**2).mean()) < 4_000
    assert abs(samples).max() < 32_767
    loudness = np.sqrt((samples.reshape(-1, rate_hz // 50) ** 2).mean(axis=1))
    assert 0.1 < (loudness < 30).mean() < 0.5  # pauses


def test_same_seed_same_speech() -> None:
    assert speech(1.0, 16_000, seed=1) == speech(1.0, 16_000, seed=1)
    assert speech(1.0, 16_000, seed=1) != speech(1.0, 16_000, seed=2)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_distance_orders_what_ears_would_order(rate_hz: int) -> None:
    pcm = speech(SECONDS, rate_hz, seed=2)
    codec = log_spectral_distance(pcm, through_opus(pcm, rate_hz, 32_000), rate_hz)
    holes = [log_spectral_distance(pcm, with_holes(pcm, rate_hz, n), rate_hz) for n in (50, 20, 4)]
    assert log_spectral_distance(pcm, pcm, rate_hz) == 0.0
    assert 0.3 < codec < 2.0
    assert codec < log_spectral_distance(pcm, through_opus(pcm, rate_hz, 8_000), rate_hz)
    assert 0.2 < holes[0] < holes[1] < holes[2]
    assert holes[1] > 1.0
    assert holes[2] > 5.0
    assert log_spectral_distance(pcm, bytes(len(pcm)), rate_hz) > 30.0
    assert log_spectral_distance(pcm, pcm[: len(pcm) // 2], rate_hz) > 10.0
    assert log_spectral_distance(pcm, speech(SECONDS, rate_hz, seed=3), rate_hz) > 10.0


def test_distance_ignores_what_the_reference_does_not_say() -> None:
    pcm = speech(SECONDS, 16_000, seed=2)
    assert log_spectral_distance(pcm, pcm + speech(1.0, 16_000, seed=5), 16_000) == 0.0
    assert log_spectral_distance(bytes(32_000), speech(1.0, 16_000, seed=5), 16_000) == 0.0


@pytest.mark.parametrize("samples", [-400, -1, 0, 1, 104, 4_000])
def test_lag(samples: int) -> None:
    pcm = speech(SECONDS, 16_000, seed=4)
    moved = bytes(2 * samples) + pcm if samples >= 0 else pcm[-2 * samples :]
    assert lag_of(pcm, moved, 16_000) == samples
    back = aligned(pcm, moved, 16_000)
    assert len(back) == len(pcm)
    lost = 2 * max(0, -samples)
    assert back == bytes(lost) + pcm[lost:]
