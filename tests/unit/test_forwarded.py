"""Whose word is taken for where a request comes from."""

from ipaddress import ip_address, ip_network

import pytest

from edge.signal.exchange import RequestHead
from edge.steering.forwarded import HOPS_MAX, AddressHeader, TrustedProxies, parse_node
from edge.steering.position import Position
from edge.steering.visitor import LocationHeaders, Visitor, Visitors, Whereabouts

PROXY = "10.0.0.1"
INNER = "10.0.0.2"
CLIENT = "203.0.113.9"
NETWORKS = tuple(ip_network(each) for each in ("10.0.0.0/8", "2001:db8:ffff::/48", "127.0.0.1"))


def head(*headers: tuple[str, str], query: str = "") -> RequestHead:
    raw = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)
    return RequestHead("GET", "/", "1.1", raw, query)


def visitors(header: str = "x-forwarded-for", location: str = "off") -> Visitors:
    return Visitors(TrustedProxies(NETWORKS, AddressHeader(header)), LocationHeaders(location))


def source(header: str, *values: str, peer: str = PROXY) -> tuple[str, int]:
    """Return the address that is found, and how much garbage was counted."""
    found = visitors(header)
    visitor = found.of(head(*((header, value) for value in values)), peer)
    return visitor.address, found.drops["forwarded-malformed"]


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ((), PROXY),
        ((CLIENT,), CLIENT),
        ((f"{CLIENT}, {INNER}",), CLIENT),
        ((f"1.2.3.4, {CLIENT}, {INNER}",), CLIENT),
        ((f"1.2.3.4, {CLIENT},{INNER}", f"{INNER}"), CLIENT),
        (("1.2.3.4", CLIENT), CLIENT),
        ((f"10.9.9.9, {INNER}",), "10.9.9.9"),
        ((f"{CLIENT}:4711",), CLIENT),
        (("2001:db8::7",), "2001:db8::7"),
        (("[2001:db8::7]:443",), "2001:db8::7"),
        ((f"::ffff:{CLIENT}",), CLIENT),
        ((f"garbage, {CLIENT}",), CLIENT),
        ((f'"{"," * 500}, {CLIENT}',), CLIENT),
    ],
)
def test_x_forwarded_for_is_walked_from_the_right(values: tuple[str, ...], address: str) -> None:
    assert source("x-forwarded-for", *values) == (address, 0)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("unknown", PROXY),
        ("", PROXY),
        (f"{CLIENT},", PROXY),
        (f"{CLIENT}, unknown, {INNER}", INNER),
        ("999.1.1.1", PROXY),
        ("fe80::1%eth0", PROXY),
        ("1.2.3.4:x y", PROXY),
        ("\xff\xb2", PROXY),
        (", ".join([CLIENT, *[INNER] * (HOPS_MAX + 5)]), INNER),
    ],
)
def test_behind_garbage_of_a_proxy_is_the_proxy(value: str, address: str) -> None:
    assert source("x-forwarded-for", value) == (address, 1)


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ((f"for={CLIENT}",), CLIENT),
        ((f'For="{CLIENT}:4711";proto=https;by={INNER}',), CLIENT),
        (('for="[2001:db8::7]:443"',), "2001:db8::7"),
        ((f'for=1.2.3.4, for={CLIENT};host="a,b;c", for={INNER}',), CLIENT),
        # What a client writes in front must not swallow what a proxy appends.
        ((f'for=", for={CLIENT}',), CLIENT),
        ((f'for=1.2.3.4;host=", for="{CLIENT}"',), CLIENT),
        ((f'x="\\, for={CLIENT}',), CLIENT),
    ],
)
def test_forwarded_is_walked_from_the_right(values: tuple[str, ...], address: str) -> None:
    assert source("forwarded", *values) == (address, 0)


@pytest.mark.parametrize(
    "value",
    ["for=unknown", "for=_hidden", "proto=https", f"for={CLIENT};for={CLIENT}", 'for="', "for"],
)
def test_a_forwarded_that_says_nothing_leaves_the_proxy(value: str) -> None:
    assert source("forwarded", value) == (PROXY, 1)


