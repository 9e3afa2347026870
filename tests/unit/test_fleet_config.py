"""The tables of a fleet: what they become, and what is wrong with them."""

import pickle
import re
from pathlib import Path

import pytest

from edge.assignment.fleet import fleet_map
from edge.config import decode_config
from edge.errors import ConfigError, LocalProtocolError
from edge.fleet.map import FleetKey
from edge.routing.numbers import transceiver_number

KEY = "0f" * 32
GOOD = {
    "sites": """
[sites.fra]
region = "eu-central"
latitude = 50.11
longitude = 8.68
relays = ["203.0.113.5:3478", "[2001:db8::5]:3478"]
[sites.sgp]
latitude = 1.29
longitude = 103.85""",
    "clusters": """
[clusters.fra]
id = 7
site = "fra"
signaling = "wss://fra.example.com/v1/session"
""",
    "hosts": """
[hosts.fra1]
site = "fra"
cluster = "fra"
number = 0
internal = "10.0.0.1"
[hosts.fra2]
site = "fra"
cluster = "fra"
number = 3
internal = "10.0.0.2"
[hosts.sgp1]
site = "sgp"
internal = "10.0.3.1"
""",
    "fleet": """
[fleet]
host = "fra1"
""",
    "keys": f"""
[keys]
routing = [{{ id = 0, key = "{KEY[:32]}" }}]
password = "{KEY}"
fleet = [{{ id = 1, key = "{KEY}" }}, {{ id = 2, key = "{"00" * 32}" }}]
""",
    "more": "",
}


def text(**changes: str) -> str:
    """The good tables; a change is a table's text, or "from -> to" within it."""
    tables = dict(GOOD)
    for name, change in changes.items():
        old, arrow, new = change.partition(" -> ")
        if arrow:
            assert old in tables[name]
            tables[name] = tables[name].replace(old, new, 1)
        else:
            tables[name] = change
    return "\n".join(tables.values())


