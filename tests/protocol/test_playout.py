"""Items, marks, positions and what a clear leaves of them, as the backend is told."""

import pytest

from edge.media.dialogue import (
    Clear,
    Cleared,
    EndItem,
    ItemEnded,
    ItemPosition,
    ItemStarted,
    Mark,
    MarkReached,
    Play,
    SoundDropped,
)
from edge.media.frames import AudioFormat, Encoding
from edge.media.playout import ITEMS_MAX, MARKS_MAX, Playout
from tests.support.playing import Stage, sound

FORMAT = AudioFormat(Encoding.PCM16, 8000)


def spoken(stage: Stage) -> str:
    """Return the milliseconds of each mu-law byte in a row that is no silence: "1:20 2:15"."""
    rows: list[list[int]] = []
    for byte in b"".join(packet.payload for packet in stage.packets):
        if byte == 0xFF:
            continue
        if not rows or rows[-1][0] != byte:
            rows.append([byte, 0])
        rows[-1][1] += 1
    return " ".join(f"{byte}:{count / 8:g}" for byte, count in rows)


def report(stage: Stage, packets: int, fraction_lost: float = 0.0, cycles: int = 0) -> None:
    """Tell of the first so many packets."""
    highest = (stage.packets[packets - 1].sequence_number) + 0x1_0000 * cycles
    stage.outbound.note_report(highest, fraction_lost, stage.now)


def test_items_play_in_the_order_of_their_beginning() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20)), Play("b", sound(2, 30)), Play("a", sound(3, 25)))
    stage.command(EndItem("a"), EndItem("b"))
    stage.run(1.0)
    assert spoken(stage) == "1:20 3:25 2:30"
    assert stage.notices == [
        ItemStarted("a"),
        ItemEnded(ItemPosition("a", 0.045, None)),
        ItemStarted("b"),
        ItemEnded(ItemPosition("b", 0.03, None)),
    ]


def test_an_item_without_an_end_is_over_when_it_is_dry_and_another_waits() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20)))
    stage.run(0.1)
    stage.command(Play("a", sound(2, 20)))
    stage.run(0.1)
    assert stage.notices == [ItemStarted("a")]
    stage.command(Play("b", sound(3, 20)))
    stage.run(0.1)
    assert stage.notices[1:] == [ItemEnded(ItemPosition("a", 0.04, None)), ItemStarted("b")]
    stage.command(Play("a", sound(4, 20)))  # which is another item
    stage.run(0.1)
    assert stage.notices[3:] == [ItemEnded(ItemPosition("b", 0.02, None)), ItemStarted("a")]
    assert spoken(stage) == "1:20 2:20 3:20 4:20"


def test_sound_for_an_item_that_has_ended_is_another_item_with_its_id() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20)), EndItem("a"), Play("b", sound(2, 20)))
    stage.command(Play("a", sound(3, 20)), EndItem("a"), EndItem("b"))
    stage.run(1.0)
    assert spoken(stage) == "1:20 2:20 3:20"


def test_the_end_of_a_dry_item_is_told_at_once() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20) + b"\1"))  # half a sample that never gets its other half
    stage.run(0.5)
    stage.command(EndItem("a"))
    assert stage.notices == [ItemStarted("a"), ItemEnded(ItemPosition("a", 0.02, None))]


def test_empty_sound_begins_no_item() -> None:
    stage = Stage()
    stage.command(Play("a", b""), EndItem("a"))
    assert stage.notices == []
    assert stage.outbound.drops == {"unknown-item": 1}


def test_a_mark_is_reached_with_the_frame_that_has_the_sound_before_it() -> None:
    stage = Stage()
    stage.command(Mark("start"))
    stage.command(Play("a", sound(1, 30)), Mark("middle"), Play("a", sound(2, 30)))
    stage.command(Play("b", sound(3, 20)), Mark("end"))
    assert stage.notices == [MarkReached("start", cleared=False)]
    reached: dict[str, int] = {}
    for frame in range(5):
        stage.run(0.0)
        for notice in stage.notices:
            if isinstance(notice, MarkReached):
                reached.setdefault(notice.name, frame)
        stage.run(0.02)
    assert reached == {"start": 0, "middle": 1, "end": 3}


def test_a_mark_in_an_item_that_has_begun_waits_for_the_sound_before_it() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 100)))
    stage.run(0.05)
    stage.command(Mark("end"))
    stage.run(0.02)
    assert stage.notices == [ItemStarted("a")]
    stage.run(0.011)
    assert stage.notices[1:] == [MarkReached("end", cleared=False)]


