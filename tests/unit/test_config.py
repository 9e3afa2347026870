"""Decoding of configuration files: defaults, problems with their lines, combinations."""

import pickle
from pathlib import Path

import msgspec
import pytest

from edge.config import (
    Config,
    IpAddress,
    ListenAddress,
    PublicAddress,
    Table,
    decode_config,
)
from edge.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config" / "edge.toml"
KEY = "000102030405060708090a0b0c0d0e0f"
OTHER_KEY = "ff0102030405060708090a0b0c0d0e0f"
PASSWORD = KEY * 2


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decode_config(text, "edge.toml")
    return str(caught.value).splitlines()


def test_shipped_file_spells_out_the_defaults() -> None:
    assert decode_config(SHIPPED.read_text(), "edge.toml") == Config()


def test_shipped_file_names_every_key() -> None:
    document = msgspec.toml.decode(SHIPPED.read_bytes(), type=dict[str, dict[str, object]])
    tables = {field.name: field.type for field in msgspec.structs.fields(Config)}
    assert list(document) == list(tables)
    for name, table in tables.items():
        assert isinstance(table, type)
        assert issubclass(table, Table)
        assert list(document[name]) == list(table.__struct_fields__)


def test_empty_file_is_the_defaults() -> None:
    assert decode_config("", "edge.toml") == Config()


def test_defaults_are_a_localhost_setup() -> None:
    config = Config()
    assert [str(each) for each in config.relay.listen] == ["127.0.0.1:3478"]
    assert [str(each) for each in config.signal.listen] == ["127.0.0.1:8080"]
    assert (config.relay.workers, config.transceiver.workers) == (2, 2)
    assert config.signal.path == "/v1/session"
    assert config.signal.serves_page


def test_values_are_parsed() -> None:
    config = decode_config(
        f"""
        [relay]
        listen = ["0.0.0.0:3478", "[2001:DB8::0:1]:0"]
        public_addresses = ["203.0.113.7:443", "2001:db8::2"]
        flow_generation = 5
        [signal]
        page = "off"
        [keys]
        routing = [{{ id = 3, key = "{KEY}" }}]
        password = "{PASSWORD}"
        [supervisor]
        state_directory = "/srv/edge"
        """,
        "edge.toml",
    )
    assert config.relay.listen == (
        ListenAddress(IpAddress("0.0.0.0"), 3478),
        ListenAddress(IpAddress("2001:db8::1"), 0),
    )
    assert config.relay.public_addresses == (
        PublicAddress(IpAddress("203.0.113.7"), 443),
        PublicAddress(IpAddress("2001:db8::2"), None),
    )
    assert config.relay.flow_generation == 5.0
    assert not config.signal.serves_page
    assert config.keys.routing[0].id == 3
    assert config.keys.routing[0].key == bytes(range(16))
    assert config.keys.password == bytes(range(16)) * 2
    assert config.keys.file is None
    assert config.supervisor.state_directory == "/srv/edge"


def test_advertised_takes_the_bound_ports_where_none_is_told() -> None:
    relay = decode_config(
        """
        [relay]
        listen = ["0.0.0.0:0", "[::]:0"]
        public_addresses = ["203.0.113.7", "[2001:db8::2]:443"]
        """,
        "edge.toml",
    ).relay
    assert [str(each) for each in relay.advertised([5000, 5001])] == [
        "203.0.113.7:5000",
        "[2001:db8::2]:443",
    ]
    assert [str(each) for each in Config().relay.advertised([5000])] == ["127.0.0.1:5000"]


def test_config_survives_pickling_for_the_workers() -> None:
    config = decode_config(
        f'[keys]\nrouting = [{{ id = 0, key = "{KEY}" }}]\npassword = "{PASSWORD}"', "edge.toml"
    )
    assert pickle.loads(pickle.dumps(config)) == config


