"""Sealed frames: whose they are, when they were made, and that each is taken once."""

import random

import pytest

from edge.errors import FrameError
from edge.fleet import seal
from edge.fleet.map import FleetKey
from edge.fleet.seal import (
    COUNTS_ON,
    ERAS,
    FRESH,
    HEADER,
    OVERHEAD_BYTES,
    SENDERS_MAX,
    WINDOW,
    FrameOpener,
    FrameSealer,
    KeyRing,
    entrance_id,
)

FIRST, SECOND, THIRD = (FleetKey(number, bytes([number]) * 32) for number in (1, 2, 3))
RELAY, OTHER_RELAY, TRANSCEIVER = ("10.0.0.2", 3600), ("10.0.0.3", 3600), ("10.0.0.1", 3500)
NOW = 1_800_000_000.25
ENTRANCE = entrance_id("203.0.113.5", 3478)
FRAME = b"rows of packets"


def sealer(*keys: FleetKey, here: tuple[str, int] = RELAY) -> FrameSealer:
    return FrameSealer(KeyRing(keys or (FIRST,)), here, TRANSCEIVER)


def opener(*keys: FleetKey, here: tuple[str, int] = TRANSCEIVER) -> FrameOpener:
    return FrameOpener(KeyRing(keys or (FIRST,)), here)


def reason(
    one: FrameOpener, data: bytes, source: tuple[str, int] = RELAY, now: float = NOW
) -> str | None:
    """Return why a datagram is not taken; None: it is."""
    try:
        one.open(memoryview(data), source, now)
    except FrameError as exc:
        return exc.reason
    return None


