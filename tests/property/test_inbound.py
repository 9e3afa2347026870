"""The receive path takes any packets in any order at any time."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RtpError
from edge.media.frames import AudioFormat, Encoding
from edge.media.inbound import DIGITS_MAX, Inbound
from edge.media.payloads import Codec, PayloadTypes
from edge.rtp.events import DIGITS, decode_event
from edge.rtp.jitter import BYTES_MAX, PACKETS_MAX, JitterLimits
from edge.rtp.packet import RtpPacket
from edge.rtp.redundancy import decode_redundancy

OPUS = PayloadTypes(Codec.OPUS, audio=111, redundancy=63, telephone_event=126, level_extension=1)
PCMU = PayloadTypes(Codec.PCMU, audio=0, redundancy=63, telephone_event=126, comfort_noise=13)
PIECES_MAX = 600
"""In one pull: a second of silence in 2.5 ms pieces, and what waited."""

SETUPS = st.sampled_from(
    [
        (OPUS, AudioFormat(Encoding.OPUS, 48_000)),
        (OPUS, AudioFormat(Encoding.PCM16, 16_000)),
        (PCMU, AudioFormat(Encoding.PCM16, 24_000)),
    ]
)
LIMITS = st.builds(
    JitterLimits,
    delay_min=st.sampled_from([0.0, 0.02, 0.06]),
    delay_max=st.sampled_from([0.06, 0.2, 2.0]),
    steady=st.booleans(),
)
SOUND = st.sampled_from(
    [
        b"\x08" + bytes(30),  # SILK, 20 ms
        b"\x08" + bytes(30),
        b"\x08",  # quiet
        b"\x18" + bytes(30),  # 60 ms
        b"\x80" + bytes(10),  # CELT, 2.5 ms
        b"",
        bytes(160),
        bytes(1400),
    ]
) | st.binary(max_size=40)
REDUNDANT = st.builds(
    lambda offset, old, new: b"\xef" + (offset << 10 | len(old)).to_bytes(3) + b"\x6f" + old + new,
    st.sampled_from([960, 960, 1920, 0, 16_383]),
    SOUND.filter(lambda payload: len(payload) < 1024),
    SOUND,
)
STEPS = st.tuples(
    st.sampled_from([1, 1, 1, 1, 1, 2, 3, -1, -2, 0, 40, 99, 3001, 30_000]),  # sequence number
    st.sampled_from([960, 960, 960, 960, 160, 0, 1, 7, 19_200, -960, 2**31, 48_000 * 3]),
    st.sampled_from([0.02, 0.02, 0.02, 0.0, 0.001, 0.06, 0.4, 5.0, 1e5]),  # time
    st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]),  # SSRC
    st.sampled_from([111, 111, 111, 0, 0, 0, 63, 126, 13, 99]),
    SOUND | REDUNDANT,
    st.booleans(),  # whether the owner is punctual meanwhile
)


@settings(max_examples=300, deadline=None)
@given(SETUPS, LIMITS, st.lists(STEPS, max_size=80), st.integers(0, 2**16), st.integers(0, 2**32))
def test_laws(
    setup: tuple[PayloadTypes, AudioFormat],
    limits: JitterLimits,
    steps: list[tuple[int, int, float, int, int, bytes, bool]],
    number: int,
    timestamp: int,
) -> None:
    inbound = Inbound(*setup, limits)
    now, ssrc = 1000.0, 5
    end = jumped = 0.0

    def pull() -> None:
        nonlocal end, jumped
        for _ in range(PIECES_MAX):
            frame = inbound.next_frame(now)
            if frame is None:
                break
            assert frame.duration > 0
            assert frame.media_time > end - 1e-6, "media time goes back"
            jumped += frame.media_time - end
            end = frame.media_time + frame.duration
            if setup[1].encoding is Encoding.PCM16:
                expected = frame.duration * setup[1].rate_hz * 2
                assert abs(len(frame.audio) - expected) <= 200  # the resampler's delay
        else:
            raise AssertionError("sound without end")
        due = inbound.next_timeout()
        assert due is None or due > now, "a deadline that has passed stays armed"
        again = inbound.next_frame(now)
        assert again is None

    for number_step, timestamp_step, time_step, ssrc_step, payload_type, payload, punctual in steps:
        until = now + time_step
        while punctual and (due := inbound.next_timeout()) is not None and due <= until:
            if until - due > 2.0:
                break
            now = due
            pull()
        now = until
        number, timestamp, ssrc = number + number_step, timestamp + timestamp_step, ssrc + ssrc_step
        packet = RtpPacket(
            payload_type,
            False,
            number & 0xFFFF,
            timestamp & 0xFFFF_FFFF,
            ssrc,
            payload,
            (0xBEDE, payload[:4]) if len(payload) == 30 else None,
        )
        inbound.receive(packet, now)
        statistics = inbound.statistics()
        assert statistics.waiting <= PACKETS_MAX
        assert inbound._buffer._bytes <= BYTES_MAX
        waiting = inbound._buffer._waiting
        assert sum(len(piece.payload) for piece in waiting.values()) == inbound._buffer._bytes
        assert len(inbound._digits) <= DIGITS_MAX
        assert limits.delay_min <= statistics.target_delay <= limits.delay_max
        pull()
    while (digit := inbound.next_digit()) is not None:
        assert digit.digit in DIGITS
        assert digit.media_time >= 0
    statistics = inbound.statistics()
    if end:
        assert math.isclose(jumped, statistics.jumped, rel_tol=1e-6, abs_tol=1e-3)


@settings(max_examples=300, deadline=None)
@given(
    limits=LIMITS,
    fates=st.lists(
        st.tuples(st.booleans(), st.floats(0, 0.3), st.booleans()), min_size=1, max_size=60
    ),
)
def test_what_comes_is_given_out_once_and_in_order(
    limits: JitterLimits, fates: list[tuple[bool, float, bool]]
) -> None:
    """Whatever the network does, nothing is given out twice, and nothing but late ones is lost."""
    inbound = Inbound(OPUS, AudioFormat(Encoding.OPUS, 48_000), limits)
    arrivals: list[tuple[float, int]] = []
    for number, (lost, delay, twice) in enumerate(fates):
        if not lost:
            arrivals += [(1000.0 + number * 0.02 + delay, number)] * (1 + twice)
    arrivals.sort()
    heard: list[int] = []

    def pull(now: float) -> None:
        while (frame := inbound.next_frame(now)) is not None:
            if frame.audio:
                heard.append(int(frame.audio[1:]))

    for at, number in arrivals:
        while (due := inbound.next_timeout()) is not None and due <= at:
            pull(due)
        payload = b"\x08%d0" % number
        packet = RtpPacket(111, False, number, number * 960, 1, payload)
        inbound.receive(packet, at)
        pull(at)
    while (due := inbound.next_timeout()) is not None:
        pull(due)
    assert heard == sorted(set(heard))
    arrived = {number for _, number in arrivals}
    statistics = inbound.statistics()
    assert len(heard) + statistics.late == len(arrived)
    if not limits.steady and not any(delay for _, delay, _ in fates):
        assert len(heard) == len(arrived)


@settings(max_examples=300)
@given(st.binary(max_size=60) | REDUNDANT)
def test_any_bytes_are_blocks_or_the_error(payload: bytes) -> None:
    try:
        blocks = decode_redundancy(payload)
    except RtpError:
        return
    size = 4 * (len(blocks) - 1) + 1 + sum(len(block.payload) for block in blocks)
    assert size == len(payload)
    assert blocks[-1].timestamp_offset == 0


@given(st.binary(max_size=6))
def test_any_bytes_are_an_event_or_the_error(payload: bytes) -> None:
    try:
        event = decode_event(payload)
    except RtpError:
        return
    second = event.end << 7 | (payload[1] & 0x40) | event.volume
    assert bytes((event.event, second)) + event.duration.to_bytes(2) == payload
