"""RTP codecs: round trips, and any bytes are a value or the one error."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.errors import RtpError
from edge.rtp.extensions import decode_audio_level, decode_extensions, encode_extensions
from edge.rtp.packet import RtpPacket, decode_rtp, encode_rtp

SHORT = st.integers(0, 2**16 - 1)
LONG = st.integers(0, 2**32 - 1)
PACKETS = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    marker=st.booleans(),
    sequence_number=SHORT,
    timestamp=LONG,
    ssrc=LONG,
    payload=st.binary(max_size=100),
    extension=st.none()
    | st.tuples(
        SHORT, st.integers(0, 8).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
    ),
)
ELEMENTS = st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16))
LONG_ELEMENTS = st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=20)


@given(PACKETS)
def test_packet_round_trip(packet: RtpPacket) -> None:
    assert decode_rtp(encode_rtp(packet)) == packet


@given(PACKETS, st.lists(LONG, max_size=15), st.integers(0, 255))
def test_csrc_list_and_padding_are_left_out(
    packet: RtpPacket, csrcs: list[int], padding: int
) -> None:
    data = bytearray(encode_rtp(packet))
    data[0] |= len(csrcs)
    data[12:12] = b"".join(csrc.to_bytes(4) for csrc in csrcs)
    if padding:
        data[0] |= 0x20
        data += bytes(padding - 1) + bytes((padding,))
    assert decode_rtp(bytes(data)) == packet


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.builds(bytes.__add__, st.sampled_from([b"\x90", b"\xbf"]), st.binary())
)
@example(b"\x80" + bytes(11))
def test_any_bytes_are_a_packet_or_the_error(data: bytes) -> None:
    try:
        packet = decode_rtp(data)
    except RtpError:
        return
    assert decode_rtp(encode_rtp(packet)) == packet
    if packet.extension is not None:
        assert len(packet.extension[1]) % 4 == 0


@given(ELEMENTS | LONG_ELEMENTS)
def test_extensions_round_trip(elements: dict[int, bytes]) -> None:
    profile, words = encode_extensions(elements)
    assert decode_extensions(profile, words) == elements


@settings(max_examples=300)
@given(st.sampled_from([0xBEDE, 0x1000]) | SHORT, st.binary(max_size=60))
def test_any_bytes_are_elements_or_the_error(profile: int, data: bytes) -> None:
    try:
        elements = decode_extensions(profile, data)
    except RtpError:
        return
    assert all(1 <= id_ <= 255 for id_ in elements)
    assert sum(1 + len(element) for element in elements.values()) <= len(data)


@given(st.binary(max_size=3))
def test_any_bytes_are_an_audio_level_or_the_error(data: bytes) -> None:
    try:
        level = decode_audio_level(data)
    except RtpError:
        return
    assert bytes((level.voice << 7 | level.level,)) == data
