"""Sealed frames under any bytes, and under loss, repetition and reordering."""

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FrameError
from edge.fleet.map import FleetKey
from edge.fleet.seal import WINDOW, FrameOpener, FrameSealer, KeyRing

RING = KeyRing((FleetKey(1, bytes(range(32))),))
HERE, THERE = ("10.0.0.2", 3600), ("10.0.0.1", 3500)
NOW = 1_800_000_000.0


@given(st.binary(max_size=1_500))
def test_any_bytes_are_a_frame_error(data: bytes) -> None:
    opener = FrameOpener(RING, THERE)
    try:
        opener.open(memoryview(data), HERE, NOW)
    except FrameError:
        return
    raise AssertionError("nobody has sealed that")


@given(st.lists(st.binary(max_size=300), max_size=5), st.binary(min_size=6, max_size=6))
def test_pieces_come_out_as_one(pieces: list[bytes], entrance: bytes) -> None:
    data = FrameSealer(RING, HERE, THERE).seal(entrance, pieces, NOW)
    opened = FrameOpener(RING, THERE).open(memoryview(data), HERE, NOW)
    assert (opened.entrance, bytes(opened.frame)) == (entrance, b"".join(pieces))


@given(st.lists(st.integers(0, 2 * WINDOW), max_size=4 * WINDOW))
def test_no_order_of_arrival_has_a_frame_taken_twice(order: list[int]) -> None:
    sealer, opener = FrameSealer(RING, HERE, THERE), FrameOpener(RING, THERE)
    sent = [sealer.seal(bytes(6), (), NOW) for _ in range(2 * WINDOW + 1)]
    taken: set[int] = set()
    recent: list[int] = []
    for number in order:
        try:
            opener.open(memoryview(sent[number]), HERE, NOW)
        except FrameError:
            behind = len(recent) > WINDOW and number < max(recent[:-WINDOW])
            assert number in taken or behind, "a new frame within the window is taken"
        else:
            assert number not in taken
            taken.add(number)
            recent.append(number)
