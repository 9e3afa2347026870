from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from edge.audio.resample import Resampler
from edge.errors import LocalProtocolError
from tests.support.speech import aligned, lag_of, log_spectral_distance, speech

RATES_HZ = (8_000, 16_000, 24_000, 48_000)
PAIRS = list(permutations(RATES_HZ, 2))


def tone(frequency_hz: float, rate_hz: int, seconds: float = 1.0) -> bytes:
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    sound: npt.NDArray[np.float64] = 10_000 * np.sin(2 * np.pi * frequency_hz * at)
    return np.rint(sound).astype("<i2").tobytes()


def spectrum_db(pcm: bytes, rate_hz: int) -> npt.NDArray[np.float64]:
    """Return the level at each full Hz of the last 0.9 s, 0 dB for what ``tone`` makes."""
    sound = np.frombuffer(pcm, "<i2").astype(np.float64)[-(rate_hz * 9 // 10) :]
    level = np.abs(np.fft.rfft(sound * np.blackman(len(sound)), rate_hz))
    return 20 * np.log10(level / (10_000 * 0.42 * len(sound) / 2) + 1e-6)


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_frame_in_frame_out_and_1500_us_late_at_most(from_hz: int, to_hz: int) -> None:
    pcm = speech(3.0, from_hz, seed=1)
    resampler = Resampler(from_hz, to_hz)
    size = from_hz // 50 * 2
    frames = [resampler.resample(pcm[at : at + size]) for at in range(0, len(pcm), size)]
    assert {len(frame) for frame in frames} == {to_hz // 50 * 2}
    heard = b"".join(frames)
    wanted = speech(3.0, to_hz, seed=1)
    assert resampler.delay <= 0.0015
    assert abs(lag_of(wanted, heard, to_hz, 0.1) - resampler.delay * to_hz) <= 1
    if to_hz < from_hz:
        heard = aligned(wanted, heard, to_hz, 0.1)
        assert log_spectral_distance(wanted, heard, to_hz) < 0.3


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_tones_pass_and_make_no_others(from_hz: int, to_hz: int) -> None:
    """Flat in the band; nothing else above -60 dB (the noise of rounding is at -95)."""
    lower_hz = min(from_hz, to_hz)
    for share in (0.05, 0.5, 0.85):
        frequency_hz = round(share * lower_hz / 2)
        heard = Resampler(from_hz, to_hz).resample(tone(frequency_hz, from_hz))
        level = spectrum_db(heard, to_hz)
        assert abs(level[frequency_hz]) < 0.2
        level[frequency_hz - 10 : frequency_hz + 10] = -120
        assert level.max() < -55


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_hold_is_gone(from_hz: int, to_hz: int) -> None:
    for share in (1.16, 1.5, 1.9):
        if (frequency_hz := share * to_hz / 2) < from_hz / 2:
            heard = Resampler(from_hz, to_hz).resample(tone(frequency_hz, from_hz))
            assert spectrum_db(heard, to_hz).max() < -55


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_pieces_of_any_length_make_the_same_sound(from_hz: int, to_hz: int) -> None:
    random = np.random.default_rng(1)
    pcm = speech(0.5, from_hz, seed=1)
    whole, pieces = Resampler(from_hz, to_hz), Resampler(from_hz, to_hz)
    out, at = b"", 0
    while at < len(pcm):
        size = 2 * int(random.integers(0, 90))
        out += pieces.resample(pcm[at : at + size])
        at += size
    assert out == whole.resample(pcm)


def test_extremes_are_clipped_not_wrapped() -> None:
    square = (np.sign(np.sin(np.arange(8_000) * 0.1)) * 32_767).astype("<i2").tobytes()
    heard = np.frombuffer(Resampler(8_000, 24_000).resample(square), "<i2").astype(np.int64)
    assert heard.max() == 32_767
    assert heard.min() == -32_768
    assert np.abs(np.diff(heard)).max() < 40_000  # wrapping around would be 65,535


def test_equal_rates_change_nothing() -> None:
    pcm = speech(0.1, 8_000, seed=1)
    resampler = Resampler(8_000, 8_000)
    assert resampler.resample(pcm) == pcm
    assert resampler.delay == 0.0


@pytest.mark.parametrize(("from_hz", "to_hz"), [(0, 8_000), (8_000, 0), (-1, 8_000)])
def test_rates_are_positive(from_hz: int, to_hz: int) -> None:
    with pytest.raises(LocalProtocolError):
        Resampler(from_hz, to_hz)