def test_all_problems_are_reported_in_file_order() -> None:
    text = """\
[relay]
worker = 3
workers = 0
listen = [
  "127.0.0.1:3478",
  "localhost:3479",
  7,
]
pin_cores = 1

[signal]
page = "maybe"
idle_timeout = nan

[log.extra]
[rely]
"""
    assert problems(text) == [
        'edge.toml:2: relay.worker: unknown key; did you mean "workers"?',
        "edge.toml:3: relay.workers: expected an integer >= 1",
        "edge.toml:6: relay.listen[1]: 'localhost' is not an IP address (names are not looked up)",
        "edge.toml:7: relay.listen[2]: expected a string",
        "edge.toml:9: relay.pin_cores: expected true or false, got an integer",
        'edge.toml:12: signal.page: expected "auto" or "on" or "off"',
        "edge.toml:13: signal.idle_timeout: expected a number > 0.0",
        "edge.toml:15: log.extra: unknown key",
        'edge.toml:16: rely: unknown key; did you mean "relay"?',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n\nworkers 3", "edge.toml:3: not valid TOML: Expected '=' after a key"),
        ("[relay]\nworkers = 1\nworkers = 2", "edge.toml:3: not valid TOML: Cannot overwrite"),
        ('a = "never closed', "edge.toml:1: not valid TOML: Unterminated string"),
        ("x = " + "[" * 5000 + "]" * 5000, "edge.toml: values are nested too deeply"),
        ("x = 1" + "0" * 5000, "edge.toml: not valid TOML: Exceeds the limit"),
    ],
)
def test_syntax_errors_name_the_line(text: str, expected: str) -> None:
    [problem] = problems(text)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relay = 5", "edge.toml:1: relay: expected a table"),
        ("[[relay]]", "edge.toml:1: relay: expected a table"),
        (
            "workers = 5",
            "edge.toml:1: workers: unknown key; it belongs in [relay] or [transceiver]",
        ),
        ("[relay]\nlisten = '127.0.0.1:1'", "edge.toml:2: relay.listen: expected an array"),
        ("[relay]\nlisten = []", "edge.toml:2: relay.listen: needs at least one address"),
        ("[relay]\nworkers = 2.0", "edge.toml:2: relay.workers: expected an integer, got a number"),
        ("[relay]\nworkers = true", "relay.workers: expected an integer, got true or false"),
        ("relay.flow_generation = inf", "edge.toml:1: relay.flow_generation: expected a number <="),
        ("supervisor.cluster = 65536", "supervisor.cluster: expected an integer <= 65535"),
        ("signal.path = '/'", "signal.path: '/' is not like"),
        ("signal.path = '/v1/session?a'", "signal.path: '/v1/session?a' is not like"),
        ('signal.path = "/v1\\n"', "signal.path: '/v1\\n' is not like"),
        ("keys.file = 'keys.toml'", "keys.file: 'keys.toml' is not an absolute path"),
        ('keys.file = "/k\\u0000"', "keys.file: a path cannot contain a NUL"),
        ("[keys]\nrouting = [{ id = 1 }]", "edge.toml:2: keys.routing[0].key: missing"),
        ('"re lay" = 1', "edge.toml:1: 're lay': unknown key"),
    ],
)
def test_wrong_values(text: str, expected: str) -> None:
    [problem] = problems(text)
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[relay]\nlisten = ['127.0.0.1:1', '127.0.0.1:1']",
            ["edge.toml:2: relay.listen[1]: 127.0.0.1:1 is named twice"],
        ),
        (
            "[relay]\nlisten = ['127.0.0.1:1', '127.0.0.1:2']",
            ["edge.toml:2: relay.listen[1]: 127.0.0.1 is named twice; clients are told one port"],
        ),
        (
            (
                "[relay]\nlisten = ['0.0.0.0:1', '127.0.0.1:1']\n"
                "public_addresses = ['192.0.2.1', '192.0.2.2']"
            ),
            ["edge.toml:2: relay.listen[1]: port clash"],
        ),
        (
            "[signal]\nlisten = ['127.0.0.1:1', '[::1]:1', '127.0.0.1:1']",
            ["edge.toml:2: signal.listen[2]: 127.0.0.1:1 is named twice"],
        ),
        (
            "[relay]\nlisten = ['0.0.0.0:3478', '[::]:3478']",
            [
                "edge.toml:2: relay.listen[0]: a wildcard address needs public_addresses",
                "edge.toml:2: relay.listen[1]: a wildcard address needs public_addresses",
            ],
        ),
        (
            "[relay]\npublic_addresses = ['192.0.2.1', '192.0.2.2']",
            ["relay.public_addresses: needs one entry per listen address; has 2 for 1"],
        ),
        (
            "[relay]\npublic_addresses = ['0.0.0.0']",
            ["edge.toml:2: relay.public_addresses[0]: a wildcard address is not a place"],
        ),
        (
            "[relay]\npublic_addresses = ['2001:db8::1']",
            ["relay.public_addresses[0]: not the IP version of its listen address 127.0.0.1:3478"],
        ),
        (
            (
                "[relay]\nlisten = ['127.0.0.1:1', '127.0.0.2:1']\n"
                "public_addresses = ['192.0.2.1:1', '192.0.2.1:2']"
            ),
            ["edge.toml:3: relay.public_addresses[1]: 192.0.2.1 is named twice"],
        ),
        (
            "[transceiver]\ninternal_address = '::'",
            ["edge.toml:2: transceiver.internal_address: relays need one address"],
        ),
        (
            "[supervisor]\nrestart_backoff = 20",
            ["edge.toml:1: supervisor.restart_backoff_max: must not be below restart_backoff"],
        ),
        (
            "[supervisor]\nheartbeat_limit = 1.5",
            ["edge.toml:2: supervisor.heartbeat_limit: must be at least twice"],
        ),
    ],
)
def test_impossible_combinations(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(expected)
    assert all(part in problem for part, problem in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"routing = [{{id = 7, key = '{KEY}'}}]\npassword = '{PASSWORD}'",
            "edge.toml:2: keys.routing[0].id: key id 7 is never routable",
        ),
        (
            (
                f"routing = [{{id = 1, key = '{KEY}'}}, {{id = 1, key = '{OTHER_KEY}'}}]\n"
                f"password = '{PASSWORD}'"
            ),
            "edge.toml:2: keys.routing[1].id: key id 1 is already taken by routing[0]",
        ),
        (
            (
                f"routing = [{{id = 1, key = '{KEY}'}}, {{id = 2, key = '{KEY.upper()}'}}]\n"
                f"password = '{PASSWORD}'"
            ),
            "edge.toml:2: keys.routing[1].key: the same key as routing[0]",
        ),
        (
            f"routing = [{{id = 1, key = '{KEY}'}}]",
            "keys.password: routing keys written here need a password key",
        ),
        (
            f"password = '{PASSWORD}'",
            "keys.routing: a password key written here needs routing keys",
        ),
        (
            f"password = '{PASSWORD}'\nfile = '/etc/edge/keys.toml'",
            "edge.toml:3: keys.file: either a key file or keys written here, not both",
        ),
        (f"password = '{PASSWORD[:-1]}'", "keys.password: expected 64 hex digits (32 bytes)"),
        (f"password = '{PASSWORD[:-1]}\u0663'", "keys.password: expected 64 hex digits (32 bytes)"),
    ],
)
def test_key_problems_never_show_keys(text: str, expected: str) -> None:
    [problem] = problems(f"[keys]\n{text}")
    assert expected in problem
    assert KEY[:8] not in problem.lower()


def test_keys_do_not_show_in_the_config_object() -> None:
    config = decode_config(
        f"[keys]\nrouting = [{{id = 1, key = '{KEY}'}}]\npassword = '{PASSWORD}'", "edge.toml"
    )
    for text in (repr(config), f"{config}", f"{config.keys.password}"):
        assert KEY[:8] not in text
        assert "\\x01" not in text


@pytest.mark.parametrize(
    ("listen", "page", "served"),
    [
        ("['127.0.0.1:1', '[::1]:1']", "auto", True),
        ("['127.0.0.1:1', '192.0.2.1:1']", "auto", False),
        ("['0.0.0.0:1']", "auto", False),
        ("['0.0.0.0:1']", "on", True),
        ("['127.0.0.1:1']", "off", False),
    ],
)
def test_page(listen: str, page: str, served: bool) -> None:
    signal = decode_config(f"[signal]\nlisten = {listen}\npage = '{page}'", "edge.toml").signal
    assert signal.serves_page is served