def problems(**changes: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decode_config(text(**changes), "edge.toml")
    assert KEY not in str(caught.value)
    return [line.split(": ", 1)[1] for line in str(caught.value).splitlines()]


def test_a_fleet_becomes_a_map() -> None:
    fleet = fleet_map(decode_config(text(), "edge.toml"))
    assert fleet is not None
    assert fleet.here.name == "fra1"
    assert fleet.cluster_id == 7
    assert [each.name for each in fleet.peers] == ["fra2", "sgp1"]
    assert fleet.here.site.relays == (("203.0.113.5", 3478), ("2001:db8::5", 3478))
    assert fleet.frame_address(7, transceiver_number(3, 5)) == ("10.0.0.2", 3505)
    assert fleet.frame_address(7, transceiver_number(0, 63)) == ("10.0.0.1", 3563)
    assert fleet.frame_address(7, transceiver_number(1, 0)) is None
    assert fleet.frame_address(8, transceiver_number(0, 0)) is None
    assert fleet.frame_address(7, 3 << 8 | 64) is None, "no slot has this number"
    second = fleet.member(7, 3)
    assert second is not None
    assert fleet.member_at("10.0.0.2") == second
    assert fleet.member_at("10.0.0.9") is None
    assert fleet.control_address(second) == ("10.0.0.2", 3490)
    relay_only = fleet.member_at("10.0.3.1")
    assert relay_only is not None
    assert relay_only.cluster is None
    assert pickle.loads(pickle.dumps(fleet)) == fleet


def test_a_fleet_may_be_on_ipv6_alone() -> None:
    hosts = GOOD["hosts"]
    for number, old in enumerate(("10.0.0.1", "10.0.0.2", "10.0.3.1"), 1):
        hosts = hosts.replace(old, f"fd00:0::{number}")
    fleet = fleet_map(decode_config(text(hosts=hosts), "edge.toml"))
    assert fleet is not None
    assert fleet.frame_address(7, transceiver_number(3, 5)) == ("fd00::2", 3505)
    assert [fleet.control_address(each) for each in fleet.peers] == [
        ("fd00::2", 3490),
        ("fd00::3", 3490),
    ]


def test_a_host_alone_has_no_map() -> None:
    assert fleet_map(decode_config("", "edge.toml")) is None
    assert fleet_map(decode_config(text(fleet=""), "edge.toml")) is None


def test_a_host_that_only_relays() -> None:
    config = decode_config(
        text(fleet='[fleet]\nhost = "sgp1"', more="[transceiver]\nworkers = 0"), "edge.toml"
    )
    fleet = fleet_map(config)
    assert fleet is not None
    assert fleet.cluster_id is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fleet": '[fleet]\nhost = "nyc1"'}, [
            'fleet.host: there is no host "nyc1" (hosts: fra1, fra2, sgp1)']),
        ({"fleet": '[fleet]\nhost = "a b"'}, [
            ("fleet.host: a site's, cluster's or host's name is 1 to 64 letters, digits, "
            '"_", "." and "-"')]),
        ({"hosts": 'cluster = "fra" -> cluster = "nyc"'}, [
            'hosts.fra1.cluster: there is no cluster "nyc" (clusters: fra)']),
        ({"hosts": 'site = "fra" -> site = "nyc"'}, [
            'hosts.fra1.site: there is no site "nyc" (sites: fra, sgp)']),
        ({"clusters": 'site = "fra" -> site = "nyc"'}, [
            'clusters.fra.site: there is no site "nyc" (sites: fra, sgp)']),
        ({"hosts": "number = 3 -> number = 0"}, [
            'hosts.fra2.number: number 0 of cluster "fra" is already taken by host "fra1"']),
        ({"hosts": "number = 3 -> number = 256"}, [
            "hosts.fra2.number: expected an integer <= 255"]),
        ({"hosts": "10.0.3.1 -> 10.0.0.1"}, [
            'hosts.sgp1.internal: 10.0.0.1 is already the address of host "fra1"']),
        ({"hosts": "10.0.0.2 -> fd00:0::2"}, [
            ('hosts.fra2.internal: fd00::2 is IPv6 and the address of host "fra1" is IPv4: they '
            "cannot reach each other")]),
        ({"hosts": "10.0.0.1 -> fd00::1"}, [
            ('hosts.fra2.internal: 10.0.0.2 is IPv4 and the address of host "fra1" is IPv6: they '
            "cannot reach each other")]),
        ({"hosts": "10.0.0.1 -> 0.0.0.0"}, [
            "hosts.fra1.internal: other hosts need one address, not a wildcard"]),
        ({"hosts": "10.0.0.1 -> 255.255.255.255"}, [
            "hosts.fra1.internal: '255.255.255.255' is the broadcast address"]),
        ({"clusters": GOOD["clusters"] + '[clusters.nyc]\nid = 7\nsite = "sgp"'}, [
            'clusters.nyc.id: id 7 is already taken by cluster "fra"']),
        ({"sites": "latitude = 50.11 -> latitude = 150.11"}, [
            "sites.fra.latitude: expected a number <= 90.0"]),
        ({"sites": "longitude = 8.68 -> longitude = -181"}, [
            "sites.fra.longitude: expected a number >= -180.0"]),
        ({"sites": "longitude = 8.68 -> "}, ["sites.fra.longitude: missing"]),
        ({"sites": "203.0.113.5:3478 -> 203.0.113.5:0"}, [
            "sites.fra.relays[0]: '203.0.113.5:0': nobody can reach port 0"]),
        ({"sites": "[2001:db8::5]:3478 -> 203.0.113.5:3478"}, [
            "sites.fra.relays[1]: 203.0.113.5:3478 is named twice"]),
        ({"clusters": "wss://fra.example.com/v1/session -> https://fra.example.com"}, [
            ("clusters.fra.signaling: 'https://fra.example.com' is not like "
            '"wss://edge.example.com/v1/session"')]),
        ({"clusters": "v1/session -> v1/session?key=1"}, [
            "clusters.fra.signaling: no user, query or fragment in a signaling URL"]),
        ({"keys": ""}, [
            ("keys.fleet: hosts of a fleet need keys that all of them have: write them here, or "
            "name a file")]),
        ({"keys": "id = 2 -> id = 1"}, [
            "keys.fleet[1].id: key id 1 is already taken by fleet[0]"]),
        ({"keys": f"{'00' * 32} -> {KEY}"}, ["keys.fleet[1].key: the same key as fleet[0]"]),
        ({"keys": f"{'00' * 32} -> {'00' * 31}"}, [
            "keys.fleet[1].key: expected 64 hex digits (32 bytes)"]),
        ({"fleet": '[fleet]\nhost = "sgp1"'}, [
            'transceiver.workers: host "sgp1" has no cluster: it only relays, so this must be 0']),
        ({"more": "[transceiver]\nworkers = 0"}, [
            'transceiver.workers: host "fra1" is in cluster "fra": it needs at least one']),
        ({"more": "[supervisor]\ncluster = 8"}, [
            'supervisor.cluster: cluster "fra" has the id 7: say the same, or leave it out']),
        ({"fleet": '[fleet]\nhost = "fra1"\nframe_port = 3590'}, [
            "fleet.relay_port: the 256 ports from here overlap the 64 from frame_port (3590)"]),
        ({"fleet": '[fleet]\nhost = "fra1"\nrelay_port = 65500'}, [
            "fleet.relay_port: at most 65280: 256 ports begin there"]),
        ({"more": '[relay]\nlisten = ["0.0.0.0:3510"]\npublic_addresses = ["203.0.113.5"]'}, [
            "fleet.frame_port: the 64 ports from here have that of relay.listen, 0.0.0.0:3510"]),
        ({"more": '[relay]\ntcp_listen = ["10.0.0.1:3490"]'}, [
            "fleet.control_port: clients come to 10.0.0.1:3490"]),
        ({"fleet": '[fleet]\nhost = "fra1"\nsteering = "redirect"',
          "clusters": GOOD["clusters"] + '[clusters.sgp]\nid = 8\nsite = "sgp"'}, [
            'clusters.sgp.signaling: missing, and steering = "redirect" sends clients there']),
    ],
)  # fmt: skip
def test_problems_name_table_and_key(changes: dict[str, str], expected: list[str]) -> None:
    assert problems(**changes) == expected


