"""A simulated fleet, placed by the real code: good days, crowds, a drain, hosts that die."""

import random

import pytest

from bench.fleet.__main__ import QUICK, Report, run_round
from bench.fleet.arithmetic import needs, redis_writes


@pytest.fixture(scope="module")
def report() -> Report:
    return run_round(QUICK, random.Random(7))


def test_an_ordinary_day(report: Report) -> None:
    assert report["ordinary/refused %"] == 0
    assert report["ordinary/not in the nearest cluster %"] < 10
    assert report["ordinary/km to the cluster, median"] < 1000
    assert report["ordinary/km to the relay, median"] < 1000
    assert report["ordinary/fullest less emptiest host of a cluster, % of a host"] < 40


def test_a_crowd_goes_farther_and_finds_room(report: Report) -> None:
    assert report["crowded/refused %"] == 0
    assert report["crowded/more than one host asked %"] < 5


def test_a_drain(report: Report) -> None:
    assert report["drain/refused %"] == 0
    assert report["drain/new sessions there"] <= 2, "what is known is a second old"
    assert report["drain/sessions left there after the phase %"] <= 100


def test_hosts_that_die(report: Report) -> None:
    assert report["failure/hosts lost %"] > 1
    assert report["failure/of those, placed again at the first offer %"] == 100
    assert report["failure/refused %"] == 0
    assert report["failure/dead hosts asked, per 1,000 offers"] < 60


def test_the_arithmetic() -> None:
    one = needs(100, sessions=3600)
    assert one.hosts == 10
    assert one.packets_per_host == 2 * 360 * 50
    flows, hosts = redis_writes(sessions=180, hosts=3)
    assert flows == pytest.approx(2 + 180 / 150)
    assert hosts == 1
