"""Positions by address, from a database that the test makes."""

import time
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.steering.database import NOWHERE, PositionDatabase, check_database
from edge.steering.position import Position
from edge.steering.visitor import Whereabouts
from tests.support.positions import FRANKFURT, NEW_YORK, place_record, write_positions


def test_addresses_of_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    write_positions(path, {"192.0.2.0/24": FRANKFURT, "2001:db8::/32": NEW_YORK})
    database = PositionDatabase(path)
    assert database.find("192.0.2.77") == Whereabouts(Position(50.11, 8.68), "DE")
    assert database.find("2001:db8::7") == Whereabouts(Position(40.71, -74.01), "US")
    assert database.find("198.51.100.1") == NOWHERE
    database.close()


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"location": "Frankfurt", "country": ["DE"]},
        {"location": {"latitude": 91.0, "longitude": 8.0}, "country": {"iso_code": "Germany"}},
        {"location": {"latitude": "north"}, "country": {"iso_code": 49}},
        "a text",
    ],
)
def test_odd_entries_say_nothing(tmp_path: Path, entry: Any) -> None:
    path = tmp_path / "odd.mmdb"
    write_positions(path, {"192.0.2.0/24": entry})
    database = PositionDatabase(path)
    assert database.find("192.0.2.1") == NOWHERE
    database.close()


def test_a_country_without_a_position(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"
    write_positions(path, {"192.0.2.0/24": {"country": {"iso_code": "DE"}}})
    database = PositionDatabase(path)
    assert database.find("192.0.2.1") == Whereabouts(None, "DE")
    database.close()


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path, fresh = tmp_path / "city.mmdb", tmp_path / "fresh.mmdb"
    write_positions(path, {"192.0.2.0/24": FRANKFURT})
    database = PositionDatabase(path)
    write_positions(fresh, {"192.0.2.0/24": NEW_YORK})
    fresh.rename(path)
    assert database.find("192.0.2.1").country == "DE"
    database.reload()
    assert database.find("192.0.2.1").country == "US"
    fresh.write_bytes(b"no database")
    fresh.rename(path)
    with pytest.raises(ConfigError, match=r"city\.mmdb: not a usable database of positions"):
        database.reload()
    assert database.find("192.0.2.1").country == "US"
    path.unlink()
    with pytest.raises(ConfigError):
        database.reload()
    assert database.find("192.0.2.1").country == "US"
    database.close()


def test_ipv6_in_a_database_of_ipv4(tmp_path: Path) -> None:
    path = tmp_path / "four.mmdb"
    write_positions(path, {"192.0.2.0/24": place_record("DE", 1, 2)}, ip_version=4)
    database = PositionDatabase(path)
    assert database.find("2001:db8::1") == NOWHERE
    assert database.find("192.0.2.1").country == "DE"
    database.close()


def test_a_damaged_entry_says_nothing_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    write_positions(path, {"192.0.2.0/24": FRANKFURT})
    content = bytearray(path.read_bytes())
    content[content.index(b"iso_code") - 1] = 0x0F  # a type that there is not
    path.write_bytes(content)
    database = PositionDatabase(path)
    for times in (1, 2):
        assert database.find("192.0.2.1") == NOWHERE
        assert database.damaged == times
    assert database.find("198.51.100.1") == NOWHERE
    assert database.find("no address") == NOWHERE
    assert database.damaged == 2
    database.close()


def test_a_small_file_that_unfolds_to_a_large_entry_costs_little(tmp_path: Path) -> None:
    """Lists of lists of lists, each of which is written once and pointed to twenty times."""
    path = tmp_path / "bomb.mmdb"
    entry: Any = {"iso_code": "DE"}
    for _ in range(4):
        entry = [entry] * 20
    write_positions(path, {"192.0.2.0/24": entry})
    assert path.stat().st_size < 10_000
    database = PositionDatabase(path)
    began = time.process_time()
    assert database.find("192.0.2.1") == NOWHERE
    assert time.process_time() - began < 1.0
    assert database.damaged == 1
    database.close()


def test_a_check_takes_what_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    write_positions(path, {"192.0.2.0/24": FRANKFURT})
    check_database(path)
    for content in (b"", b"<html>401</html>", path.read_bytes()[:-200]):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"city\.mmdb: not a usable database"):
            check_database(path)
        with pytest.raises(ConfigError, match=r"city\.mmdb: not a usable database"):
            PositionDatabase(path)


def test_no_database() -> None:
    with pytest.raises(ConfigError):
        PositionDatabase(Path("/nowhere/city.mmdb"))