@pytest.mark.parametrize("hosts", [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")])
def test_what_was_sealed_is_opened(hosts: tuple[str, str]) -> None:
    here, there = (hosts[0], 3600), (hosts[1], 3500)
    ring = KeyRing((FIRST,))
    data = FrameSealer(ring, here, there).seal(ENTRANCE, (FRAME[:4], FRAME[4:]), NOW)
    opened = FrameOpener(ring, there).open(memoryview(data), here, NOW)
    assert (opened.entrance, bytes(opened.frame)) == (ENTRANCE, FRAME)
    assert len(data) == len(FRAME) + OVERHEAD_BYTES


def test_a_changed_byte_is_a_forgery() -> None:
    data = sealer().seal(ENTRANCE, (FRAME,), NOW)
    for position in range(2, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        assert reason(opener(), bytes(changed)) == "frame-forged"
    assert reason(opener(), data) is None


def test_a_frame_counts_only_from_its_sender_and_for_its_receiver() -> None:
    data = sealer().seal(ENTRANCE, (FRAME,), NOW)
    assert reason(opener(), data, OTHER_RELAY) == "frame-forged"
    assert reason(opener(), data, (RELAY[0], RELAY[1] + 1)) == "frame-forged"
    other_slot = opener(here=(TRANSCEIVER[0], TRANSCEIVER[1] + 1))
    assert reason(other_slot, data) == "frame-forged"


def test_what_is_no_sealed_frame_is_told_apart() -> None:
    data = sealer().seal(ENTRANCE, (FRAME,), NOW)
    assert reason(opener(), data[: OVERHEAD_BYTES - 1]) == "short-frame"
    assert reason(opener(), b"\xe1" + data[1:]) == "not-sealed"
    assert reason(opener(SECOND), data) == "frame-unknown-key"
    same_id = FleetKey(FIRST.id, bytes(32))
    assert reason(opener(same_id), data) == "frame-forged"


def test_a_frame_is_taken_once() -> None:
    one, two = opener(), sealer()
    frames = [two.seal(ENTRANCE, (FRAME,), NOW) for _ in range(3)]
    assert [reason(one, each) for each in frames] == [None] * 3
    assert [reason(one, each) for each in frames] == ["frame-replayed"] * 3


def test_late_frames_are_taken_within_the_window() -> None:
    one, two = opener(), sealer()
    frames = [two.seal(ENTRANCE, (FRAME,), NOW) for _ in range(WINDOW + 20)]
    late, later = frames[0], frames[10]
    shuffled = [*frames[1:10], *frames[11:]]
    random.Random(1).shuffle(shuffled)
    assert all(reason(one, each) is None for each in shuffled[: WINDOW - 1])
    assert reason(one, later) is None
    for each in shuffled[WINDOW - 1 :]:
        reason(one, each)
    assert reason(one, late) == "frame-replayed", "it may have been taken before"


def test_old_frames_and_frames_of_the_future_are_stale() -> None:
    data = sealer().seal(ENTRANCE, (FRAME,), NOW)
    assert reason(opener(), data, now=NOW + FRESH + 0.001) == "frame-stale"
    assert reason(opener(), data, now=NOW - FRESH - 0.001) == "frame-stale"
    assert reason(opener(), data, now=NOW + FRESH - 0.001) is None
    assert reason(opener(), data, now=NOW - FRESH + 0.001) is None


def test_a_sender_that_starts_again_goes_on_above_its_former_frames() -> None:
    one = opener()
    for start in range(3):
        two = sealer()
        for _ in range(50):
            data = two.seal(ENTRANCE, (FRAME,), NOW + start * 0.001)
            assert reason(one, data) is None


def test_sequences_grow_while_the_clock_stands_or_goes_back() -> None:
    two = sealer()
    times = [NOW, NOW, NOW - 3.0, NOW - 1.0, NOW + 1.0]
    frames = [two.seal(ENTRANCE, (FRAME,), now) for now in times]
    sequences = [HEADER.unpack_from(each)[3] for each in frames]
    assert sequences == sorted(set(sequences))


def test_a_key_is_rotated_without_a_lost_frame() -> None:
    there, here = KeyRing((FIRST,)), KeyRing((FIRST,))
    one, two = FrameOpener(there, TRANSCEIVER), FrameSealer(here, RELAY, TRANSCEIVER)
    steps: list[tuple[KeyRing, tuple[FleetKey, ...]]] = []
    steps += [(there, (FIRST, SECOND)), (here, (FIRST, SECOND)), (there, (SECOND, FIRST))]
    steps += [(here, (SECOND, FIRST)), (there, (SECOND,)), (here, (SECOND,))]
    used = []
    for ring, keys in steps:
        ring.use(keys)
        data = two.seal(ENTRANCE, (FRAME,), NOW)
        used.append(data[1])
        assert reason(one, data) is None
    assert used == [1, 1, 1, 2, 2, 2]
    old = sealer(FIRST).seal(ENTRANCE, (FRAME,), NOW + 1)
    assert reason(one, old) == "frame-unknown-key"


def test_a_key_may_come_back_with_another_content() -> None:
    ring = KeyRing((FIRST,))
    one = FrameOpener(ring, TRANSCEIVER)
    assert reason(one, sealer(FIRST).seal(ENTRANCE, (FRAME,), NOW)) is None
    ring.use((FleetKey(FIRST.id, bytes(32)),))
    assert reason(one, sealer(FIRST).seal(ENTRANCE, (FRAME,), NOW + 1)) == "frame-forged"


def test_senders_are_bounded_and_stale_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SENDERS_MAX >= 256 * 64
    monkeypatch.setattr(seal, "SENDERS_MAX", 3)
    one = opener()
    for number in range(3):
        here = (f"10.0.1.{number}", 3600)
        data = sealer(here=here).seal(ENTRANCE, (FRAME,), NOW + number)
        assert reason(one, data, here, NOW + number) is None
    later = NOW + 2.5
    fourth = sealer().seal(ENTRANCE, (FRAME,), later)
    assert reason(one, fourth, now=later) == "frame-senders-full"
    later = NOW + FRESH + 0.5
    fifth = sealer().seal(ENTRANCE, (FRAME,), later)
    assert reason(one, fifth, now=later) is None


def test_forgers_take_no_place() -> None:
    one = opener()
    for number in range(100):
        here = (f"10.0.1.{number}", 3600)
        reason(one, sealer(SECOND, here=here).seal(ENTRANCE, (FRAME,), NOW), here)
    assert not one._senders


def test_entrances_differ_by_address_port_and_transport() -> None:
    ids = {
        entrance_id("203.0.113.5", 3478),
        entrance_id("203.0.113.5", 3479),
        entrance_id("203.0.113.6", 3478),
        entrance_id("203.0.113.5", 3478, "tcp"),
    }
    assert len(ids) == 4
    assert entrance_id("203.0.113.5", 3478) == ENTRANCE


def test_a_sender_whose_clock_was_ahead_is_heard_as_soon_as_it_is_right() -> None:
    one, two = opener(), sealer()
    assert reason(one, two.seal(ENTRANCE, (FRAME,), NOW)) is None
    ahead = two.seal(ENTRANCE, (FRAME,), NOW + 3600)
    assert reason(one, ahead) == "frame-stale"
    right = [two.seal(ENTRANCE, (FRAME,), NOW + 1) for _ in range(3)]
    assert [reason(one, each, now=NOW + 1) for each in right] == [None] * 3
    assert [reason(one, each, now=NOW + 1) for each in right] == ["frame-replayed"] * 3


@pytest.mark.parametrize("restarts", [False, True])
def test_two_clocks_that_were_ahead_and_are_put_right_lose_nothing(restarts: bool) -> None:
    one, two = opener(), sealer()
    ahead = [two.seal(ENTRANCE, (FRAME,), NOW + 3600) for _ in range(WINDOW + 20)]
    assert [reason(one, each, now=NOW + 3600) for each in ahead] == [None] * len(ahead)
    if restarts:
        two = FrameSealer(KeyRing((FIRST,)), RELAY, TRANSCEIVER, era=7)
    right = two.seal(ENTRANCE, (FRAME,), NOW + 1)
    assert reason(one, right, now=NOW + 1) is None
    later = [reason(one, each, now=NOW + 3600) for each in ahead]
    assert later == ["frame-replayed"] * len(ahead), "their time comes a second time"


def test_a_clock_that_goes_back_a_little_begins_no_era() -> None:
    one, two = opener(), sealer()
    behind = NOW - COUNTS_ON + 0.001
    frames = [two.seal(ENTRANCE, (FRAME,), now) for now in (NOW, behind)]
    assert [each[HEADER.size - 1] for each in frames] == [0, 0]
    assert [reason(one, each, now=behind) for each in frames] == [None, None]
    assert two.seal(ENTRANCE, (FRAME,), NOW - COUNTS_ON - 0.001)[HEADER.size - 1] == 1


def test_eras_come_round() -> None:
    two = FrameSealer(KeyRing((FIRST,)), RELAY, TRANSCEIVER, era=255)
    two.seal(ENTRANCE, (FRAME,), NOW + 3600)
    data = two.seal(ENTRANCE, (FRAME,), NOW)
    assert data[HEADER.size - 1] == 0
    assert reason(opener(), data) is None


def test_a_sender_and_its_successor_may_overlap() -> None:
    one = opener()
    two, three = (FrameSealer(KeyRing((FIRST,)), RELAY, TRANSCEIVER, era=era) for era in (9, 4))
    for _ in range(WINDOW):
        data = [each.seal(ENTRANCE, (FRAME,), NOW) for each in (two, three)]
        assert [reason(one, each) for each in data] == [None, None]
        assert [reason(one, each) for each in data] == ["frame-replayed"] * 2


def test_of_former_eras_only_the_end_is_remembered() -> None:
    one = opener()
    for era in range(ERAS):
        two = FrameSealer(KeyRing((FIRST,)), RELAY, TRANSCEIVER, era=era)
        for _ in range(3):
            assert reason(one, two.seal(ENTRANCE, (FRAME,), NOW)) is None
    eras = one._senders[RELAY]._eras
    assert len(eras) == ERAS
    assert sum(len(each._taken) + len(each._order) for each in eras.values()) == 6
