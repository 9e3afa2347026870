"""Which cluster a client gets, and which relays."""

from ipaddress import ip_network

import pytest

from edge.steering.choice import Cluster, Place, Rule, Steering, Vacancy, together
from edge.steering.position import Position, distance_km, position
from edge.steering.redirect import http_url, websocket_url
from edge.steering.visitor import Visitor, Whereabouts

FRANKFURT = Place("fra", Position(50.11, 8.68), (("192.0.2.1", 3478), ("2001:db8::1", 3478)))
NEW_YORK = Place("nyc", Position(40.71, -74.01), (("192.0.2.2", 3478),))
SYDNEY = Place("syd", Position(-33.87, 151.21), (("192.0.2.3", 3478), ("192.0.2.4", 3478)))
LONDON = Place("lon", Position(51.51, -0.13), (("192.0.2.5", 3478),))
QUIET = Place("ams", Position(52.37, 4.9))
CLUSTERS = (
    Cluster(1, FRANKFURT, "wss://fra/v1/session"),
    Cluster(2, NEW_YORK, "wss://nyc/v1/session"),
    Cluster(3, SYDNEY),
)
FREE = {each.id: Vacancy(100, 100) for each in CLUSTERS}
PARIS, BOSTON, TOKYO = Position(48.86, 2.35), Position(42.36, -71.06), Position(35.68, 139.69)


def steering(here: Place = FRANKFURT, own: int | None = 1, **more: object) -> Steering:
    places = (FRANKFURT, NEW_YORK, SYDNEY, LONDON, QUIET)
    return Steering(here, CLUSTERS, places, own=own, **more)  # type: ignore[arg-type]


def client(
    at: Position | None = None,
    country: str | None = None,
    address: str = "198.51.100.7",
    *,
    steered: bool = False,
) -> Visitor:
    return Visitor(address, Whereabouts(at, country), steered=steered)


def ids(clusters: tuple[Cluster, ...]) -> list[int]:
    return [each.id for each in clusters]


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        (Position(50.0333, 8.5706), Position(40.6398, -73.7789), 6184),  # FRA to JFK
        (Position(-33.9461, 151.1772), Position(33.9425, -118.408), 12061),  # SYD to LAX
        (Position(0, 179.5), Position(0, -179.5), 111.2),
        (Position(90, 0), Position(-90, 77), 20015),
        (PARIS, PARIS, 0),
    ],
)
def test_great_circle_distances(one: Position, other: Position, km: float) -> None:
    assert distance_km(one, other) == pytest.approx(km, rel=0.006, abs=0.01)


def test_values_that_are_no_position() -> None:
    assert position("50.1", 8) == Position(50.1, 8.0)
    for bad in (None, True, "", "x", float("nan"), 91, -91, 10**400, [1]):
        assert position(bad, 1) is None


def test_the_nearest_cluster_comes_first() -> None:
    assert ids(steering().order(client(PARIS), FREE)) == [1, 2, 3]
    assert ids(steering().order(client(BOSTON), FREE)) == [2, 1, 3]
    assert ids(steering().order(client(TOKYO), FREE)) == [3, 1, 2]


@pytest.mark.parametrize(
    "nearest",
    [None, Vacancy(100, 100, draining=True), Vacancy(0, 100), Vacancy(3, 100), Vacancy(0, 0)],
)
def test_a_cluster_without_room_is_passed_over(nearest: Vacancy | None) -> None:
    states = {**FREE, 2: nearest} if nearest is not None else {1: FREE[1], 3: FREE[3]}
    assert ids(steering().order(client(BOSTON), states)) == [1, 3]


def test_nobody_has_room() -> None:
    assert steering().order(client(BOSTON), {}) == ()
    assert steering(redirects=True).redirect(client(BOSTON), {}) is None


def test_rules_go_before_distance() -> None:
    rules = (
        Rule(3, country="FR", network=ip_network("198.51.100.0/24")),
        Rule(2, country="FR"),
        Rule(3, network=ip_network("2001:db8::/32")),
    )
    ruled = steering(rules=rules)
    assert ids(ruled.order(client(PARIS, "FR"), FREE)) == [3, 1, 2]
    assert ids(ruled.order(client(PARIS, "FR", "192.0.2.9"), FREE)) == [2, 1, 3]
    assert ids(ruled.order(client(PARIS, None, "2001:db8::9"), FREE)) == [3, 1, 2]
    assert ids(ruled.order(client(PARIS, "DE", "192.0.2.9"), FREE)) == [1, 2, 3]
    without = {**FREE, 2: Vacancy(0, 100)}
    assert ids(ruled.order(client(PARIS, "FR", "192.0.2.9"), without)) == [1, 3]


