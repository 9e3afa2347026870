"""Sound that behaves like speech, made by arithmetic, and a measure of what became of it.

``speech`` sings syllables: harmonics under a moving pitch and three moving formants, hiss between
some of them, pauses between phrases. It says nothing, but codecs, voice activity detectors, jitter
buffers and concealment treat it as they treat a voice. The same seed is the same utterance at every
rate, only the band changes.

``log_spectral_distance`` compares loudness by frequency band and time, so it does not mind what
codecs do to the wave form, and minds holes, repetitions and noise. It expects both sounds to begin
at the same instant; ``aligned`` sees to that.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

_RATE_HZ = 24_000  # of synthesis
_STEP = 0.01  # seconds between the points of pitch, loudness and formants
_VOWELS_HZ = np.array(
    [
        [730, 1090, 2440],  # a
        [530, 1840, 2480],  # e
        [270, 2290, 3010],  # i
        [570, 840, 2410],  # o
        [300, 870, 2240],  # u
        [490, 1350, 1690],  # er
    ],
    dtype=np.float64,
)
_FORMANT_WIDTHS_HZ = (90.0, 110.0, 170.0)
_HARMONICS_HZ_MAX = 5_000.0
_ACTIVE_RMS = 3_000.0  # of 32,768: about -21 dBFS

_BANDS = 32
_WINDOW = 0.02  # seconds
_HOP = 0.01
_SILENT_DB = 40.0  # below the reference's loudest frame
_FLOOR_DB = 50.0  # below the reference's mean band power; softer is equally silent


def speech(seconds: float, rate_hz: int, seed: int) -> bytes:
    """Return PCM16LE mono. About a quarter of it is pauses, of 0.2 s and more."""
    random = np.random.default_rng(seed)
    points = int(np.ceil(seconds / _STEP)) + 2
    voiced, hiss, pitch, formants = _score(random, points)
    length = round(seconds * _RATE_HZ)
    at = np.arange(length) / (_RATE_HZ * _STEP)  # in points
    grid = np.arange(points)
    phase = np.cumsum(np.interp(at, grid, pitch)) * (2 * np.pi / _RATE_HZ)
    sound = np.zeros(length)
    for harmonic in range(1, int(_HARMONICS_HZ_MAX / pitch.min()) + 1):
        strength = voiced * _envelope(harmonic * pitch, formants)
        sound += np.interp(at, grid, strength) * np.sin(harmonic * phase)
    sound += np.interp(at, grid, hiss) * _bright_noise(random, length)
    active = np.abs(sound) > 1e-3
    if active.any():
        sound *= _ACTIVE_RMS / np.sqrt(np.mean(sound[active] ** 2))
    sound += random.normal(0, 3.0, length)  # a quiet room
    return _pcm(_at_rate(sound, round(seconds * rate_hz)))


def log_spectral_distance(reference: bytes, degraded: bytes, rate_hz: int) -> float:
    """Return the mean difference in dB over bands and frames where the reference is not silent.

    0 for equal sounds, 1 to 2 for what Opus does at 32 kbit/s, 1.3 for holes of 20 ms in 5 % of
    the time, 34 for silence. A shorter ``degraded`` counts as silent from its end on; what it has
    more than the reference is ignored.
    """
    wanted = _samples(reference)
    given = _samples(degraded)[: len(wanted)]
    given = np.pad(given, (0, len(wanted) - len(given)))
    spoken = _band_powers(wanted, rate_hz)
    heard = _band_powers(given, rate_hz)
    loudness = spoken.sum(axis=1)
    audible = loudness > loudness.max(initial=0.0) * 10 ** (-_SILENT_DB / 10)
    if not audible.any():
        return 0.0
    floor = spoken[audible].mean() * 10 ** (-_FLOOR_DB / 10)
    ratio = 10 * np.log10((spoken[audible] + floor) / (heard[audible] + floor))
    return float(np.sqrt((ratio**2).mean(axis=1)).mean())


def lag_of(reference: bytes, degraded: bytes, rate_hz: int, most: float = 1.0) -> int:
    """Return by how many samples ``degraded`` comes late: where both correlate best.

    Looks ``most`` seconds to either side; negative when it comes early.
    """
    wanted, given = _samples(reference), _samples(degraded)
    size = 1 << int(np.ceil(np.log2(len(wanted) + len(given))))
    spectrum = np.fft.rfft(given, size) * np.conj(np.fft.rfft(wanted, size))
    correlation = np.fft.irfft(spectrum, size)
    reach = min(round(most * rate_hz), size // 2 - 1)
    around = np.concatenate([correlation[size - reach :], correlation[: reach + 1]])
    return int(np.argmax(around)) - reach


def aligned(reference: bytes, degraded: bytes, rate_hz: int, most: float = 1.0) -> bytes:
    """Return ``degraded`` moved by its lag, and padded or cut to the length of ``reference``."""
    lag = lag_of(reference, degraded, rate_hz, most)
    moved = degraded[2 * lag :] if lag >= 0 else bytes(-2 * lag) + degraded
    return moved[: len(reference)].ljust(len(reference), b"\0")


def _score(
    random: np.random.Generator, points: int
) -> tuple[Samples, Samples, Samples, npt.NDArray[np.float64]]:
    """Return loudness of voice and hiss, pitch in Hz and formants in Hz at every point."""
    voiced, hiss, pitch = np.zeros(points), np.zeros(points), np.full(points, 120.0)
    formants = np.tile(_VOWELS_HZ[0], (points, 1))
    register = random.uniform(95, 190)
    vowel = _VOWELS_HZ[0]
    at = 5
    while at < points:
        syllables = int(random.integers(3, 9))
        for syllable in range(syllables):
            if random.random() < 0.4:
                length = int(random.integers(4, 9))
                _add(hiss, at, np.hanning(length + 2)[1:-1] * random.uniform(0.05, 0.2))
                at += length
            length = int(random.integers(9, 24))
            target = _VOWELS_HZ[random.integers(len(_VOWELS_HZ))]
            swell = np.hanning(length + 2)[1:-1] ** 0.5 * random.uniform(0.5, 1.0)
            _add(voiced, at, swell)
            glide = np.linspace(0, 1, length)[: max(0, points - at)]
            fall = 1.15 - 0.3 * (syllable + glide) / syllables
            pitch[at : at + length] = register * fall * random.uniform(0.94, 1.06)
            blend = np.minimum(1.0, 2 * glide)[:, None]
            formants[at : at + length] = vowel * (1 - blend) + target * blend
            vowel = target
            at += length + int(random.integers(0, 4))
        at += int(random.integers(20, 60))
    smooth = np.hanning(9) / np.hanning(9).sum()
    pitch = np.convolve(np.pad(pitch, 4, mode="edge"), smooth, mode="valid")
    return voiced, hiss, pitch, formants


def _add(track: Samples, at: int, shape: Samples) -> None:
    end = min(len(track), at + len(shape))
    track[at:end] += shape[: max(0, end - at)]


def _envelope(frequency: Samples, formants: npt.NDArray[np.float64]) -> Samples:
    """Return the vocal tract's gain at one frequency per point: resonances on a falling slope."""
    gain = np.full(len(frequency), 0.01)
    for index, width in enumerate(_FORMANT_WIDTHS_HZ):
        gain += 1.0 / (1.0 + ((frequency - formants[:, index]) / width) ** 2)
    gain *= 1.0 / (1.0 + (frequency / 500.0) ** 1.5)
    return np.where(frequency < _HARMONICS_HZ_MAX, gain, 0.0)


