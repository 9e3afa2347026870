"""How many checks a relay passes on per second: for a session, and for one of its addresses."""

import pytest

from edge.routing import limits
from edge.routing.limits import KNOWN_CHECKS_MAX, STRAY_CHECKS_MAX, CheckLimiter

CLIENT, OTHER = bytes(28), bytes(27) + b"\x01"


def admitted(limiter: CheckLimiter, ufrag: bytes, client: bytes | None, now: float) -> int:
    return sum(limiter.admit(ufrag, client, now) for _ in range(2 * KNOWN_CHECKS_MAX))


def test_strays_share_one_allowance_per_session() -> None:
    limiter = CheckLimiter()
    assert admitted(limiter, b"one", None, 5.0) == STRAY_CHECKS_MAX
    assert admitted(limiter, b"two", None, 5.0) == STRAY_CHECKS_MAX
    assert admitted(limiter, b"one", None, 5.9) == 0


def test_a_known_address_has_an_allowance_that_strays_cannot_use_up() -> None:
    limiter = CheckLimiter()
    admitted(limiter, b"one", None, 5.0)
    assert admitted(limiter, b"one", CLIENT, 5.0) == KNOWN_CHECKS_MAX
    assert admitted(limiter, b"one", OTHER, 5.0) == KNOWN_CHECKS_MAX
    assert admitted(limiter, b"two", CLIENT, 5.0) == KNOWN_CHECKS_MAX


def test_every_second_begins_anew() -> None:
    limiter = CheckLimiter()
    for now in (5.0, 6.0, 7.5):
        assert admitted(limiter, b"one", None, now) == STRAY_CHECKS_MAX


def test_the_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COUNTS_MAX", 10)
    limiter = CheckLimiter()
    for number in range(100):
        assert limiter.admit(b"%d" % number, None, 5.0)
        assert len(limiter._counts) <= 10
