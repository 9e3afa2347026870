"""G.711 against the tables of the Recommendation: decision values and quantised values.

ITU-T G.711 (11/88), tables 1a (A-law) and 2a (mu-law), positive halves. Each interval between two
neighbouring decision values has one character signal; its quantised value is their middle. Table 2a
counts in units of 4 of our 16-bit samples, table 1a in units of 8 (its "decision value number" 128
is 4096).
"""

from collections.abc import Callable
from itertools import pairwise

import pytest

from edge.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw

# (first decision value, step, intervals): table 2a has 31, 95, ... 4063 as segment end points.
ULAW_SEGMENTS = [(-1, 2, 16)] + [((1 << n + 5) - 33, 1 << n + 1, 16) for n in range(1, 8)]
# Table 1a: 64 (two segments in one line), 128, ... 4096.
ALAW_SEGMENTS = [(0, 2, 32)] + [(1 << n + 5, 1 << n + 1, 16) for n in range(1, 7)]


def pcm_of(*samples: int) -> bytes:
    return b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)


def samples_of(pcm: bytes) -> list[int]:
    return [int.from_bytes(pcm[at : at + 2], "little", signed=True) for at in range(0, len(pcm), 2)]


def intervals(segments: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    return [
        (lo + n * step, lo + (n + 1) * step) for lo, step, many in segments for n in range(many)
    ]


ULAW, ALAW = intervals(ULAW_SEGMENTS), intervals(ALAW_SEGMENTS)


def test_the_tables_themselves() -> None:
    assert len(ULAW) == len(ALAW) == 128
    assert [low for low, _ in ULAW][16::16] == [31, 95, 223, 479, 991, 2015, 4063]
    assert ULAW[-1] == (7903, 8159)
    assert [low for low, _ in ALAW][32::16] == [64, 128, 256, 512, 1024, 2048]
    assert ALAW[-1] == (3968, 4096)
    for table in (ULAW, ALAW):
        assert all(a[1] == b[0] for a, b in pairwise(table))


@pytest.mark.parametrize("number", range(128))
def test_ulaw_intervals(number: int) -> None:
    low, high = ULAW[number]
    value = (low + high) // 2 * 4
    plus, minus = 0xFF - number, 0x7F - number
    assert samples_of(decode_ulaw(bytes([plus, minus]))) == [value, -value]
    inside = range(max(0, 4 * low), min(4 * high, 32_768))
    assert encode_ulaw(pcm_of(*inside)) == bytes([plus]) * len(inside)
    mirrored = [~sample for sample in inside]
    assert encode_ulaw(pcm_of(*mirrored)) == bytes([minus]) * len(mirrored)


@pytest.mark.parametrize("number", range(128))
def test_alaw_intervals(number: int) -> None:
    low, high = ALAW[number]
    value = (low + high) // 2 * 8
    plus, minus = (0x80 | number) ^ 0x55, number ^ 0x55
    assert samples_of(decode_alaw(bytes([plus, minus]))) == [value, -value]
    inside = range(8 * low, min(8 * high, 32_768))
    assert encode_alaw(pcm_of(*inside)) == bytes([plus]) * len(inside)
    mirrored = [~sample for sample in inside]
    assert encode_alaw(pcm_of(*mirrored)) == bytes([minus]) * len(mirrored)


def test_ulaw_clips_above_its_last_decision_value() -> None:
    assert encode_ulaw(pcm_of(32_636, 32_767, -32_637, -32_768)) == b"\x80\x80\x00\x00"


@pytest.mark.parametrize(
    ("encode", "decode"), [(encode_ulaw, decode_ulaw), (encode_alaw, decode_alaw)]
)
def test_round_trip_is_monotonic_and_idempotent(
    encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]
) -> None:
    every = pcm_of(*range(-32_768, 32_768))
    back = samples_of(decode(encode(every)))
    assert back == sorted(back)
    assert samples_of(decode(encode(pcm_of(*back)))) == back
    assert len(set(back)) in {255, 256}  # mu-law has two zeros
    # 13 (14) significant bits near zero, 5 bits of mantissa further out.
    for sample, heard in zip(range(-32_768, 32_768), back, strict=True):
        assert abs(heard - sample) <= max(8, abs(sample) / 31 + 4)


def test_nothing() -> None:
    for function in (encode_ulaw, decode_ulaw, encode_alaw, decode_alaw):
        assert function(b"") == b""
