"""The keys of steering and of proxies: what is taken, what is refused, what workers get of it."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from edge.assignment.steering import steering_settings, visitor_settings
from edge.config import decode_config
from edge.errors import ConfigError
from edge.steering.choice import Rule
from edge.steering.forwarded import AddressHeader, TrustedProxies
from edge.steering.settings import VisitorSettings
from edge.steering.visitor import LocationHeaders

FLEET = """
[fleet]
host = "one"
steering = "redirect"
[sites.fra]
latitude = 50.0
longitude = 8.0
relays = ["203.0.113.5:3478"]
[clusters.fra]
id = 7
site = "fra"
signaling = "wss://fra.example.com/v1/session"
[hosts.one]
site = "fra"
cluster = "fra"
internal = "10.0.0.1"
[keys]
file = "/etc/edge/keys.toml"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decode_config(text, "edge.toml")
    return str(caught.value).splitlines()


def test_what_workers_get() -> None:
    config = decode_config(
        f"""{FLEET}
[signal]
trusted_proxies = ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"]
address_header = "forwarded"
[steering]
location_headers = "cloudflare"
database = "/var/lib/edge/positions.mmdb"
default_cluster = "fra"
second_relay = true
[[steering.rules]]
country = "DE"
prefix = "198.51.100.0/24"
cluster = "fra"
""",
        "edge.toml",
    )
    networks = tuple(ip_network(each) for each in ("10.0.0.0/8", "2001:db8::/32", "127.0.0.1/32"))
    assert visitor_settings(config) == VisitorSettings(
        TrustedProxies(networks, AddressHeader.FORWARDED),
        LocationHeaders.CLOUDFLARE,
        Path("/var/lib/edge/positions.mmdb"),
    )
    steering = steering_settings(config)
    assert steering is not None
    assert steering.rules == (Rule(7, "DE", ip_network("198.51.100.0/24")),)
    assert (steering.default, steering.own) == (7, 7)
    assert steering.second_relay
    assert steering.redirects
    assert steering.here.relays == (("203.0.113.5", 3478),)


def test_a_lone_host_steers_nobody() -> None:
    config = decode_config("", "edge.toml")
    assert steering_settings(config) is None
    assert visitor_settings(config) == VisitorSettings()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[signal]\ntrusted_proxies = ["10.0.0.1/8"]', "signal.trusted_proxies[0]: '10.0.0.1/8'"),
        ('[signal]\ntrusted_proxies = ["::ffff:1.2.3.4"]', "IPv4 in disguise"),
        ('[signal]\naddress_header = "x-real-ip"', 'expected "x-forwarded-for" or "forwarded"'),
        ('[steering]\nlocation_headers = "cloudflare"', "signal.trusted_proxies is empty"),
        ('[steering]\ndatabase = "positions.mmdb"', "not an absolute path"),
        ('[steering]\ndefault_cluster = "x"', 'there is no cluster "x" (clusters: none)'),
        ('[[steering.rules]]\ncluster = "fra"', "a rule needs a country or a prefix, or both"),
        ('[[steering.rules]]\ncluster = "x"\ncountry = "DE"', 'there is no cluster "x"'),
        ('[[steering.rules]]\ncluster = "x"\ncountry = "de"', 'not a country code like "DE"'),
    ],
)
def test_mistakes_are_named(text: str, problem: str) -> None:
    assert problem in "\n".join(problems(text))
