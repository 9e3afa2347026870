"""Configuration: any text is a Config or a ConfigError; every key of any TOML has its line."""

import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import Config, IpAddress, ListenAddress, decode_config
from edge.config.keypath import KeyPath, key_lines
from edge.errors import ConfigError
from edge.keys import KeySet, decode_keys, encode_keys
from edge.routing.ufrag import RoutingKey

SHIPPED = (Path(__file__).parents[2] / "config" / "edge.toml").read_text()
LINES = [line for line in SHIPPED.splitlines() if line and not line.startswith("#")]

bare_keys = st.text("ab1_-", min_size=1, max_size=3)
quoted_keys = st.sampled_from(['""', "'a.b'", '"]"', "'#'", '"a = 1"', '"\\u0041"', "'\"'"])
keys = bare_keys | quoted_keys
gaps = st.sampled_from(["", " ", "\n", " # ] } ''' \"\"\" = comment\n", "\n\n\t"])
scalars = st.sampled_from(
    [
        "1",
        "-1_000",
        "0xff",
        "1e3",
        "-inf",
        "true",
        "1979-05-27T07:32:32Z",
        "1979-05-27 07:32:32.5",
        "07:32:32",
        '""',
        "''",
        '"a\\"]b"',
        "'a\\'",
        '"""x"""',
        '"""\n[t]\nk = 1 # no\n\\"""\n"""""',
        "'''\n[[t]]\nk = 1\n'''''",
        '""""q"""',
    ]
)


def arrays(elements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.lists(st.tuples(gaps, elements, gaps), max_size=3)
    return parts.map(lambda each: "[" + ",".join("".join(part) for part in each) + "]")


def inline_tables(elements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(keys, elements), max_size=3)
    return pairs.map(
        lambda each: "{ " + ", ".join(f"{key} = {value}" for key, value in each) + " }"
    )


values = st.recursive(scalars, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)
dotted_keys = st.lists(keys, min_size=1, max_size=3).map(" . ".join)
statements = st.one_of(
    st.builds("{} = {}".format, dotted_keys, values),
    st.builds("[{}]".format, dotted_keys),
    st.builds("[[{}]]".format, dotted_keys),
    st.just("# [comment]"),
    st.just(""),
)
documents = st.lists(statements, max_size=8)


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*path, index))


def complaints(text: str) -> list[str]:
    """Lines of the ConfigError that the text causes; none if it is a good configuration."""
    try:
        config = decode_config(text, "edge.toml")
    except ConfigError as exc:
        return str(exc).split("\n")
    assert isinstance(config, Config)
    return []


def keep_valid(document: list[str]) -> list[str]:
    """Drop the statements that clash with earlier ones."""
    kept: list[str] = []
    for statement in document:
        try:
            tomllib.loads("\n".join([*kept, statement]))
        except tomllib.TOMLDecodeError:
            continue
        kept.append(statement)
    return kept


@settings(max_examples=300)
@given(documents, st.sampled_from(["\n", "\r\n"]))
def test_every_key_has_a_line_and_nothing_else_has(document: list[str], line_end: str) -> None:
    kept = keep_valid(document)
    text = "\n".join(kept).replace("\n", line_end)
    lines = key_lines(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    starts = [1]
    for statement in kept:
        starts.append(starts[-1] + statement.count("\n") + 1)
    for number, statement in enumerate(kept):
        new = set(paths(tomllib.loads("\n".join(kept[: number + 1]))))
        new -= set(paths(tomllib.loads("\n".join(kept[:number]))))
        assert all(starts[number] <= lines[path] < starts[number + 1] for path in new), statement


@settings(max_examples=200)
@given(st.text() | documents.map("\n".join))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    assert all(line.startswith("edge.toml") for line in complaints(text))


values_of_any_kind = st.one_of(
    values,
    st.integers().map(str),
    st.floats().map(lambda number: repr(number).replace("e+", "e")),
    st.text(st.characters(blacklist_categories=["C"], blacklist_characters="\"\\'")).map(
        '"{}"'.format
    ),
)


@settings(max_examples=300)
@given(st.integers(0, len(LINES) - 1), values_of_any_kind)
def test_any_value_of_any_key_is_taken_or_named(index: int, value: str) -> None:
    """A bad value is reported on its own line, and by its own key path."""
    if LINES[index].startswith("["):
        return
    name = LINES[index].partition(" = ")[0]
    table = next(line for line in reversed(LINES[:index]) if line.startswith("["))
    text = "\n".join([*LINES[:index], f"{name} = {value}", *LINES[index + 1 :]])
    for complaint in complaints(text):
        number = int(complaint.split(":")[1])
        assert index + 1 <= number <= index + 1 + value.count("\n") or table[1:-1] in complaint


hosts = st.ip_addresses().filter(
    lambda ip: (
        not ip.is_multicast
        and not (ip.version == 6 and ip.ipv4_mapped)
        and ip != IPv4Address("255.255.255.255")
    )
)


@given(hosts, st.integers(0, 65535))
def test_listen_addresses_round_trip(host: object, port: int) -> None:
    address = ListenAddress(IpAddress(host), port)
    assert ListenAddress.parse(str(address)) == address


routing_keys = st.lists(
    st.tuples(st.integers(0, 6), st.binary(min_size=16, max_size=16)),
    min_size=1,
    max_size=7,
    unique_by=(lambda pair: pair[0], lambda pair: pair[1]),
)


@settings(max_examples=50)
@given(routing_keys, st.binary(min_size=32, max_size=32))
def test_key_files_round_trip(routing: list[tuple[int, bytes]], password_key: bytes) -> None:
    keys = KeySet(tuple(RoutingKey(key_id, key) for key_id, key in routing), password_key)
    assert decode_keys(encode_keys(keys), "keys.toml") == keys
