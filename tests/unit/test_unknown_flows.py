"""Packets of flows that nobody knows: asked for once, kept for 50 ms, bounded everywhere."""

from collections import Counter

from edge.directory.bucket import TokenBucket
from edge.directory.unknown import (
    ASKED_MAX,
    BYTES_MAX,
    KEEP_TIME,
    MISSED_MAX,
    MISSED_TIME,
    PACKETS_MAX,
    QUESTIONS_AT_ONCE,
    QUESTIONS_PER_SECOND,
    Flow,
    Meeting,
    UnknownFlows,
)

ONE = (0, b"c" * 28)
PACKETS = [memoryview(bytes((0x80, number))) for number in range(PACKETS_MAX + 2)]


def flow(number: int) -> Flow:
    return 0, number.to_bytes(28)


def test_a_flow_is_asked_for_once_and_its_packets_come_back_in_order() -> None:
    unknown = UnknownFlows(Counter())
    assert unknown.meet(ONE, PACKETS[0], 0.0) is Meeting.ASK
    assert unknown.meet(ONE, PACKETS[1], 0.01) is Meeting.KEPT
    assert unknown.asked == 1
    assert unknown.answer(ONE, 0.02) == [bytes(each) for each in PACKETS[:2]]
    assert unknown.asked == 0
    assert unknown.answer(ONE, 0.02) == []
    assert unknown.meet(ONE, PACKETS[2], 0.03) is Meeting.ASK


def test_what_has_waited_too_long_is_dropped_and_the_rest_is_not() -> None:
    unknown = UnknownFlows(Counter())
    unknown.meet(ONE, PACKETS[0], 0.0)
    unknown.meet(ONE, PACKETS[1], 0.04)
    assert unknown.answer(ONE, KEEP_TIME + 0.02) == [bytes(PACKETS[1])]
    assert unknown._drops["redis-late"] == 1


def test_a_slow_answer_does_not_make_a_second_question() -> None:
    unknown = UnknownFlows(Counter())
    unknown.meet(ONE, PACKETS[0], 0.0)
    for step in range(1, 50):
        assert unknown.meet(ONE, PACKETS[1], step * 0.02) is Meeting.KEPT
    assert unknown._drops["redis-late"] == 47
    assert len(unknown.answer(ONE, 0.98)) == 3


def test_a_miss_is_remembered_for_a_while() -> None:
    unknown = UnknownFlows(Counter())
    unknown.meet(ONE, PACKETS[0], 0.0)
    unknown.answer(ONE, 0.01)
    unknown.miss(ONE, 0.01)
    assert unknown.meet(ONE, PACKETS[0], MISSED_TIME) is Meeting.MISSED
    assert unknown.meet(ONE, PACKETS[0], MISSED_TIME + 0.01) is Meeting.ASK


def test_misses_are_bounded_and_the_oldest_goes_first() -> None:
    unknown = UnknownFlows(Counter())
    for number in range(MISSED_MAX + 1):
        unknown.miss(flow(number), 0.0)
    assert unknown.meet(flow(0), PACKETS[0], 0.1) is Meeting.ASK
    assert unknown.meet(flow(1), PACKETS[0], 0.1) is Meeting.MISSED


def test_packets_of_a_flow_are_bounded() -> None:
    unknown = UnknownFlows(Counter())
    met = [unknown.meet(ONE, packet, 0.0) for packet in PACKETS]
    assert met == [Meeting.ASK, *[Meeting.KEPT] * (PACKETS_MAX - 1), Meeting.FULL, Meeting.FULL]
    assert len(unknown.answer(ONE, 0.0)) == PACKETS_MAX


def test_flows_are_bounded() -> None:
    unknown = UnknownFlows(Counter())
    for number in range(ASKED_MAX):
        assert unknown.meet(flow(number), PACKETS[0], 0.0) is Meeting.ASK
    assert unknown.meet(ONE, PACKETS[0], 0.0) is Meeting.FULL
    unknown.answer(flow(5), 0.0)
    assert unknown.meet(ONE, PACKETS[0], 0.0) is Meeting.ASK


def test_bytes_are_bounded_and_free_again() -> None:
    unknown, payload, met = UnknownFlows(Counter()), memoryview(bytes(1500)), list[Meeting]()
    for number in range(ASKED_MAX):
        met.append(unknown.meet(flow(number), payload, 0.0))
    assert met.count(Meeting.ASK) == BYTES_MAX // 1500
    assert met.count(Meeting.FULL) == ASKED_MAX - BYTES_MAX // 1500
    later = KEEP_TIME + 0.01
    assert unknown.meet(ONE, payload, later) is Meeting.ASK
    assert unknown._drops["redis-late"] == BYTES_MAX // 1500


def test_a_flood_of_sources_makes_so_many_questions_and_no_more() -> None:
    unknown, asked = UnknownFlows(Counter()), 0
    for number in range(100_000):
        now = number / 20_000  # five seconds
        if unknown.meet(flow(number), PACKETS[0], now) is Meeting.ASK:
            asked += 1
            unknown.answer(flow(number), now)
            unknown.miss(flow(number), now)
    assert asked <= QUESTIONS_AT_ONCE + 5 * QUESTIONS_PER_SECOND
    assert asked >= 5 * QUESTIONS_PER_SECOND


def test_a_bucket_lets_its_rate_pass() -> None:
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(100.05)
    assert bucket.take(100.11)
    assert [bucket.take(200.0) for _ in range(4)] == [True, True, True, False]
