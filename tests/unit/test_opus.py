from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.audio import opus
from edge.audio.opus import OpusDecoder, OpusEncoder, has_fec, is_dtx, packet_ticks
from edge.errors import AudioError, BootError, LocalProtocolError
from tests.support.opus_packets import RawEncoder, join, library_ticks
from tests.support.speech import aligned, log_spectral_distance, speech

RATES_HZ = (8_000, 16_000, 24_000, 48_000)

# RFC 6716 §3.1, table 2: configurations and the lengths of their frames in ms.
FRAMES_MS: list[tuple[range, list[float]]] = [
    (range(12), [10, 20, 40, 60]),
    (range(12, 16), [10, 20]),
    (range(16, 32), [2.5, 5, 10, 20]),
]


def frames_of(pcm: bytes, rate_hz: int) -> list[bytes]:
    size = rate_hz // 50 * 2
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


def encoder_of(rate_hz: int, **settings: int) -> OpusEncoder:
    return OpusEncoder(
        rate_hz,
        bitrate_bps=settings.get("bitrate_bps", 32_000),
        complexity=settings.get("complexity", 5),
        fec=bool(settings.get("fec", True)),
        dtx=bool(settings.get("dtx", False)),
    )


TABLE = [
    (config, lengths[(config - configs.start) % len(lengths)])
    for configs, lengths in FRAMES_MS
    for config in configs
]


@pytest.mark.parametrize(("config", "frame_ms"), TABLE)
def test_duration_by_table_and_code(config: int, frame_ms: float) -> None:
    ticks = int(frame_ms * 48)
    toc = config << 3
    assert packet_ticks(bytes([toc])) == ticks
    assert packet_ticks(bytes([toc | 4, 0])) == ticks  # stereo
    assert packet_ticks(bytes([toc | 1, 0, 0])) == 2 * ticks
    assert packet_ticks(bytes([toc | 2, 1, 0, 0])) == 2 * ticks
    for count in range(64):
        for flags in (0, 0x40, 0x80, 0xC0):
            packet = bytes([toc | 3, flags | count])
            if 0 < count * ticks <= 5_760:
                assert packet_ticks(packet) == count * ticks
            else:
                with pytest.raises(AudioError, match="120 ms"):
                    packet_ticks(packet)


@pytest.mark.parametrize("payload", [b"", b"\x03", b"\xff"])
def test_duration_of_what_is_cut(payload: bytes) -> None:
    with pytest.raises(AudioError) as caught:
        packet_ticks(payload)
    assert caught.value.reason == "opus-malformed"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frame_ms", [2.5, 5, 10, 20, 40, 60])
@pytest.mark.parametrize("bitrate_bps", [12_000, 32_000, 96_000])
def test_packets_of_every_length_decode_to_mono(
    channels: int, frame_ms: float, bitrate_bps: int
) -> None:
    raw = RawEncoder(48_000, channels, bitrate_bps)
    packets = raw.encode_all(speech(0.6, 48_000, seed=1), frame_ms)
    for rate_hz in RATES_HZ:
        decoder = OpusDecoder(rate_hz)
        for packet in packets:
            assert packet_ticks(packet) == int(frame_ms * 48) == library_ticks(packet)
            assert len(decoder.decode(packet)) == int(frame_ms * rate_hz / 1000) * 2


@pytest.mark.parametrize(("count", "same", "code"), [(2, True, 1), (2, False, 2), (5, False, 3)])
def test_packets_of_several_frames(count: int, same: bool, code: int) -> None:
    packets = RawEncoder(16_000, 1, 24_000).encode_all(speech(2.0, 16_000, seed=3), 20)
    decoder = OpusDecoder(16_000)
    codes = Counter[int]()
    for at in range(20, 60, count):
        packet = join([packets[at]] * count if same else packets[at : at + count])
        codes[packet[0] & 3] += 1
        assert packet_ticks(packet) == count * 960 == library_ticks(packet)
        assert len(decoder.decode(packet)) == count * 640
    assert codes.most_common(1)[0][0] == code


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_has_fec_says_what_libopus_then_finds(frame_ms: float, channels: int, rate_hz: int) -> None:
    """Without a copy, libopus makes of a packet what it makes of none."""
    raw = RawEncoder(rate_hz, channels, 28_000 * channels, fec=True)
    packets = raw.encode_all(speech(6.0, rate_hz, seed=6), frame_ms)
    samples = int(frame_ms * 16)
    told = []
    asked, plain = OpusDecoder(16_000), OpusDecoder(16_000)
    for before, packet in pairwise(packets):
        asked.decode(before)
        plain.decode(before)
        found = asked.decode_fec(packet, samples) != plain.conceal(samples)
        told.append((has_fec(packet), found))
        asked, plain = OpusDecoder(16_000), OpusDecoder(16_000)
    assert (True, True) in told
    assert (False, False) in told
    assert {(True, False), (False, True)}.isdisjoint(told)


