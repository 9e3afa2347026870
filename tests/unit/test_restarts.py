"""Restart delays."""

from edge.supervision.restarts import STABLE_AFTER, RestartPolicy


def test_the_first_is_at_once_and_the_others_double_up_to_the_longest() -> None:
    policy = RestartPolicy(0.1, 0.5)
    delays = []
    for now in range(5):
        policy.note_started(now)
        delays.append(policy.next_delay(now + 0.5))
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.5]
    assert policy.restarts == 5


def test_a_long_life_starts_a_new_series() -> None:
    policy = RestartPolicy(0.1, 10)
    policy.note_started(0)
    policy.next_delay(1)
    policy.note_started(2)
    assert policy.next_delay(3) == 0.1
    policy.note_started(4)
    assert policy.next_delay(4 + STABLE_AFTER) == 0.0
