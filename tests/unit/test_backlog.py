"""What waits for a backend."""

from edge.backend.backlog import MESSAGES_MAX, Backlog
from tests.support.fake_session import frame


def test_order_is_kept_across_frames_and_messages() -> None:
    backlog = Backlog(1.0)
    backlog.add_frame(frame(1))
    backlog.add_message("one")
    backlog.add_message("two")
    backlog.add_frame(frame(2))
    assert [backlog.pop() for _ in range(4)] == [frame(1), "one", "two", frame(2)]
    assert not backlog
    assert backlog.seconds == 0.0


def test_the_oldest_sound_goes_first_and_messages_stay() -> None:
    backlog = Backlog(0.1)
    backlog.add_frame(frame(0))
    backlog.add_message("kept")
    for number in range(1, 8):
        backlog.add_frame(frame(number))
    assert backlog.frames_dropped == 3
    assert [backlog.pop() for _ in range(6)] == ["kept", *(frame(number) for number in range(3, 8))]


def test_all_of_the_limit_is_used_however_often_it_is_reached() -> None:
    backlog = Backlog(5.0)
    for number in range(10_000):
        backlog.add_frame(frame(number))
    assert backlog.frames_dropped == 10_000 - 250
    assert abs(backlog.seconds - 5.0) < 0.001


def test_messages_have_a_limit_of_their_own() -> None:
    backlog = Backlog(1.0)
    assert all(backlog.add_message("m") for _ in range(MESSAGES_MAX))
    assert not backlog.add_message("one more")
    assert backlog.messages == MESSAGES_MAX


def test_a_new_connection_gets_the_sound_and_not_the_messages() -> None:
    backlog = Backlog(1.0)
    backlog.add_frame(frame(1))
    backlog.add_message("for the old one")
    backlog.add_frame(frame(2))
    assert backlog.forget_messages() == 1
    assert [backlog.pop(), backlog.pop()] == [frame(1), frame(2)]


def test_settled_frames_keep_their_place() -> None:
    backlog = Backlog(1.0)
    backlog.add_frame(frame(1, b"one"))
    backlog.add_message("two")
    backlog.add_frame(frame(3, b""))
    backlog.add_frame(frame(4, b"four"))
    backlog.settle(lambda each: each.audio or None)
    assert backlog.seconds == 0.0
    assert [backlog.pop() for _ in range(3)] == [b"one", "two", b"four"]