def test_cloudflares_header_is_one_address() -> None:
    assert source("cf-connecting-ip", CLIENT) == (CLIENT, 0)
    assert source("cf-connecting-ip") == (PROXY, 0)
    assert source("cf-connecting-ip", CLIENT, CLIENT) == (PROXY, 1)
    assert source("cf-connecting-ip", f"{CLIENT}, {CLIENT}") == (PROXY, 1)


@pytest.mark.parametrize("header", list(AddressHeader))
def test_strangers_are_not_believed(header: AddressHeader) -> None:
    headers = [("x-forwarded-for", CLIENT), ("forwarded", f"for={CLIENT}")]
    headers += [("cf-connecting-ip", CLIENT), ("cf-iplatitude", "1"), ("cf-iplongitude", "2")]
    found = visitors(header, "cloudflare").of(head(*headers), "198.51.100.1")
    assert found == Visitor("198.51.100.1")


def test_only_the_named_header_counts() -> None:
    mixed = head(("forwarded", "for=1.2.3.4"), ("cf-connecting-ip", "1.2.3.4"))
    assert visitors().of(mixed, PROXY).address == PROXY


def test_a_dual_stack_listeners_proxy_is_known() -> None:
    found = visitors().of(head(("x-forwarded-for", CLIENT)), f"::ffff:{PROXY}")
    assert found == Visitor(CLIENT, proxied=True)
    assert visitors().is_proxy(f"::ffff:{PROXY}")
    assert not visitors().is_proxy("2001:db8::1")


def cloudflare(**headers: str) -> tuple[Whereabouts, int]:
    found = visitors(location="cloudflare")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    visitor = found.of(head(*names.items()), PROXY)
    return visitor.whereabouts, found.drops["location-malformed"]


def test_cloudflares_location() -> None:
    assert cloudflare(cf_iplatitude="37.78", cf_iplongitude="-122.47", cf_ipcountry="US") == (
        Whereabouts(Position(37.78, -122.47), "US"),
        0,
    )
    assert cloudflare(cf_ipcountry="T1") == (Whereabouts(), 0)
    assert cloudflare(cf_ipcountry="XX") == (Whereabouts(), 0)
    assert cloudflare() == (Whereabouts(), 0)


@pytest.mark.parametrize("latitude", ["nan", "inf", "91", "-90.01", "1e999", "x", "", "0x10"])
def test_a_position_that_is_none_is_counted(latitude: str) -> None:
    assert cloudflare(cf_iplatitude=latitude, cf_iplongitude="1") == (Whereabouts(), 1)


@pytest.mark.parametrize("country", ["us", "USA", "", "\xdc\xdc"])
def test_a_country_that_is_none_is_counted(country: str) -> None:
    assert cloudflare(cf_ipcountry=country) == (Whereabouts(), 1)


def test_the_database_fills_in_what_headers_do_not_say() -> None:
    asked: list[str] = []

    def find(address: str) -> Whereabouts:
        asked.append(address)
        return Whereabouts(Position(1, 2), "DE")

    proxies = TrustedProxies(NETWORKS)
    both = Visitors(proxies, LocationHeaders.CLOUDFLARE, find)
    headers = [("x-forwarded-for", CLIENT), ("cf-ipcountry", "FR")]
    assert both.of(head(*headers), PROXY).whereabouts == Whereabouts(Position(1, 2), "FR")
    headers += [("cf-iplatitude", "3"), ("cf-iplongitude", "4")]
    assert both.of(head(*headers), PROXY).whereabouts == Whereabouts(Position(3, 4), "FR")
    assert both.of(head(), CLIENT).whereabouts == Whereabouts(Position(1, 2), "DE")
    assert asked == [CLIENT, CLIENT]


def test_the_mark_of_a_redirect() -> None:
    found = visitors()
    assert found.of(head(query="a=b&steered=1"), CLIENT).steered
    assert found.of(head(query="steered=1"), PROXY).steered
    assert not found.of(head(query="steered=10"), CLIENT).steered


@pytest.mark.parametrize(
    "text", ["[1.2.3.4]", "[::1", "::1]", "[::1]x", "1.2.3.4:", "1.2.3", "::g"]
)
def test_nodes_that_are_none(text: str) -> None:
    assert parse_node(text) is None


def test_nodes() -> None:
    assert parse_node(" [::1]:_port ") == ip_address("::1")
    assert parse_node("1.2.3.4:80") == ip_address("1.2.3.4")