def test_has_fec_of_joined_packets_is_that_of_the_first_frame() -> None:
    packets = RawEncoder(16_000, 1, 28_000, fec=True).encode_all(speech(6.0, 16_000, seed=6), 20)
    seen = set()
    for at in range(len(packets) - 3):
        packet = join(packets[at : at + 3])
        seen.add(has_fec(packet))
        assert has_fec(packet) == has_fec(packets[at])
    assert seen == {True, False}


def test_has_fec_finds_no_frame_in_padding() -> None:
    assert not has_fec(
        bytes([9 << 3 | 3, 0x41, 2, 0xFF, 0xFF])
    )  # an empty frame, then 2 of padding
    assert has_fec(bytes([9 << 3 | 3, 0x41, 1, 0xFF, 0xFF]))
    assert not has_fec(bytes([9 << 3]))
    assert not has_fec(b"")
    assert not has_fec(bytes([31 << 3, 0xFF, 0xFF]))  # CELT


# The table in OpusEncoder's docstring: complexity, rate, least bit rate for 5 % and for 20 %.
FEC_FROM = [
    (0, {8_000: (26, 24), 16_000: (34, 24), 24_000: (40, 24), 48_000: (44, 24)}),
    (2, {8_000: (20, 18), 16_000: (26, 18), 24_000: (32, 18), 48_000: (36, 18)}),
    (5, {8_000: (20, 18), 16_000: (26, 18), 24_000: (32, 18), 48_000: (36, 18)}),
    (9, {8_000: (18, 18), 16_000: (24, 18), 24_000: (30, 18), 48_000: (30, 18)}),
]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize(("complexity", "least"), FEC_FROM)
def test_fec_is_there_from_the_documented_bit_rate_on(
    complexity: int, least: dict[int, tuple[int, int]], rate_hz: int
) -> None:
    frames = frames_of(speech(1.5, rate_hz, seed=3), rate_hz)
    for kbps, loss in zip(least[rate_hz], (0.05, 0.2), strict=True):
        encoder = encoder_of(rate_hz, bitrate_bps=1_000 * (kbps + 2), complexity=complexity)
        assert not any(has_fec(encoder.encode(frame)) for frame in frames)
        encoder.expect_loss(loss)
        assert sum(has_fec(encoder.encode(frame)) for frame in frames) > len(frames) / 3


def test_no_fec_unless_wished() -> None:
    encoder = encoder_of(24_000, fec=0, bitrate_bps=48_000)
    encoder.expect_loss(0.2)
    frames = frames_of(speech(1.0, 24_000, seed=3), 24_000)
    assert not any(has_fec(encoder.encode(frame)) for frame in frames)


@pytest.mark.parametrize("fraction", [-1.0, 0.0, 0.004, 1.0, 7.0])
def test_any_loss_can_be_expected(fraction: float) -> None:
    encoder = encoder_of(16_000)
    encoder.expect_loss(fraction)
    assert encoder.encode(bytes(640))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_fec_restores_what_concealment_can_only_guess(rate_hz: int) -> None:
    pcm = speech(8.0, rate_hz, seed=8)
    encoder = encoder_of(rate_hz, bitrate_bps=40_000)
    encoder.expect_loss(0.1)
    packets = [encoder.encode(frame) for frame in frames_of(pcm, rate_hz)]
    clean, restored, guessed = (OpusDecoder(rate_hz) for _ in range(3))
    outputs: tuple[list[bytes], ...] = ([], [], [])
    samples = rate_hz // 50
    for n, packet in enumerate(packets):
        outputs[0].append(clean.decode(packet))
        if n % 8 == 7 and n + 1 < len(packets):
            outputs[1].append(restored.decode_fec(packets[n + 1], samples))
            outputs[2].append(guessed.conceal(samples))
        else:
            outputs[1].append(restored.decode(packet))
            outputs[2].append(guessed.decode(packet))
    best, fec, plc = (b"".join(each) for each in outputs)
    assert len(best) == len(fec) == len(plc) == len(pcm)
    distances = [log_spectral_distance(best, each, rate_hz) for each in (fec, plc)]
    assert distances[0] < 0.7 * distances[1]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_round_trip_sounds_the_same(rate_hz: int) -> None:
    pcm = speech(4.0, rate_hz, seed=5)
    encoder, decoder = encoder_of(rate_hz), OpusDecoder(rate_hz)
    packets = [encoder.encode(frame) for frame in frames_of(pcm, rate_hz)]
    heard = b"".join(decoder.decode(packet) for packet in packets)
    assert len(heard) == len(pcm)
    heard = aligned(pcm, heard, rate_hz, 0.1)
    assert log_spectral_distance(pcm, heard, rate_hz) < 2.0
    assert sum(map(len, packets)) * 8 / 4.0 < 34_000


