"""The key file: format, permissions, first start."""

import os
from pathlib import Path

import pytest
from attrs import evolve

from edge.config import KeysConfig, decode_config
from edge.errors import ConfigError
from edge.fleet.map import FleetKey
from edge.keys import (
    KEY_FILE_NAME,
    KeySet,
    decode_keys,
    encode_keys,
    generate_keys,
    load_keys,
    load_secret,
    obtain_keys,
    save_keys,
)
from edge.routing.ufrag import RoutingKey

KEYS = KeySet((RoutingKey(2, bytes(range(16))), RoutingKey(0, bytes(16))), bytes(range(32)))


def refuse_entropy(count: int) -> bytes:
    raise AssertionError(f"{count} random bytes were asked for")


def write_private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def test_known_file() -> None:
    text = """
        password = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        [[routing]]
        id = 2
        key = "000102030405060708090A0B0C0D0E0F"
        [[routing]]
        id = 0
        key = "00000000000000000000000000000000"
    """
    assert decode_keys(text, "keys.toml") == KEYS


def test_round_trip() -> None:
    assert decode_keys(encode_keys(KEYS), "keys.toml") == KEYS


def test_a_fleets_keys_are_kept(tmp_path: Path) -> None:
    keys = evolve(KEYS, fleet=(FleetKey(7, bytes(range(32))), FleetKey(0, bytes(32))))
    assert decode_keys(encode_keys(keys), "keys.toml") == keys
    assert "\\x01" not in repr(keys)
    path = write_private(tmp_path / "shared.toml", encode_keys(keys))
    config = decode_config(f'[keys]\nfile = "{path}"', "edge.toml").keys
    assert obtain_keys(config, tmp_path, refuse_entropy, in_fleet=True) == keys


def test_a_host_of_a_fleet_needs_the_fleets_keys(tmp_path: Path) -> None:
    path = write_private(tmp_path / "shared.toml", encode_keys(KEYS))
    config = decode_config(f'[keys]\nfile = "{path}"', "edge.toml").keys
    assert obtain_keys(config, tmp_path, refuse_entropy) == KEYS
    with pytest.raises(ConfigError, match=r"shared\.toml: fleet: missing"):
        obtain_keys(config, tmp_path, refuse_entropy, in_fleet=True)


def test_generated_keys_are_random_and_complete() -> None:
    keys, others = generate_keys(os.urandom), generate_keys(os.urandom)
    assert keys != others
    assert [key.id for key in keys.routing] == [0]
    assert (len(keys.routing[0].key), len(keys.password_key)) == (16, 32)


def test_keys_do_not_show() -> None:
    assert "\\x01" not in repr(KEYS)
    assert "secret" not in repr(generate_keys(os.urandom).routing[0].key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["keys.toml: password: missing", "keys.toml: routing: missing"]),
        (
            f'routing = []\npassword = "{"0" * 64}"',
            ["keys.toml:1: routing: needs at least one key"],
        ),
        (
            'password = "xyz"\nrouting = [{ id = 8, key = "beef" }]\nfile = ""',
            [
                "keys.toml:1: password: expected 64 hex digits (32 bytes)",
                "keys.toml:2: routing[0].id: expected an integer <= 7",
                "keys.toml:2: routing[0].key: expected 32 hex digits (16 bytes)",
                'keys.toml:3: file: unknown key; did you mean "fleet"?',
            ],
        ),
    ],
)
def test_problems_have_lines(text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_keys(text, "keys.toml")
    assert str(caught.value).splitlines() == expected


def test_saved_file_is_private_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    before = os.umask(0)
    try:
        save_keys(path, KEYS)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_keys(path) == KEYS
    assert list(tmp_path.iterdir()) == [path]


def test_save_never_replaces_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    save_keys(path, KEYS)
    with pytest.raises(FileExistsError):
        save_keys(path, generate_keys(os.urandom))
    assert load_keys(path) == KEYS
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.toml"
    save_keys(path, KEYS)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode 0{mode:o} .*chmod 600"):
        load_keys(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    save_keys(path, KEYS)
    os.chown(path, 65534, -1)
    with pytest.raises(ConfigError, match="another user"):
        load_keys(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_keys(tmp_path / "keys.toml")


def test_directory_and_pipe_are_no_key_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="regular file"):
        load_keys(tmp_path / "pipe")
    with pytest.raises(ConfigError):
        load_keys(tmp_path)


def test_huge_and_binary_files_are_refused(tmp_path: Path) -> None:
    huge = write_private(tmp_path / "huge", "#" * 70_000)
    with pytest.raises(ConfigError, match="larger than"):
        load_keys(huge)
    binary = write_private(tmp_path / "binary", "")
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_keys(binary)


def test_first_start_generates_later_starts_load(tmp_path: Path) -> None:
    state = tmp_path / "new" / "edge"
    keys = obtain_keys(KeysConfig(), state, os.urandom)
    assert (state / KEY_FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert obtain_keys(KeysConfig(), state, refuse_entropy) == keys


def test_two_first_starts_agree(tmp_path: Path) -> None:
    """The other one's file appears while this one is about to write its own."""

    def entropy(count: int) -> bytes:
        if not (tmp_path / KEY_FILE_NAME).exists():
            save_keys(tmp_path / KEY_FILE_NAME, KEYS)
        return os.urandom(count)

    assert obtain_keys(KeysConfig(), tmp_path, entropy) == KEYS


def test_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write generated keys"):
        obtain_keys(KeysConfig(), tmp_path / "file" / "edge", os.urandom)


def test_key_file_of_the_configuration_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "shared.toml"
    config = decode_config(f'[keys]\nfile = "{path}"', "edge.toml").keys
    with pytest.raises(ConfigError, match="No such file"):
        obtain_keys(config, tmp_path, refuse_entropy)
    save_keys(path, KEYS)
    assert obtain_keys(config, tmp_path, refuse_entropy) == KEYS


def test_keys_written_in_the_configuration(tmp_path: Path) -> None:
    text = f"""
        [keys]
        routing = [
            {{ id = 2, key = "{bytes(range(16)).hex()}" }},
            {{ id = 0, key = "{bytes(16).hex()}" }},
        ]
        password = "{bytes(range(32)).hex()}"
    """
    config = decode_config(text, "edge.toml").keys
    assert obtain_keys(config, tmp_path, refuse_entropy) == KEYS
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["sk-geheim", "sk-geheim\n"])
def test_a_backends_key_is_the_line_of_its_file(tmp_path: Path, text: str) -> None:
    secret = load_secret(write_private(tmp_path / "key", text))
    assert secret.reveal() == "sk-geheim"
    assert "geheim" not in repr(secret)


@pytest.mark.parametrize(
    "text", ["", "\n", "geheim\ngeheim", " geheim", "geheim\u00e4", "x" * 4097]
)
def test_a_backends_key_that_is_none_is_refused_without_showing_it(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError, match="expected one line") as caught:
        load_secret(write_private(tmp_path / "key", text))
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_backends_key_file_has_to_be_private(tmp_path: Path) -> None:
    path = write_private(tmp_path / "key", "sk-geheim")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640"):
        load_secret(path)
    with pytest.raises(ConfigError, match="cannot read the key: No such file"):
        load_secret(tmp_path / "none")
