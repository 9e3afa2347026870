"""The table ``[redis]``."""

from pathlib import Path

import pytest

from edge.assignment.directory import directory_settings
from edge.config import Config, Secret, decode_config
from edge.errors import ConfigError
from edge.fleet.map import FleetKey
from edge.keys import KeySet
from edge.redis.settings import RedisSettings, RedisTls
from edge.routing.ufrag import RoutingKey

KEYS = KeySet(
    (RoutingKey(2, b"r" * 16), RoutingKey(3, b"s" * 16)), b"p" * 32, (FleetKey(9, b"f" * 32),)
)


def decode(text: str) -> Config:
    return decode_config(f"[redis]\n{text}\n", "edge.toml")


def test_without_addresses_there_is_no_redis() -> None:
    assert directory_settings(decode(""), KEYS) is None


def test_everything_arrives() -> None:
    config = decode(
        """
        addresses = ["redis.example.com:6379", "192.0.2.1:26379", "[2001:db8::1]:7000"]
        sentinel = "edge-master"
        user = "edge"
        password = "secret words"
        sentinel_password = "other"
        tls = true
        ca_file = "/etc/edge/ca.pem"
        server_name = "redis.internal"
        database = 3
        prefix = "fleet1:"
        flow_lifetime = 600
        connect_timeout = 1.5
        command_timeout = 0.25
        """
    )
    settings = directory_settings(config, KEYS)
    assert settings is not None
    assert settings.redis == RedisSettings(
        (("redis.example.com", 6379), ("192.0.2.1", 26379), ("2001:db8::1", 7000)),
        sentinel="edge-master",
        user="edge",
        password="secret words",
        sentinel_password="other",
        tls=RedisTls("/etc/edge/ca.pem", "redis.internal"),
        database=3,
        connect_timeout=1.5,
        command_timeout=0.25,
    )
    assert settings.hosts_place == b"fleet1:hosts"
    assert settings.flow_lifetime == 600
    assert settings.secrets == ((2, b"r" * 16), (3, b"s" * 16)), "a host that is alone"
    for text in (repr(settings), repr(config)):
        assert "secret words" not in text
        assert "rrrr" not in text


def test_the_password_may_be_in_a_file() -> None:
    config = decode('addresses = ["h:1"]\npassword_file = "/run/keys/redis"')
    asked: list[Path] = []

    def read(path: Path) -> Secret:
        asked.append(path)
        return Secret.parse("from the file")

    settings = directory_settings(config.with_key_files(read), KEYS)
    assert settings is not None
    assert settings.redis.password == "from the file"
    assert asked == [Path("/run/keys/redis")]


@pytest.mark.parametrize(
    "name", ["", "redis", "redis-1.example.com", "_a.b_c", "192.0.2.1", "2001:db8::1", "a" * 63]
)
def test_a_certificate_may_name_a_host(name: str) -> None:
    config = decode(f'addresses = ["h:1"]\ntls = true\nserver_name = "{name}"')
    settings = directory_settings(config, KEYS)
    assert settings is not None
    assert settings.redis.tls == RedisTls(None, name or None)


@pytest.mark.parametrize(
    "name",
    [".x", "x.", "x..y", ".", "-x", "x-", "*", "*.x", "a" * 64, "a." * 127, "é", "a b", "a/b",
     "a:1", "[::1]", "fe80::1%lo", "a\\u0000b"],
)  # fmt: skip
def test_what_no_certificate_names_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\.server_name: "):
        decode(f'addresses = ["h:1"]\ntls = true\nserver_name = "{name}"')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('addresses = ["redis"]', "redis.addresses[0]: 'redis' is not like"),
        ('addresses = ["redis:0"]', "redis.addresses[0]"),
        ('addresses = ["redis:65536"]', "redis.addresses[0]"),
        ('addresses = ["a..b:1"]', "redis.addresses[0]"),
        ('addresses = ["u:p@h:1"]', "redis.addresses[0]"),
        (f"addresses = {['h:1'] * 17}", "redis.addresses: at most 16"),
        ('sentinel = "m"', "redis.sentinel: needs the Sentinels' addresses"),
        ('user = "edge"', "redis.user: needs a password"),
        ('sentinel_password = "x"', "redis.sentinel_password: there is no sentinel"),
        ('ca_file = "/ca.pem"', "redis.ca_file: needs tls = true"),
        ('server_name = "h"', "redis.server_name: needs tls = true"),
        ('password = "a"\npassword_file = "/b"', "redis.password_file: either"),
        ('prefix = "with blank"', "redis.prefix"),
        ("flow_lifetime = 30", "redis.flow_lifetime"),
        ("command_timeout = 0", "redis.command_timeout"),
        ("database = -1", "redis.database"),
    ],
)
def test_what_does_not_fit_is_said(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(text)
    assert problem in str(caught.value)
