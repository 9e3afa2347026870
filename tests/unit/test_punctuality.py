"""The on-time ratio counts what was late and what was never sent."""

import pytest

from edge.media.punctuality import BUCKETS, Punctuality


def test_nothing_due_is_on_time() -> None:
    statistics = Punctuality().statistics()
    assert statistics.on_time_ratio == 1.0
    assert statistics.frames == 0
    assert statistics.histogram == (0,) * (len(BUCKETS) + 1)


def test_five_milliseconds_are_on_time_and_more_is_not() -> None:
    punctuality = Punctuality()
    for lateness in (0.0, 0.005, 0.00501, 0.3):
        punctuality.note(lateness)
    assert punctuality.on_time_ratio == 0.5


def test_skipped_frames_count_as_late() -> None:
    punctuality = Punctuality()
    punctuality.note(0.0)
    punctuality.note_skipped(3)
    statistics = punctuality.statistics()
    assert statistics.on_time_ratio == 0.25
    assert (statistics.frames, statistics.skipped) == (1, 3)


@pytest.mark.parametrize("bucket", range(len(BUCKETS)))
def test_a_bucket_includes_its_upper_bound(bucket: int) -> None:
    punctuality = Punctuality()
    punctuality.note(BUCKETS[bucket])
    punctuality.note(BUCKETS[bucket] + 1e-9)
    expected = [0] * (len(BUCKETS) + 1)
    expected[bucket] = expected[bucket + 1] = 1
    assert punctuality.statistics().histogram == tuple(expected)
