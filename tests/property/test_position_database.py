"""Databases of positions with damage in any place: never an exception, never a crash."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.steering.database import PositionDatabase
from edge.steering.visitor import Whereabouts
from tests.support.positions import FRANKFURT, NEW_YORK, write_positions

ADDRESSES = ("192.0.2.7", "203.0.113.7", "198.51.100.1", "2001:db8::7", "::", "nowhere")
PREFIXES = {"192.0.2.0/24": FRANKFURT, "203.0.113.0/24": NEW_YORK, "2001:db8::/32": FRANKFURT}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        write_positions(Path(name, "good.mmdb"), PREFIXES)
        yield Path(name)


def look_up(path: Path) -> None:
    """Look all addresses up, if it is a database."""
    try:
        database = PositionDatabase(path)
    except ConfigError:
        return
    for address in ADDRESSES:
        assert isinstance(database.find(address), Whereabouts)
    assert database.damaged <= len(ADDRESSES)
    database.close()


@given(st.data())
def test_changed_bytes(folder: Path, data: st.DataObject) -> None:
    content = bytearray((folder / "good.mmdb").read_bytes())
    places = st.integers(0, len(content) - 1)
    changes = data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8))
    for place, value in changes:
        content[place] = value
    path = folder / "changed.mmdb"
    path.write_bytes(content)
    look_up(path)


@pytest.mark.parametrize("flipped", [0x01, 0xFF])
def test_every_single_byte(folder: Path, flipped: int) -> None:
    content = (folder / "good.mmdb").read_bytes()
    path = folder / "single.mmdb"
    for place, value in enumerate(content):
        path.write_bytes(content[:place] + bytes([value ^ flipped]) + content[place + 1 :])
        look_up(path)


def test_every_length(folder: Path) -> None:
    content = (folder / "good.mmdb").read_bytes()
    path = folder / "short.mmdb"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        look_up(path)
