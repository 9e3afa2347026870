"""``edge ufrag inspect``: with the keys of this host's appliance, and without making any."""

import os
from pathlib import Path

import pytest
from attrs import frozen

from edge import cli
from edge.commands import places
from edge.keys import KEY_FILE_NAME, KeySet, generate_keys, save_keys
from edge.routing.ufrag import UfragIssuer

GOOD = "[relay]\nworkers = 1\n"


@frozen
class Host:
    """Where an installed host has things."""

    home: Path
    config: Path
    state: Path

    @property
    def own_state(self) -> Path:
        """The state directory of this user's own appliances."""
        return self.home / ".local" / "state" / "edge"

    def inspect(self, keys: KeySet, *arguments: str) -> int:
        """Run the command with a ufrag that these keys have sealed."""
        ufrag = UfragIssuer(3, 1, keys.routing[0], os.urandom).issue(1_800_000_000.0)
        return cli.main(["ufrag", "inspect", ufrag, *arguments], {"HOME": str(self.home)})


def keep_keys(directory: Path) -> KeySet:
    keys = generate_keys(os.urandom)
    directory.mkdir(parents=True, exist_ok=True)
    save_keys(directory / KEY_FILE_NAME, keys)
    return keys


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path / "home", tmp_path / "etc" / "edge.toml", tmp_path / "state")
    found.home.mkdir()
    found.config.parent.mkdir()
    monkeypatch.setattr(places, "SYSTEM_CONFIG", found.config)
    monkeypatch.setattr(places, "SYSTEM_STATE", found.state)
    return found


def test_with_the_systems_configuration_they_are_the_services(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.config.write_text(GOOD)
    keys = keep_keys(host.state)
    keep_keys(host.own_state)
    assert host.inspect(keys) == 0
    assert "cluster      3\n" in capsys.readouterr().out


def test_with_another_configuration_they_are_the_users_own(host: Host, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    keep_keys(host.state)
    keys = keep_keys(host.own_state)
    assert host.inspect(keys, "--config", str(tmp_path / "mine.toml")) == 0


def test_a_configured_state_directory_is_the_only_one(host: Host, tmp_path: Path) -> None:
    state = tmp_path / "there"
    host.config.write_text(f'[supervisor]\nstate_directory = "{state}"\n')
    keep_keys(host.state)
    keys = keep_keys(state)
    assert host.inspect(keys) == 0
    (state / KEY_FILE_NAME).unlink()
    assert host.inspect(keys) == os.EX_CONFIG


@pytest.mark.parametrize("configured", [True, False])
def test_without_keys_it_says_so_and_makes_none(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, configured: bool
) -> None:
    if configured:
        host.config.write_text(GOOD)
    before = sorted(tmp_path.rglob("*"))
    assert host.inspect(generate_keys(os.urandom)) == os.EX_CONFIG
    said = capsys.readouterr().err
    assert "no keys: " in said
    assert str(host.state / KEY_FILE_NAME) in said
    assert "edge run" in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read what is another user's")
def test_root_may_look_with_keys_that_are_the_services_own(host: Host) -> None:
    host.config.write_text(GOOD)
    keys = keep_keys(host.state)
    os.chown(host.state / KEY_FILE_NAME, 12_345, 12_345)
    assert host.inspect(keys) == 0


def test_keys_that_others_can_read_are_refused(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.config.write_text(GOOD)
    keys = keep_keys(host.state)
    (host.state / KEY_FILE_NAME).chmod(0o644)
    assert host.inspect(keys) == os.EX_CONFIG
    assert "lets others at the keys" in capsys.readouterr().err