def test_a_mark_after_everything_was_sent_is_reached_at_once() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20)))
    stage.run(0.001)
    stage.command(Mark("now"))
    assert stage.notices[-1] == MarkReached("now", cleared=False)


def test_clear_answers_marks_and_tells_of_every_item() -> None:
    stage = Stage()
    stage.command(Play("done", sound(1, 20)), EndItem("done"))
    stage.command(Play("a", sound(2, 50)), Mark("a1"), EndItem("a"), Mark("a2"))
    stage.command(Play("b", sound(3, 50)), Mark("b1"))
    stage.run(0.05)
    stage.notices.clear()
    stage.command(Clear())
    assert stage.notices == [
        MarkReached("a1", cleared=True),
        MarkReached("a2", cleared=True),
        MarkReached("b1", cleared=True),
        Cleared((ItemPosition("a", 0.04, None), ItemPosition("b", 0.0, None))),
    ]
    stage.run(1.0)
    stage.command(Clear(), Play("a", sound(4, 20)), EndItem("a"))
    stage.run(0.1)
    assert stage.notices[4:] == [
        Cleared(()),
        ItemStarted("a"),
        ItemEnded(ItemPosition("a", 0.02, None)),
    ]


@pytest.mark.parametrize("cycles", [0, 1, 9])
def test_received_is_what_reports_say_less_what_was_lost(cycles: int) -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 100)), EndItem("a"), Play("b", sound(2, 900)))
    stage.run(0.3)
    report(stage, 10, cycles=cycles)
    stage.run(0.299)
    report(stage, 25, 0.4, cycles=cycles)
    report(stage, 10, 0.9, cycles=cycles)  # an old one that came late
    stage.command(Clear())
    (cleared,) = [notice for notice in stage.notices if isinstance(notice, Cleared)]
    (position,) = cleared.positions
    assert position.item == "b"
    assert position.sent == pytest.approx(0.5)
    assert position.received == pytest.approx(0.1 + 0.6 * 0.3)
    (ended,) = [notice for notice in stage.notices if isinstance(notice, ItemEnded)]
    assert ended.position.received is None  # there was no report before its end


def test_a_report_on_packets_that_were_never_sent_is_ignored() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 100)))
    stage.run(0.05)
    last = stage.packets[-1].sequence_number
    stage.outbound.note_report(last + 1, 0.0, stage.now)
    stage.command(Clear())
    assert stage.notices[-1] == Cleared((ItemPosition("a", 0.06, None),))


def test_received_survives_gaps_pads_and_the_wrap_of_sequence_numbers() -> None:
    stage = Stage()
    stage.outbound._packetizer._sequence = 0xFFF8
    for _ in range(20):
        stage.command(Play("a", sound(1, 15)))
        stage.run(0.3)
        report(stage, len(stage.packets))
    stage.command(Clear())
    (cleared,) = [notice for notice in stage.notices if isinstance(notice, Cleared)]
    (position,) = cleared.positions
    assert position.sent == 0.3
    assert position.received == pytest.approx(0.3)
    assert stage.packets[-1].sequence_number < 0x100


def test_what_overflows_is_reported_once_and_its_marks_answered() -> None:
    playout = Playout(FORMAT, queue_max=0.1)
    playout.play("a", sound(1, 30))
    playout.mark("a")
    playout.end_item("a")
    for _ in range(3):
        playout.play("b", sound(2, 40))
    notices = iter(playout.next_notice, None)
    assert list(notices) == [
        SoundDropped(0.01),
        MarkReached("a", cleared=True),
        ItemEnded(ItemPosition("a", 0.0, None)),
        SoundDropped(0.04),
    ]
    assert playout.queued == 800
    assert playout.dropped == 400


def test_items_and_marks_are_bounded() -> None:
    playout = Playout(FORMAT, queue_max=60.0)
    for number in range(ITEMS_MAX + 2):
        playout.play(str(number), sound(1, 1))
    for number in range(MARKS_MAX + 3):
        playout.mark(str(number))
    assert playout.drops == {"too-many-items": 2, "too-many-marks": 3}
    playout.clear()
    notices = list(iter(playout.next_notice, None))
    assert len(notices) == MARKS_MAX + 1
    playout.mark("again")
    assert playout.next_notice() == MarkReached("again", cleared=False)


def test_a_flood_of_single_bytes_takes_no_more_memory_than_its_sound() -> None:
    playout = Playout(FORMAT, queue_max=1.0)
    for _ in range(40_000):
        playout.play("a", b"\1")
    assert playout.queued == 8000
    (item,) = playout._items
    assert item.sound.peek(10**6) == b"\1" * 16_000
