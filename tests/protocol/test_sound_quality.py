"""What a backend hears through bad networks, beside what aiortc's receiver would have given it.

Part of the table that bench/media prints, with the limits that it has to keep. Virtual time.
"""

import functools

import pytest

from edge.rtp.jitter import JitterLimits
from tests.support.listening.comparison import (
    CALM_DELAY,
    EAGER,
    STEADY,
    Row,
    Scenario,
    compare,
    lose_one,
    time_to_calm,
    worse_than,
)
from tests.support.listening.network import Conditions

SECONDS = 20.0
SEED = 20

SCENARIOS = [
    *(Scenario(Conditions(loss, jitter)) for loss in (0, 0.02, 0.05, 0.1) for jitter in (0, 0.03)),
    *(Scenario(Conditions(loss, 0.08)) for loss in (0, 0.05)),
    *(Scenario(Conditions(loss, 0.03, reordering=True)) for loss in (0, 0.05)),
    *(Scenario(Conditions(loss, 0.03), dtx=True) for loss in (0, 0.05)),
    *(Scenario(Conditions(loss, 0.03), redundancy=True) for loss in (0.05, 0.1)),
]

by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
both = pytest.mark.parametrize("limits", [EAGER, STEADY], ids=["eager", "steady"])


@functools.cache
def row(scenario: Scenario) -> Row:
    return compare(scenario, SECONDS, SEED)


@by_name
def test_better_than_aiortc(scenario: Scenario) -> None:
    measured = row(scenario)
    assert worse_than(measured.eager, measured.aiortc) == []


@by_name
def test_every_frame_is_delivered_in_some_form(scenario: Scenario) -> None:
    measured = row(scenario)
    assert measured.eager.missing == 0
    assert measured.steady.missing < 0.01  # jumps after spikes


@pytest.mark.parametrize("loss", [0.02, 0.05, 0.1])
def test_most_of_what_is_lost_comes_back_by_fec(loss: float) -> None:
    measured = row(Scenario(Conditions(loss, 0.03))).eager
    assert measured.fec > 0.5 * loss
    assert measured.concealed < loss


def test_redundancy_brings_back_more_than_fec() -> None:
    plain = row(Scenario(Conditions(0.1, 0.03))).eager
    redundant = row(Scenario(Conditions(0.1, 0.03), redundancy=True)).eager
    assert redundant.concealed < 0.5 * plain.concealed


@pytest.mark.parametrize("loss", [0, 0.05])
def test_jitter_alone_costs_a_backend_little_delay(loss: float) -> None:
    measured = row(Scenario(Conditions(loss, 0.03))).eager
    assert measured.buffer_mean <= 60


def test_an_even_network_is_heard_as_it_was_sent() -> None:
    measured = row(Scenario(Conditions())).eager
    assert measured.delay_max == pytest.approx(0)
    assert measured.lost == measured.fec == 0


@both
@pytest.mark.parametrize("expected_loss", [0, 0.05], ids=["without FEC", "with FEC"])
def test_one_lost_packet_costs_one_frame_and_no_lasting_delay(
    limits: JitterLimits, expected_loss: float
) -> None:
    cost = lose_one(limits, expected_loss=expected_loss, count=60)
    assert cost.gap_frames <= 1
    assert cost.lasting_delay == pytest.approx(0, abs=1e-6)


@both
def test_after_a_spike_the_delay_is_soon_small_again(limits: JitterLimits) -> None:
    assert CALM_DELAY == 0.04
    assert time_to_calm(limits) < 5


def test_the_measures_see_what_aiortc_makes_of_a_lost_packet() -> None:
    cost = lose_one(None, expected_loss=0.0, count=20)
    assert cost.gap_frames > 1
    assert cost.lasting_delay > 0.1
