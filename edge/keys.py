"""The keys of a host and the file that keeps them; key files of backends.

The file is TOML: ``password`` (64 hex digits) and ``routing``, an array of tables with ``id`` (0 to
6) and ``key`` (32 hex digits); the first one seals new ufrags. Hosts of a fleet have ``fleet`` too,
with ids from 0 to 255 and keys of 64 hex digits. Whoever can read it can forge ufrags and ICE
passwords, so a file that others than its owner can touch is refused.
"""

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import field, frozen

from edge.config import (
    InlineFleetKey,
    InlineRoutingKey,
    KeysConfig,
    PasswordSecret,
    Problem,
    Secret,
    Table,
    decode_document,
    fleet_key_problems,
    routing_key_problems,
)
from edge.errors import ConfigError
from edge.fleet.map import FleetKey
from edge.machine import Entropy
from edge.routing.ufrag import RoutingKey

KEY_FILE_NAME = "keys.toml"

_FILE_BYTES_MAX = 65_536
_HEADER = """\
# Keys of an edge host: who can read this can forge what its relays and transceivers trust.
# "routing" seals ufrags, "password" derives ICE passwords.
"""


@frozen
class KeySet:
    """Everything secret that the workers are given; relays get ``routing`` only."""

    routing: tuple[RoutingKey, ...]
    """The first one seals new ufrags."""
    password_key: bytes = field(repr=False)
    """32 bytes, for ``derive_password``."""
    fleet: tuple[FleetKey, ...] = ()
    """What the hosts of a fleet know each other by; the first one seals."""


class _KeyFile(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    routing: tuple[InlineRoutingKey, ...]
    password: PasswordSecret
    fleet: tuple[InlineFleetKey, ...] = ()

    def problems(self) -> Iterator[Problem]:
        yield from routing_key_problems(self.routing)
        yield from fleet_key_problems(self.fleet)
        if not self.routing:
            yield Problem(("routing",), "needs at least one key")


def generate_keys(entropy: Entropy) -> KeySet:
    return KeySet((RoutingKey(0, entropy(16)),), entropy(32))


def decode_keys(text: str, source: str) -> KeySet:
    """Decode the text of a key file; ``source`` is its name for messages.

    Raises:
        ConfigError: with file, line and key path, never with key material.

    """
    document = decode_document(_KeyFile, text, source)
    return _key_set(document.routing, document.password, document.fleet)


def encode_keys(keys: KeySet) -> str:
    tables = [f'\n[[routing]]\nid = {each.id}\nkey = "{each.key.hex()}"\n' for each in keys.routing]
    tables += [f'\n[[fleet]]\nid = {each.id}\nkey = "{each.key.hex()}"\n' for each in keys.fleet]
    return f'{_HEADER}password = "{keys.password_key.hex()}"\n' + "".join(tables)


def obtain_keys(
    config: KeysConfig, state_directory: Path, entropy: Entropy, *, in_fleet: bool = False
) -> KeySet:
    """Return the keys written in the configuration, or in its key file, or the host's own.

    The host's own are in the state directory, and generated there if need be. A host that is
    ``in_fleet`` needs the fleet's.

    Raises:
        ConfigError: no usable keys.

    """
    if config.password is not None:
        return _key_set(config.routing, config.password, config.fleet)
    if config.file is not None:
        keys = load_keys(Path(config.file))
        if in_fleet and not keys.fleet:
            raise ConfigError(f"{config.file}: fleet: missing, and this host is in a fleet")
        return keys
    path = state_directory / KEY_FILE_NAME
    if not path.exists():
        _generate_file(path, entropy)
    return load_keys(path)


def find_keys(config: KeysConfig, state_directories: Sequence[Path]) -> KeySet:
    """Return the keys there are, to look at something with them. None are made.

    They may be of another user's appliance, if we can read them.

    Raises:
        ConfigError: there are none, or they cannot be used.

    """
    if config.password is not None:
        return _key_set(config.routing, config.password, config.fleet)
    if config.file is not None:
        return load_keys(Path(config.file), any_owner=True)
    paths = [each / KEY_FILE_NAME for each in state_directories]
    for path in paths:
        if not _is_missing(path):
            return load_keys(path, any_owner=True)
    text = " or ".join(map(str, paths))
    raise ConfigError(f"no keys: looked for {text}; edge run makes them when it first starts")


def load_keys(path: Path, *, any_owner: bool = False) -> KeySet:
    """Read a key file, of ourselves or root if not of ``any_owner``.

    Raises:
        ConfigError: missing, unreadable, malformed, or not private to its owner.

    """
    try:
        content = _read_private(path, any_owner=any_owner)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot read keys: {exc.strerror}") from exc
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 text") from exc
    return decode_keys(text, str(path))


def load_secret(path: Path) -> Secret:
    """Read a backend's key: the only line of a file.

    Raises:
        ConfigError: missing, unreadable, malformed, or not private to its owner.

    """
    try:
        content = _read_private(path)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot read the key: {exc.strerror}") from exc
    try:
        return Secret.parse(content.decode("ascii").removesuffix("\n"))
    except ValueError:
        text = "expected one line of 1 to 4096 printable ASCII characters"
        raise ConfigError(f"{path}: {text}") from None  # the cause shows what it could not decode


def save_keys(path: Path, keys: KeySet) -> None:
    """Write a key file, mode 0600: all of it or nothing, and never over an existing one.

    Raises:
        FileExistsError: there is one; it was not touched.
        OSError: it cannot be written.

    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(encode_keys(keys))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _generate_file(path: Path, entropy: Entropy) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_keys(path, generate_keys(entropy))
    except FileExistsError:
        return  # another start was faster: its keys are as good
    except OSError as exc:
        raise ConfigError(f"{path}: cannot write generated keys: {exc.strerror}") from exc


def _is_missing(path: Path) -> bool:
    try:
        return not path.exists()
    except PermissionError:  # there is a directory that this user may not enter
        return False


def _read_private(path: Path, *, any_owner: bool = False) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: keys must be in a regular file")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(f"{path}: mode {mode:04o} lets others at the keys; chmod 600 it")
        if not any_owner and status.st_uid not in {0, os.geteuid()}:
            raise ConfigError(f"{path}: belongs to another user (uid {status.st_uid})")
        content = file.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {_FILE_BYTES_MAX} bytes: not a key file")
    return content


def _key_set(
    routing: tuple[InlineRoutingKey, ...],
    password: PasswordSecret,
    fleet: tuple[InlineFleetKey, ...],
) -> KeySet:
    return KeySet(
        tuple(RoutingKey(each.id, bytes(each.key)) for each in routing),
        bytes(password),
        tuple(FleetKey(each.id, bytes(each.key)) for each in fleet),
    )