def test_without_a_fleet_there_must_be_transceivers() -> None:
    with pytest.raises(ConfigError, match=r"transceiver\.workers: at least 1"):
        decode_config("[transceiver]\nworkers = 0", "edge.toml")


def test_the_hosts_cluster_may_be_said_twice() -> None:
    decode_config(text(more="[supervisor]\ncluster = 7"), "edge.toml")


def test_keys_do_not_show() -> None:
    key = FleetKey(1, bytes(range(32)))
    assert "\\x01" not in repr(key)
    for number, secret in ((256, bytes(32)), (-1, bytes(32)), (1, bytes(31))):
        with pytest.raises(LocalProtocolError):
            FleetKey(number, secret)


def test_shipped_examples_are_a_fleet() -> None:
    shipped = (Path(__file__).parents[2] / "config" / "edge.toml").read_text()
    _, _, part = shipped.partition("# A fleet of hosts")
    part, _, _ = part.partition("\n[fleet]")
    lines = [line.removeprefix("# ") for line in part.splitlines() if line.startswith("# ")]
    example = "\n".join(line for line in lines if re.match(r"\[\w+\.\w+\]|[a-z]+ = ", line))
    fleet = fleet_map(decode_config(f'{example}\n[fleet]\nhost = "fra1"\n{GOOD["keys"]}', "x"))
    assert fleet is not None
    assert fleet.here.cluster is not None
    assert fleet.here.cluster.signaling == "wss://fra.example.com/v1/session"
    assert fleet.here.site.region == "eu-central"
