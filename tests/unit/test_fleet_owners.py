"""Numbers of other hosts' transceivers: who gets one, where they are, who may speak for them."""

import pytest

from edge.errors import UfragError
from edge.fleet import owners
from edge.fleet.map import Cluster, FleetMap, Member, Site
from edge.fleet.owners import FIRST, Owners
from edge.routing.numbers import transceiver_number

SITE = Site("site", "", 0.0, 0.0)
ONE, TWO = Cluster(1, "one", SITE), Cluster(2, "two", SITE)
HERE = Member("here", SITE, ONE, 0, "10.0.0.1")
MEMBERS = (
    HERE,
    Member("there", SITE, TWO, 5, "10.0.0.2"),
    Member("relay", SITE, None, 0, "10.0.0.3"),
)
FLEET = FleetMap(HERE, MEMBERS, (ONE, TWO), (SITE,), 3500, 3600, 3490)
THERE = 2, transceiver_number(5, 7)


def reason(known: Owners, cluster: int, number: int) -> str:
    with pytest.raises(UfragError) as caught:
        known.find(cluster, number)
    return caught.value.reason


def test_numbers_stay_and_begin_behind_the_bytes() -> None:
    known = Owners(FLEET)
    first = known.find(*THERE)
    second = known.find(2, transceiver_number(5, 8))
    assert (first, second) == (FIRST, FIRST + 1)
    assert known.find(*THERE) == first > 255
    assert known.transceiver(first) == THERE
    assert len(known) == 2


def test_who_is_not_in_the_fleet_gets_none() -> None:
    known = Owners(FLEET)
    assert reason(known, 3, THERE[1]) == "ufrag-unknown-cluster"
    assert reason(known, 2, transceiver_number(6, 7)) == "ufrag-unknown-transceiver"
    assert reason(known, 2, 5 << 8 | 64) == "ufrag-unknown-transceiver"
    assert len(known) == 0


def test_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "OWNERS_MAX", 1)
    known = Owners(FLEET)
    known.find(*THERE)
    assert reason(known, 2, transceiver_number(5, 8)) == "owners-full"
    assert known.find(*THERE) == FIRST


def test_the_map_says_where_they_are_and_who_speaks() -> None:
    known = Owners(FLEET)
    assert known.place_of(THERE) == ("10.0.0.2", 3507)
    assert known.at(("10.0.0.2", 3507)) == THERE
    for stranger in (
        ("10.0.0.9", 3507),  # nobody's address
        ("10.0.0.3", 3507),  # a host without transceivers
        ("10.0.0.2", 3499),
        ("10.0.0.2", 3564),  # ports that no slot has
        ("10.0.0.2", 3600),  # a relay worker of that host
    ):
        assert known.at(stranger) is None


def test_what_members_have_registered_counts_instead() -> None:
    known = Owners(FLEET)
    gone = 2, transceiver_number(5, 8)
    newcomer = 9, transceiver_number(0, 0)
    known.register({THERE: ("10.1.0.2", 4000), gone: None, newcomer: ("10.1.0.9", 4001)})
    assert known.place_of(THERE) == ("10.1.0.2", 4000)
    assert known.at(("10.1.0.2", 4000)) == THERE
    assert known.at(("10.0.0.2", 3507)) is None, "it is there no more"
    assert reason(known, *gone) == "ufrag-unknown-transceiver"
    assert known.transceiver(known.find(*newcomer)) == newcomer
    known.register({})
    assert known.place_of(THERE) == ("10.0.0.2", 3507)
    assert known.place_of(newcomer) is None


def test_only_what_changes_is_a_change() -> None:
    known = Owners(FLEET)
    for places, changes in (({}, 0), ({THERE: None}, 1), ({THERE: None}, 1), ({}, 2)):
        known.register(places)
        assert known.changes == changes