def test_who_cannot_be_placed_stays_or_goes_to_the_default() -> None:
    assert ids(steering().order(client(), FREE)) == [1, 2, 3]
    assert ids(steering(NEW_YORK, 2).order(client(), FREE)) == [2, 1, 3]
    assert ids(steering(default=3).order(client(), FREE)) == [3, 2, 1]  # from Sydney
    without = {1: FREE[1], 2: FREE[2]}
    assert ids(steering(default=3).order(client(), without)) == [2, 1]
    assert ids(steering(NEW_YORK, None).order(client(), FREE)) == [2, 1, 3]  # a relay-only host
    by_country = steering(rules=(Rule(2, country="FR"),))
    assert ids(by_country.order(client(None, "FR"), FREE)) == [2, 1, 3]


def test_ties_go_to_the_own_cluster_then_by_number() -> None:
    twins = (Cluster(7, FRANKFURT), Cluster(5, FRANKFURT), Cluster(6, FRANKFURT))
    states = {each.id: Vacancy(10, 10) for each in twins}
    for own, order in ((7, [7, 5, 6]), (6, [6, 5, 7]), (None, [5, 6, 7])):
        assert ids(Steering(FRANKFURT, twins, own=own).order(client(PARIS), states)) == order


def test_redirects() -> None:
    redirecting = steering(redirects=True)
    assert redirecting.redirect(client(BOSTON), FREE) == "wss://nyc/v1/session"
    assert redirecting.redirect(client(PARIS), FREE) is None
    assert redirecting.redirect(client(TOKYO), FREE) is None  # it has no address for clients
    assert redirecting.redirect(client(BOSTON, steered=True), FREE) is None
    assert steering().redirect(client(BOSTON), FREE) is None


def test_who_was_sent_here_stays() -> None:
    rules = (Rule(3, country="US"),)
    sent = client(BOSTON, "US", steered=True)
    assert ids(steering(rules=rules).order(sent, FREE)) == [1, 2, 3]
    assert ids(steering(rules=rules).order(sent, {**FREE, 1: Vacancy(0, 100)})) == [2, 3]


def test_the_url_of_a_redirect_keeps_path_and_query_and_is_marked() -> None:
    assert websocket_url("wss://nyc/v1/session") == "wss://nyc/v1/session?steered=1"
    assert (
        http_url("wss://nyc:444/v1/session", "/v1/realtime/calls", "model=a%20b")
        == "https://nyc:444/v1/realtime/calls?model=a%20b&steered=1"
    )
    assert http_url("ws://[::1]:80/x", "/v1/whip", "") == "http://[::1]:80/v1/whip?steered=1"


def test_the_nearest_sites_relays() -> None:
    assert steering().relays(client(PARIS)) == LONDON.relays
    assert steering().relays(client(BOSTON)) == NEW_YORK.relays
    assert steering().relays(client()) == FRANKFURT.relays
    assert steering(NEW_YORK, 2).relays(client()) == NEW_YORK.relays


def test_a_second_relay_is_of_another_site() -> None:
    both = steering(second_relay=True)
    assert both.relays(client(PARIS)) == LONDON.relays + FRANKFURT.relays
    assert both.relays(client()) == FRANKFURT.relays + LONDON.relays
    shared = Place("par", PARIS, FRANKFURT.relays[:1])
    two = Steering(shared, places=(shared, FRANKFURT), second_relay=True)
    assert two.relays(client(PARIS)) == FRANKFURT.relays  # no address twice


def test_sites_that_are_down_come_last() -> None:
    assert steering().relays(client(PARIS), {"lon"}) == FRANKFURT.relays
    every = {"fra", "nyc", "syd", "lon"}
    assert steering().relays(client(PARIS), every) == LONDON.relays
    assert Steering(QUIET, places=(QUIET,)).relays(client(PARIS)) == ()


def test_a_sites_relays_share_its_clients() -> None:
    told = [steering().relays(client(TOKYO, None, f"198.51.100.{n}")) for n in range(200)]
    first, second = (told.count((each,)) for each in SYDNEY.relays)
    assert first + second == 200
    assert 60 < first < 140
    assert told[0] == steering().relays(client(TOKYO, None, "198.51.100.0"))


def test_the_hosts_of_a_cluster_together() -> None:
    hosts = [Vacancy(10, 100), Vacancy(0, 50), Vacancy(70, 70, draining=True)]
    assert together(hosts) == Vacancy(10, 150)
    assert not together([Vacancy(9, 9, draining=True)]).takes_sessions
    assert not together([]).takes_sessions
