"""RTCP codec and reporter: round trips, any bytes, and the laws of the clock and of close."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RtpError
from edge.rtp.packet import RtpPacket, encode_rtp
from edge.rtp.reporter import EVENTS_MAX, SOURCES_MAX, Reporter
from edge.rtp.rtcp import (
    Goodbye,
    OtherPacket,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    decode_rtcp,
    encode_rtcp,
)

LONG = st.integers(0, 2**32 - 1)
SSRCS = st.integers(1, 6) | LONG
BLOCKS = st.lists(
    st.builds(
        ReportBlock,
        ssrc=SSRCS,
        fraction_lost=st.integers(0, 255),
        packets_lost=st.integers(-(2**23), 2**23 - 1),
        highest_sequence=LONG,
        jitter=LONG,
        last_sender_report=LONG,
        delay_since_last=LONG,
    ),
    max_size=4,
).map(tuple)
TEXTS = st.binary(max_size=20) | st.binary(min_size=255, max_size=255)
PACKETS: st.SearchStrategy[RtcpPacket] = st.one_of(
    st.builds(SenderReport, SSRCS, st.integers(0, 2**64 - 1), LONG, LONG, LONG, BLOCKS),
    st.builds(ReceiverReport, SSRCS, BLOCKS),
    st.builds(SourceDescription, st.lists(st.tuples(SSRCS, TEXTS), max_size=5).map(tuple)),
    st.builds(Goodbye, st.lists(SSRCS, max_size=31).map(tuple), TEXTS),
    st.builds(
        OtherPacket,
        st.integers(204, 223),
        st.integers(0, 31),
        st.binary(max_size=8).map(lambda data: data * 4),
    ),
)
COMPOUNDS = st.lists(PACKETS, min_size=1, max_size=16)


@given(COMPOUNDS)
def test_round_trip(packets: list[RtcpPacket]) -> None:
    assert decode_rtcp(encode_rtcp(packets)) == tuple(packets)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a compound with a few bytes changed and perhaps its end cut off."""
    data = bytearray(encode_rtcp(draw(st.lists(PACKETS, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=300)
@given(st.binary(max_size=80) | damaged())
def test_any_bytes_are_a_compound_or_the_error(data: bytes) -> None:
    try:
        packets = decode_rtcp(data)
    except RtpError:
        return
    assert decode_rtcp(encode_rtcp(packets)) == packets


INPUTS = st.one_of(
    st.tuples(st.just("compound"), damaged() | COMPOUNDS.map(encode_rtcp)),
    st.tuples(st.just("received"), st.tuples(SSRCS, st.integers(0, 2**16 - 1), LONG)),
    st.tuples(st.just("sent"), LONG),
    st.tuples(st.just("timeout"), st.none()),
    st.tuples(st.just("close"), st.none()),
)
GAPS = st.sampled_from([0.0, 0.02, 0.7, 4.0, 40.0])


@settings(max_examples=150)
@given(st.lists(st.tuples(INPUTS, GAPS), max_size=30))
def test_reporter_keeps_the_laws(steps: list[tuple[tuple[str, object], float]]) -> None:
    assert observe(steps) == observe(steps)


def observe(steps: list[tuple[tuple[str, object], float]]) -> list[object]:
    """Drive a reporter, check the laws at every step, return all that it gave."""
    machine = Reporter(1, b"cname", 1.7e9, random.Random(1).randbytes)
    seen: list[object] = []
    now, closed = 100.0, False
    for (kind, value), gap in steps:
        now += gap
        match kind, value:
            case "compound", bytes(data):
                check_compound(machine, data, now, closed=closed)
            case "received", (int(ssrc), int(number), int(timestamp)):
                machine.note_received(packet(ssrc, number, timestamp), now)
            case "sent", int(timestamp):
                machine.note_sent(encode_rtp(packet(1, 1, timestamp)), now)
            case "timeout", _:
                seen.append(check_timeout(machine, now))
            case _:
                seen.append(machine.close(now))
                closed = True
        if closed:
            assert machine.next_timeout() is None
            assert machine.close(now) is None
        seen += [machine.next_event(), machine.next_timeout(), machine.statistics()]
        assert len(machine._receptions) <= SOURCES_MAX
        assert len(machine._events) <= EVENTS_MAX
    return seen


def check_compound(machine: Reporter, data: bytes, now: float, *, closed: bool) -> None:
    before, dropped = machine.statistics(), machine.drops.total()
    machine.receive(data, now)
    try:
        decode_rtcp(data)
    except RtpError:
        assert machine.statistics() == before
        assert machine.drops.total() == dropped + (not closed)


def check_timeout(machine: Reporter, now: float) -> bytes | None:
    due = machine.next_timeout()
    compound = machine.handle_timeout(now)
    assert (compound is not None) == (due is not None and due <= now)
    assert machine.handle_timeout(now) is None
    after = machine.next_timeout()
    assert after is None or after > now
    if compound is not None:
        assert len(decode_rtcp(compound)) == 2
    return compound


def packet(ssrc: int, sequence_number: int, timestamp: int) -> RtpPacket:
    return RtpPacket(
        payload_type=111,
        marker=False,
        sequence_number=sequence_number,
        timestamp=timestamp,
        ssrc=ssrc,
        payload=b"x",
    )
