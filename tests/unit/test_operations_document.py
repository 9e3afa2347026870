"""docs/operations.md: its configuration is accepted, its figures and settings are there."""

import re
from pathlib import Path

import pytest

from edge.assignment.fleet import fleet_map
from edge.config import Config, decode_config

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "operations.md").read_text()


def example() -> Config:
    (found,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    return decode_config(found, "operations.md")


def test_the_example_is_a_fleet() -> None:
    fleet = fleet_map(example())
    assert fleet is not None
    assert [each.name for each in fleet.members] == ["fra1", "nyc1", "sin1"]
    assert fleet.here.internal in TEXT.split("[Interface]")[1].split("[Peer]")[0]


def test_every_figure_is_one() -> None:
    known = set(re.findall(r"`(edge_\w+)`", (DOCS / "metrics.md").read_text()))
    used = set(re.findall(r"(edge_[a-z_]+)", TEXT))
    assert used <= known


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+\.(?!toml)\w+)`", TEXT))))
def test_every_key_is_one(name: str) -> None:
    table, key = name.split(".")
    assert hasattr(getattr(Config(), table), key)


def test_ports_are_the_defaults() -> None:
    fleet = Config().fleet
    for port in (fleet.frame_port, fleet.relay_port, fleet.control_port):
        assert str(port) in TEXT
