"""Steering for any headers, any places, any fleet."""

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from edge.signal.exchange import RequestHead
from edge.steering.choice import Cluster, Place, Rule, Steering, Vacancy
from edge.steering.forwarded import AddressHeader, TrustedProxies, parse_address, parse_node
from edge.steering.position import Position, distance_km
from edge.steering.visitor import LocationHeaders, Visitor, Visitors, Whereabouts

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY = "10.0.0.1"

positions = st.builds(Position, st.floats(-90, 90), st.floats(-180, 180))
addresses = st.ip_addresses().filter(
    lambda each: (
        not any(each.version == net.version and each in net for net in TRUSTED)
        and not (isinstance(each, IPv6Address) and each.ipv4_mapped)
    )
)
proxies = st.sampled_from(["10.1.2.3", "fd00::5", "10.0.0.1"])
header_text = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=80)
header_texts = st.lists(st.one_of(header_text, st.text('for=";,\\1. :[]', max_size=40)), max_size=3)


def request(name: str, values: list[str]) -> RequestHead:
    headers = tuple((name.encode(), value.encode("latin-1")) for value in values)
    return RequestHead("GET", "/", "1.1", headers)


def node(address: str, *, quoted: bool) -> str:
    text = f"[{address}]" if ":" in address else address
    return f'"{text}:4711"' if quoted or ":" in address else text


@given(header_texts, st.sampled_from(list(AddressHeader)), st.sampled_from(["1.2.3.4", PROXY]))
def test_any_header_is_an_address_or_garbage(
    values: list[str], header: AddressHeader, peer: str
) -> None:
    visitors = Visitors(TrustedProxies(TRUSTED, header), LocationHeaders.CLOUDFLARE)
    visitor = visitors.of(request(header, values), peer)
    assert parse_address(visitor.address) is not None
    if peer == "1.2.3.4":
        assert visitor == Visitor(peer)
    assert visitors.drops.total() <= 1


@given(header_texts, addresses, st.lists(proxies, max_size=5), st.booleans(), st.booleans())
def test_no_prefix_of_a_clients_changes_its_address(
    spoofed: list[str], client: IPv4Address, hops: list[str], forwarded: bool, own_line: bool
) -> None:
    """Whatever a client sends, its address is what the first trusted proxy saw."""
    if forwarded:
        header = AddressHeader.FORWARDED
        appended = [
            f"for={node(each, quoted=bool(at % 2))}" for at, each in enumerate([str(client), *hops])
        ]
    else:
        header, appended = AddressHeader.X_FORWARDED_FOR, [str(client), *hops]
    lines = list(spoofed)
    if own_line or not lines:
        lines.append(", ".join(appended))
    else:
        lines[-1] = f"{lines[-1]}, {', '.join(appended)}"
    visitors = Visitors(TrustedProxies(TRUSTED, header))
    assert visitors.of(request(header, lines), PROXY).address == str(client)
    assert not visitors.drops


@given(st.ip_addresses(), st.integers(1, 65535))
def test_nodes_round_trip(address: IPv4Address | IPv6Address, port: int) -> None:
    expected = parse_address(str(address))
    text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    assert parse_node(text) == expected
    assert parse_node(str(address)) == expected


@given(positions, positions, positions)
def test_distance_is_a_metric(one: Position, two: Position, three: Position) -> None:
    assert distance_km(one, one) == 0
    assert abs(distance_km(one, two) - distance_km(two, one)) < 1e-6
    assert 0 <= distance_km(one, two) <= 20_016
    assert distance_km(one, three) <= distance_km(one, two) + distance_km(two, three) + 1e-3


sites = st.lists(positions, min_size=1, max_size=6).map(
    lambda found: [Place(f"s{n}", each, ((f"192.0.2.{n}", 3478),)) for n, each in enumerate(found)]
)
rooms = st.builds(Vacancy, st.integers(0, 10), st.integers(0, 10), st.booleans())


@given(st.data(), sites, st.one_of(st.none(), positions), st.booleans())
def test_the_choice_is_the_nearest_of_those_with_room(
    data: st.DataObject, places: list[Place], at: Position | None, redirects: bool
) -> None:
    clusters = tuple(Cluster(n, each, f"wss://{n}/") for n, each in enumerate(places))
    states = data.draw(st.dictionaries(st.integers(0, 6), rooms))
    own = data.draw(st.one_of(st.none(), st.integers(0, len(places) - 1)))
    rules = data.draw(st.lists(st.builds(Rule, st.integers(0, 7), st.just("DE")), max_size=2))
    steering = Steering(
        places[own or 0], clusters, tuple(places), tuple(rules), own=own, redirects=redirects
    )
    country = data.draw(st.sampled_from([None, "DE", "FR"]))
    visitor = Visitor("192.0.2.1", Whereabouts(at, country))
    order = steering.order(visitor, states)
    assert order == steering.order(visitor, dict(reversed(states.items())))
    fit = {each.id for each in clusters if each.id in states and states[each.id].takes_sessions}
    assert {each.id for each in order} == fit
    ruled = rules[0].cluster if rules and country == "DE" else None
    if at is not None:
        rest = [distance_km(at, each.place.position) for each in order if each.id != ruled]
        assert rest == sorted(rest)
    if ruled in fit:
        assert order[0].id == ruled
    there = steering.redirect(visitor, states)
    assert there is None or (redirects and there == order[0].signaling and order[0].id != own)


@given(
    sites, st.one_of(st.none(), positions), st.booleans(), st.sets(st.sampled_from(["s0", "s1"]))
)
def test_relays_are_of_one_site_or_two(
    places: list[Place], at: Position | None, second: bool, down: set[str]
) -> None:
    steering = Steering(places[0], places=tuple(places), second_relay=second)
    relays = steering.relays(Visitor("192.0.2.1", Whereabouts(at)), down)
    assert len(relays) == len(set(relays)) == min(len(places), 2 if second else 1)
    start = at or places[0].position
    up = [each for each in places if each.name not in down] or places
    nearest = min(distance_km(start, each.position) for each in up)
    first = next(each for each in places if relays[0] in each.relays)
    assert distance_km(start, first.position) == nearest
