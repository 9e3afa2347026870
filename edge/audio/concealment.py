"""Stands in for lost frames of a codec that has no concealment of its own, as G.711.

After ITU-T G.711 Appendix I: the last pitch period is repeated, at full strength for 10 ms, then
falling to silence at 60 ms; when sound comes again, the repetition is blended into it. The appendix
delays good sound by 3.75 ms to have something to blend at the start of a gap. Here nothing is
delayed: the period is blended at its seam, and its first samples are bent to fit.
"""

import numpy as np
import numpy.typing as npt

RATE_HZ = 8_000

_PERIOD_MIN, _PERIOD_MAX = 40, 120  # samples: 200 to 66 Hz
_COMPARED = 160  # samples: what of the past is compared with what came a period before
_HISTORY = _COMPARED + _PERIOD_MAX
_FULL, _SILENT = 80, 480  # samples into a gap
_BLEND = 32  # samples

Samples = npt.NDArray[np.float32]

_RISE = ((np.arange(_BLEND) + 0.5) / _BLEND).astype(np.float32)


class Concealment:
    """One stream's memory of its last 35 ms, at 8 kHz."""

    def __init__(self) -> None:
        self._history: Samples = np.zeros(_HISTORY, np.float32)
        self._period: Samples | None = None  # what is repeated; None outside of gaps
        self._made = 0  # samples into the gap

    def receive(self, pcm: bytes) -> bytes:
        """Return good sound as it is, but for its first 4 ms if it ends a gap."""
        heard = np.frombuffer(pcm, "<i2")
        if self._period is not None:
            blended = heard.astype(np.float32)
            rise = _RISE[: len(blended)]
            going = self._continue(len(rise))
            blended[: len(rise)] = rise * blended[: len(rise)] + (1 - rise) * going
            self._period = None
            heard = np.rint(blended).astype("<i2")
            pcm = heard.tobytes()
        self._history = np.concatenate([self._history, heard])[-_HISTORY:].astype(np.float32)
        return pcm

    def conceal(self, samples: int) -> bytes:
        """Return ``samples`` that continue the sound; silence after 60 ms of it."""
        if self._period is None:
            self._period = _last_period(self._history)
            self._made = 0
        return np.rint(self._continue(samples)).astype("<i2").tobytes()

    def _continue(self, samples: int) -> Samples:
        assert self._period is not None
        at = np.arange(self._made, self._made + samples)
        self._made += samples
        gain = np.clip((_SILENT - at) / (_SILENT - _FULL), 0, 1)
        bend = np.clip(1 - at / _BLEND, 0, 1) * (self._history[-1] - self._period[-1])
        made: Samples = (self._period[at % len(self._period)] + bend) * gain
        return np.clip(made, -32_768, 32_767).astype(np.float32)


def _last_period(history: Samples) -> Samples:
    """Return the last pitch period, its end blended so that its beginning follows it."""
    length = _pitch(history)
    period = history[-length:].copy()
    before = history[-length - _BLEND : -length]
    period[-_BLEND:] = (1 - _RISE) * period[-_BLEND:] + _RISE * before
    return period


def _pitch(history: Samples) -> int:
    """Return by how many samples the past has to be moved to be most like itself."""
    recent = history[-_COMPARED:]
    shifted = np.lib.stride_tricks.sliding_window_view(history, _COMPARED)[:-_PERIOD_MIN]
    likeness = shifted @ recent
    energy = np.einsum("ij,ij->i", shifted, shifted)
    best = int(np.argmax(likeness / np.sqrt(energy + 1.0)))
    return _PERIOD_MAX - best
