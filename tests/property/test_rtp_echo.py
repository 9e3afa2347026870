"""The echo on any stream: one unbroken stream of ours, in which no sequence number repeats."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backend.echo import SEQUENCE_JUMP_MAX, Echo
from edge.rtp.packet import RtpPacket, decode_rtp
from edge.rtp.serial import sequence_difference

STEPS = st.tuples(
    st.sampled_from([1, 1, 1, 1, 2, 3, -1, -2, 40, 900, 1001, 30_000]),  # sequence number
    st.sampled_from([960, 960, 960, 0, 19_200, -960, 2**31, 500_000]),  # timestamp
    st.sampled_from([0.02, 0.02, 0.02, 0.0, 0.4, 70.0]),  # time
    st.sampled_from([0, 0, 0, 0, 0, 1]),  # source
)


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=60), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1))
def test_any_stream_comes_back_as_one(
    steps: list[tuple[int, int, float, int]], number: int, timestamp: int
) -> None:
    echo = Echo(frozenset({111}), random.Random(1).randbytes)
    now, source = 5.0, 0
    used: set[int] = set()
    seen: set[tuple[int, int]] = set()
    front: int | None = None
    for number_step, timestamp_step, time_step, source_step in steps:
        number, timestamp = number + number_step, timestamp + timestamp_step
        now, source = now + time_step, source + source_step
        if (source, number) in seen:
            continue  # SRTP's replay protection lets no packet through twice
        seen.add((source, number))
        incoming = RtpPacket(
            payload_type=111,
            marker=False,
            sequence_number=number & 0xFFFF,
            timestamp=timestamp & 0xFFFF_FFFF,
            ssrc=source,
            payload=b"%d" % number,
        )
        data = echo.receive_audio(incoming, now)
        if data is None:
            assert echo.drops["echo-before-rebase"]
            continue
        echoed = decode_rtp(data)
        assert (echoed.ssrc, echoed.payload) == (echo.ssrc, incoming.payload)
        step = 1 if front is None else sequence_difference(echoed.sequence_number, front & 0xFFFF)
        assert abs(step) <= SEQUENCE_JUMP_MAX
        position = echoed.sequence_number if front is None else front + step
        assert position not in used
        used.add(position)
        front = position if front is None else max(front, position)