def test_concealment_of_any_length_fades_out() -> None:
    decoder = OpusDecoder(24_000)
    encoder = encoder_of(24_000)
    last = b""
    for frame in frames_of(speech(1.0, 24_000, seed=5), 24_000):
        last = decoder.decode(encoder.encode(frame))
    assert last
    for samples in (1, 59, 60, 61, 480, 1_000, 2_880):
        assert len(decoder.conceal(samples)) == 2 * samples
    for _ in range(20):
        decoder.conceal(480)
    assert np.abs(np.frombuffer(decoder.conceal(480), "<i2")).max() < 100


@pytest.mark.parametrize("samples", [-1, 0, 2_881, 1_000_000])
def test_no_endless_concealment(samples: int) -> None:
    decoder = OpusDecoder(24_000)
    with pytest.raises(LocalProtocolError):
        decoder.conceal(samples)
    with pytest.raises(LocalProtocolError):
        decoder.decode_fec(b"\x48", samples)


def test_dtx_says_silence_in_two_bytes() -> None:
    encoder = encoder_of(16_000, dtx=1)
    spoken = [encoder.encode(frame) for frame in frames_of(speech(1.0, 16_000, seed=5), 16_000)]
    silent = [encoder.encode(bytes(640)) for _ in range(100)]
    assert sum(map(is_dtx, spoken)) < 20
    assert sum(map(is_dtx, silent)) > 70
    decoder = OpusDecoder(16_000)
    for packet in spoken + silent:
        assert len(decoder.decode(packet)) == 640
    assert not any(map(is_dtx, (encoder_of(16_000).encode(bytes(640)) for _ in range(50))))


def test_reset_forgets_the_sound_but_not_the_settings() -> None:
    frames = frames_of(speech(1.0, 24_000, seed=5), 24_000)
    used, fresh = encoder_of(24_000), encoder_of(24_000)
    for encoder in (used, fresh):
        encoder.expect_loss(0.1)
    for frame in frames:
        used.encode(frame)
    used.reset()
    assert [used.encode(frame) for frame in frames] == [fresh.encode(frame) for frame in frames]


def test_what_cannot_be_decoded_changes_nothing() -> None:
    encoder = encoder_of(24_000)
    clean, disturbed = OpusDecoder(24_000), OpusDecoder(24_000)
    for frame in frames_of(speech(1.0, 24_000, seed=5), 24_000):
        packet = encoder.encode(frame)
        for junk in (b"", b"\x03", b"\xff\xff\xff", b"\x01\x00", b"\x02\xff"):
            with pytest.raises(AudioError) as caught:
                disturbed.decode(junk)
            assert caught.value.reason == "opus-malformed"
            with pytest.raises(AudioError):
                disturbed.decode_fec(junk, 480)
        assert clean.decode(packet) == disturbed.decode(packet)


@pytest.mark.parametrize("size", [0, 1, 958, 962, 1_920])
def test_encoder_takes_20_ms_only(size: int) -> None:
    with pytest.raises(LocalProtocolError, match="20 ms"):
        encoder_of(24_000).encode(bytes(size))


def test_settings_out_of_range_are_ours_to_avoid() -> None:
    with pytest.raises(LocalProtocolError, match="invalid argument"):
        encoder_of(24_000, complexity=11)
    for rate_hz in (0, 44_100):
        with pytest.raises(LocalProtocolError):
            encoder_of(rate_hz)
        with pytest.raises(LocalProtocolError):
            OpusDecoder(rate_hz)


def test_native_memory_is_given_back() -> None:
    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    def use(times: int) -> None:
        for _ in range(times):
            OpusDecoder(48_000)
            encoder_of(48_000)

    use(50)
    before = resident_pages()
    use(1_000)  # some 70 MB
    assert (resident_pages() - before) * 4096 < 10_000_000


def test_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opus, "_SONAME", "libopus.so.none")
    opus._library.cache_clear()
    with pytest.raises(BootError, match="libopus0"):
        OpusDecoder(48_000)
    monkeypatch.undo()
    opus._library.cache_clear()
    assert opus.opus_version().startswith("libopus ")
