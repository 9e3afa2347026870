"""RFC 4733 events, and each key told once."""

import pytest

from edge.errors import RtpError
from edge.rtp.events import DIGITS, KeyPresses, TelephoneEvent, decode_event
from edge.rtp.packet import RtpPacket


def packet(
    event: int,
    timestamp: int,
    duration: int,
    *,
    end: bool = False,
    marker: bool = False,
    ssrc: int = 1,
) -> RtpPacket:
    payload = bytes((event, 0x80 * end | 10)) + duration.to_bytes(2)
    return RtpPacket(126, marker, 0, timestamp & 0xFFFF_FFFF, ssrc, payload)


def press(event: int, timestamp: int, packets: int = 4) -> list[RtpPacket]:
    """A key held down for a while: updates, and the end three times."""
    updates = [packet(event, timestamp, 400 * n, marker=n == 1) for n in range(1, packets)]
    return updates + [packet(event, timestamp, 400 * packets, end=True)] * 3


def keys(packets: list[RtpPacket]) -> str:
    presses = KeyPresses(8000)
    return "".join(presses.receive(each) or "" for each in packets)


def test_fields() -> None:
    # RFC 4733 §5, the example's digit 9: end bit set, volume 7, duration 1600.
    assert decode_event(bytes.fromhex("09870640")) == TelephoneEvent(9, True, 7, 1600)
    assert decode_event(bytes.fromhex("0b0a00a0")) == TelephoneEvent(11, False, 10, 160)


@pytest.mark.parametrize("length", [0, 3, 5, 8])
def test_other_lengths(length: int) -> None:
    with pytest.raises(RtpError) as caught:
        decode_event(bytes(length))
    assert caught.value.reason == "event-length"


def test_every_key_once() -> None:
    assert keys([each for n in range(16) for each in press(n, 10_000 * n)]) == DIGITS


def test_the_same_key_again_and_again() -> None:
    assert keys([each for n in range(5) for each in press(1, 2000 * n)]) == "11111"


@pytest.mark.parametrize("kept", range(6))
def test_one_packet_is_enough(kept: int) -> None:
    assert keys([press(7, 100)[kept]]) == "7"


def test_late_packets_of_the_key_before() -> None:
    first, second = press(1, 1000), press(2, 4000)
    assert keys([*first[:4], second[0], *first[4:], *second[1:]]) == "12"


def test_first_event_over_the_timestamps_wrap() -> None:
    assert keys(press(1, 2**32 - 100) + press(2, 2**32 + 3000)) == "12"


def test_a_key_hours_later() -> None:
    assert keys(press(1, 0) + press(2, 2**31 + 100_000)) == "12"


def held(starts: list[int], *, lost: range = range(0)) -> list[RtpPacket]:
    """A key held for longer than a segment (§2.5.1.3), one segment per start."""
    updates = [
        packet(5, start, duration, marker=start == 0 and duration == 400)
        for start in starts
        for duration in (*range(400, 0xFFFF, 400), 0xFFFF)
    ]
    end = [packet(5, starts[-1], 800, end=True)] * 3
    return [each for number, each in enumerate(updates) if number not in lost] + end


def test_long_event_in_segments() -> None:
    assert keys(held([0, 0xFFFF, 2 * 0xFFFF])) == "5"
    assert keys(held([0, 0xFFFF + 160])) == "5"
    assert keys(held([0, 0xFFFF], lost=range(100, 200))) == "5"


def test_a_new_press_with_the_timing_of_a_segment() -> None:
    again = packet(5, 0xFFFF, 400, marker=True)
    assert keys([*held([0])[:-3], again]) == "55"
    assert keys([*held([0]), packet(5, 0xFFFF, 400)]) == "55"
    assert keys([*held([0])[:-3], packet(6, 0xFFFF, 400)]) == "56"


def test_another_source() -> None:
    assert keys([packet(1, 5000, 400), packet(1, 4000, 400, ssrc=2)]) == "11"


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (packet(16, 0, 400), "event-not-a-digit"),
        (packet(255, 0, 400), "event-not-a-digit"),
        (packet(1, 0, 0), "event-zero-duration"),
        (RtpPacket(126, False, 0, 0, 1, b"1"), "event-length"),
    ],
)
def test_garbage_is_no_key_and_changes_nothing(garbage: RtpPacket, reason: str) -> None:
    presses = KeyPresses(8000)
    assert presses.receive(packet(1, 1000, 400)) == "1"
    with pytest.raises(RtpError) as caught:
        presses.receive(garbage._replace(timestamp=2000))
    assert caught.value.reason == reason
    assert presses.receive(packet(1, 1000, 800)) is None
