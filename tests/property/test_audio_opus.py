from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.audio.opus import OpusDecoder, OpusEncoder, _first_frame, has_fec, packet_ticks
from edge.errors import AudioError
from tests.support.opus_packets import library_frames, library_ticks
from tests.support.speech import speech

RATES_HZ = (8_000, 16_000, 24_000, 48_000)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Anything, most of it with the shape of a packet of several frames."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=400))
    toc = draw(st.integers(0, 31)) << 3 | draw(st.sampled_from([0, 4])) | draw(st.integers(0, 3))
    head = bytes([toc])
    if toc & 3 == 3:
        head += bytes([draw(st.integers(0, 255)) & 0xC0 | draw(st.integers(0, 6))])
        head += draw(st.sampled_from([b"", b"\x00", b"\x05", b"\xff\x00", b"\xff\xff\x02"]))
    lengths = draw(st.lists(st.integers(0, 251), max_size=3))
    return head + bytes(lengths) + draw(st.binary(max_size=600))


@given(packets())
def test_duration_is_what_libopus_says(payload: bytes) -> None:
    expected = library_ticks(payload) if payload else -1
    try:
        assert packet_ticks(payload) == expected
    except AudioError as exc:
        assert exc.reason == "opus-malformed"  # noqa: PT017 - or none is raised
        assert expected <= 0


@given(packets())
@example(b"\x03\x41\xff\xff\x00" + bytes(600))
def test_first_frame_is_where_libopus_finds_it(payload: bytes) -> None:
    has_fec(payload)
    frames = library_frames(payload) if payload else None
    if frames is not None:
        start, length = frames[0]
        assert _first_frame(payload) == (start if length else 0)


@settings(deadline=None)
@given(st.lists(packets(), max_size=6), st.sampled_from(RATES_HZ), st.booleans())
def test_any_bytes_are_sound_or_the_one_error(
    stream: list[bytes], rate_hz: int, lost_before: bool
) -> None:
    decoder = OpusDecoder(rate_hz)
    for payload in stream:
        try:
            if lost_before:
                assert len(decoder.decode_fec(payload, rate_hz // 50)) == rate_hz // 25
            pcm = decoder.decode(payload)
        except AudioError as exc:
            assert exc.reason == "opus-malformed"  # noqa: PT017 - or none is raised
        else:
            assert len(pcm) == 2 * packet_ticks(payload) * rate_hz // 48_000
            assert len(pcm) <= 2 * rate_hz * 120 // 1000
    assert len(decoder.conceal(rate_hz // 50)) == rate_hz // 25


_FRAMES = [speech(0.4, 24_000, seed=9)[at : at + 960] for at in range(0, 19_200, 960)]


@settings(deadline=None)
@given(packets())
def test_a_refused_packet_leaves_the_decoder_as_it_was(payload: bytes) -> None:
    encoder = OpusEncoder(24_000, bitrate_bps=32_000, complexity=0, fec=False, dtx=False)
    stream = [encoder.encode(frame) for frame in _FRAMES[10:16]]
    clean, disturbed = OpusDecoder(24_000), OpusDecoder(24_000)
    for packet in stream[:3]:
        assert clean.decode(packet) == disturbed.decode(packet)
    try:
        disturbed.decode(payload)
    except AudioError:
        for packet in stream[3:]:
            assert clean.decode(packet) == disturbed.decode(packet)
