import numpy as np
import numpy.typing as npt
import pytest

from edge.audio.concealment import Concealment
from tests.support.speech import log_spectral_distance, speech

Samples = npt.NDArray[np.int64]


def samples_of(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.int64)


def hum(frequency_hz: float, samples: int) -> bytes:
    at = np.arange(samples) / 8_000
    voice = sum(np.sin(2 * np.pi * n * frequency_hz * at) / n for n in (1, 2, 3))
    return np.rint(6_000 * voice).astype("<i2").tobytes()


def with_losses(pcm: bytes, lost: set[int]) -> bytes:
    concealment = Concealment()
    out = []
    for n, at in enumerate(range(0, len(pcm), 320)):
        frame = pcm[at : at + 320]
        out.append(concealment.conceal(160) if n in lost else concealment.receive(frame))
    return b"".join(out)


@pytest.mark.parametrize("frequency_hz", [70, 100, 137, 160, 195])
def test_a_steady_voice_goes_on(frequency_hz: float) -> None:
    """A pitch that is not a whole number of samples drifts, but by far less than a period."""
    pcm = hum(frequency_hz, 3_200)
    good, heard = samples_of(pcm), samples_of(with_losses(pcm, {10}))
    lost = slice(1_600, 1_760)
    error = np.sqrt(((heard - good)[lost] ** 2).mean() / (good[lost] ** 2).mean())
    assert error < 0.45  # a fifth of it is the fading from 10 ms on; silence would be 1
    assert np.abs(np.diff(heard)).max() < 1.3 * np.abs(np.diff(good)).max()  # no clicks


def test_good_sound_is_untouched_but_for_4_ms_after_a_gap() -> None:
    pcm = speech(1.0, 8_000, seed=1)
    assert with_losses(pcm, set()) == pcm
    heard = with_losses(pcm, {10, 11, 20})
    for begin, end in ((0, 10), (13, 20), (22, 50)):
        assert heard[320 * begin : 320 * end] == pcm[320 * begin : 320 * end]
    assert heard[320 * 12 + 64 : 320 * 13] == pcm[320 * 12 + 64 : 320 * 13]
    assert heard[320 * 21 + 64 : 320 * 22] == pcm[320 * 21 + 64 : 320 * 22]
    assert heard[320 * 12 : 320 * 12 + 64] != pcm[320 * 12 : 320 * 12 + 64]


def test_a_long_gap_falls_silent_after_60_ms() -> None:
    concealment = Concealment()
    concealment.receive(hum(120, 1_600))
    made = np.abs(samples_of(b"".join(concealment.conceal(160) for _ in range(5))))
    loudness = made.reshape(-1, 80).max(axis=1)
    assert loudness[0] > 6_000
    assert list(loudness[:6]) == sorted(loudness[:6], reverse=True)
    assert not loudness[6:].any()


def test_pieces_of_any_length_conceal_the_same() -> None:
    whole, pieces = Concealment(), Concealment()
    for each in (whole, pieces):
        each.receive(hum(120, 1_600))
    assert b"".join(pieces.conceal(n) for n in (1, 79, 100, 60, 80)) == whole.conceal(320)


def test_before_any_sound_there_is_silence() -> None:
    assert Concealment().conceal(160) == bytes(320)


def test_short_frames_end_a_gap_too() -> None:
    concealment = Concealment()
    concealment.receive(hum(120, 1_600))
    concealment.conceal(160)
    assert len(concealment.receive(hum(120, 8))) == 16
    assert concealment.receive(hum(120, 160)) == hum(120, 160)


def test_the_loudest_sound_does_not_wrap_around() -> None:
    square = (np.sign(np.sin(np.arange(1_600) * 0.1)) * 32_767).astype("<i2").tobytes()
    heard = samples_of(with_losses(square, {3, 4, 7}))
    assert heard.max() <= 32_767
    assert heard.min() >= -32_768


@pytest.mark.parametrize("every", [10, 20])
def test_better_than_holes(every: int) -> None:
    pcm = speech(6.0, 8_000, seed=2)
    lost = set(range(5, 300, every))
    frames = [pcm[at : at + 320] for at in range(0, len(pcm), 320)]
    holes = b"".join(bytes(320) if n in lost else frame for n, frame in enumerate(frames))
    concealed = log_spectral_distance(pcm, with_losses(pcm, lost), 8_000)
    assert concealed < 0.65 * log_spectral_distance(pcm, holes, 8_000)
