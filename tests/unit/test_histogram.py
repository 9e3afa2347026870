"""Counting values by size."""

import pytest

from edge.histogram import Histogram


def test_a_value_is_counted_up_to_its_bound() -> None:
    histogram = Histogram((0.0, 1.0, 2.5))
    for value in (0.0, 0.5, 1.0, 1.1, 2.5, 2.6, 100.0):
        histogram.note(value)
    assert histogram.counts == [1, 2, 2, 2]
    assert histogram.total == pytest.approx(107.7)


def test_histograms_share_nothing() -> None:
    first, second = Histogram((1.0,)), Histogram((1.0,))
    first.note(0.5)
    assert second.counts == [0, 0]