def _at_rate(sound: Samples, length: int) -> Samples:
    """Return ``sound`` as ``length`` samples of the same time, without what they cannot hold."""
    spectrum = np.fft.rfft(sound)[: length // 2 + 1]
    return np.fft.irfft(spectrum, length) * (length / len(sound))


def _bright_noise(random: np.random.Generator, length: int) -> Samples:
    """Return noise that rises with frequency, as s and f do."""
    noise = random.normal(0, 1, length + 2)
    return noise[2:] - 1.2 * noise[1:-1] + 0.5 * noise[:-2]


def _band_powers(sound: Samples, rate_hz: int) -> npt.NDArray[np.float64]:
    """Return power per frame and band; bands are equally wide in mel up to 8 kHz."""
    window, hop = round(_WINDOW * rate_hz), round(_HOP * rate_hz)
    sound = np.pad(sound, (0, max(0, window - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
    edges_mel = np.linspace(_mel(100.0), _mel(min(8_000.0, rate_hz * 0.45)), _BANDS + 1)
    edges_hz = 700.0 * (10 ** (edges_mel / 2595.0) - 1)
    edges = np.round(edges_hz * window / rate_hz).astype(int)
    bands = [power[:, low : max(high, low + 1)].sum(axis=1) for low, high in pairwise(edges)]
    return np.stack(bands, axis=1)


def _mel(frequency_hz: float) -> float:
    return float(2595.0 * np.log10(1 + frequency_hz / 700.0))


def _samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, dtype="<i2").astype(np.float64)


def _pcm(sound: Samples) -> bytes:
    return np.clip(np.rint(sound), -32_768, 32_767).astype("<i2").tobytes()
