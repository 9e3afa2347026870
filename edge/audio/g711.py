"""G.711: eight logarithmic bits per sample at 8 kHz, mu-law (PCMU) and A-law (PCMA).

Tables, made once from the arithmetic of ITU-T G.191's reference. PCM is 16-bit little-endian.
"""

import numpy as np
import numpy.typing as npt

RATE_HZ = 8_000

_Samples = npt.NDArray[np.int16]
_Bytes = npt.NDArray[np.uint8]


def decode_ulaw(payload: bytes) -> bytes:
    return _ULAW_SAMPLES[np.frombuffer(payload, np.uint8)].tobytes()


def encode_ulaw(pcm: bytes) -> bytes:
    """Return one byte for each sample; ``pcm`` is whole samples."""
    return _ULAW_BYTES[np.frombuffer(pcm, np.uint16)].tobytes()


def decode_alaw(payload: bytes) -> bytes:
    return _ALAW_SAMPLES[np.frombuffer(payload, np.uint8)].tobytes()


def encode_alaw(pcm: bytes) -> bytes:
    """Return one byte for each sample; ``pcm`` is whole samples."""
    return _ALAW_BYTES[np.frombuffer(pcm, np.uint16)].tobytes()


def _ulaw_samples() -> _Samples:
    code = ~np.arange(256) & 0xFF  # sent inverted
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = (((2 * mantissa + 33) << exponent) - 33) << 2  # 14 bits, of 16
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")


def _ulaw_bytes() -> _Bytes:
    sample, negative = _every_sample()
    biased = np.minimum((sample >> 2) + 33, 0x1FFF)
    exponent = _bit_length(biased) - 6
    code = exponent << 4 | biased >> (exponent + 1) & 15
    signed: npt.NDArray[np.int64] = np.where(negative, code | 0x80, code)
    return (~signed & 0xFF).astype(np.uint8)


def _alaw_samples() -> _Samples:
    code = np.arange(256) ^ 0x55  # sent with every second bit inverted
    exponent, mantissa = code >> 4 & 7, code & 15
    linear = 2 * mantissa + 1  # in the first two segments, of 13 bits
    curved = (2 * mantissa + 33) << np.maximum(exponent - 1, 0)
    magnitude = np.where(exponent, curved, linear) << 3
    return np.where(code & 0x80, magnitude, -magnitude).astype("<i2")


def _alaw_bytes() -> _Bytes:
    sample, negative = _every_sample()
    short = sample >> 4
    exponent = np.maximum(_bit_length(short) - 4, 0)
    code = exponent << 4 | short >> np.maximum(exponent - 1, 0) & 15
    signed: npt.NDArray[np.int64] = np.where(negative, code, code | 0x80)
    return (signed ^ 0x55).astype(np.uint8)


def _every_sample() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return magnitude (of negative ones that of their complement) and sign, in unsigned order."""
    sample = np.arange(65_536).astype(np.uint16).view(np.int16).astype(np.int64)
    return np.where(sample < 0, ~sample, sample), sample < 0


def _bit_length(value: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.frexp(value)[1].astype(np.int64)


_ULAW_SAMPLES, _ULAW_BYTES = _ulaw_samples(), _ulaw_bytes()
_ALAW_SAMPLES, _ALAW_BYTES = _alaw_samples(), _alaw_bytes()
