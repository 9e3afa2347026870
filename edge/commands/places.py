"""Where a command finds things: the configuration, the state directory, the control socket."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from edge.config import Config, decode_config
from edge.errors import ConfigError

SYSTEM_CONFIG = Path("/etc/edge/edge.toml")
SYSTEM_RUNTIME = Path("/run/edge")
"""systemd's for the service (``RuntimeDirectory=``)."""
SYSTEM_STATE = Path("/var/lib/edge")
"""The same (``StateDirectory=``)."""
BUILT_IN = "built-in defaults"
CONTROL_SOCKET_NAME = "control.sock"


class InputError(ConfigError):
    """The configuration file that was named cannot be read."""


@frozen
class Found:
    """A configuration, and where it is from."""

    config: Config
    source: str
    named: bool
    """The user or the environment named the file."""


def find_configuration(named: Path | None, environment: Mapping[str, str]) -> Found:
    """Read the file that is named, else the environment's, else the system's, else none.

    Raises:
        InputError: it cannot be read.
        ConfigError: it cannot be used.

    """
    path, is_named = named, True
    if path is None and (from_environment := environment.get("EDGE_CONFIG")):
        path = Path(from_environment)
    if path is None:
        is_named = False
        if not _exists(SYSTEM_CONFIG):
            return Found(Config(), BUILT_IN, is_named)
        path = SYSTEM_CONFIG
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror}") from exc
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 text (byte {exc.start})") from exc
    return Found(decode_config(text, str(path)), str(path), is_named)


def state_directory(config: Config, environment: Mapping[str, str]) -> Path:
    """Return the configured directory, else systemd's, else the user's (XDG base directories).

    Raises:
        ConfigError: none of them is known.

    """
    if config.supervisor.state_directory is not None:
        return Path(config.supervisor.state_directory)
    if from_systemd := environment.get("STATE_DIRECTORY"):
        return Path(from_systemd.split(":")[0])
    xdg, home = environment.get("XDG_STATE_HOME", ""), environment.get("HOME", "")
    if xdg.startswith("/"):  # the XDG specification says to ignore relative ones
        return Path(xdg, "edge")
    if home.startswith("/"):
        return Path(home, ".local", "state", "edge")
    raise ConfigError("supervisor.state_directory: not set, and neither is $HOME: no place for it")


def state_directories(found: Found, environment: Mapping[str, str]) -> list[Path]:
    """Return where a command looks for what this host's appliance keeps, in this order.

    The service has a directory of its own, and whoever is logged in has not its environment.
    """
    configured = found.config.supervisor.state_directory is not None
    if configured or environment.get("STATE_DIRECTORY"):
        return [state_directory(found.config, environment)]
    own: list[Path] = []
    with suppress(ConfigError):
        own.append(state_directory(found.config, environment))
    if found.source == str(SYSTEM_CONFIG):
        return [SYSTEM_STATE, *own]
    return [*own, SYSTEM_STATE]


def control_socket(config: Config, environment: Mapping[str, str]) -> Path:
    """Return where an appliance that is started like this listens for commands.

    That is systemd's runtime directory, else the configured state directory, else the user's
    runtime directory, else the state directory.

    Raises:
        ConfigError: no directory is known.

    """
    if from_systemd := environment.get("RUNTIME_DIRECTORY"):
        return Path(from_systemd.split(":")[0], CONTROL_SOCKET_NAME)
    if config.supervisor.state_directory is None:
        runtime = environment.get("XDG_RUNTIME_DIR", "")
        if runtime.startswith("/"):
            return Path(runtime, "edge", CONTROL_SOCKET_NAME)
    return state_directory(config, environment) / CONTROL_SOCKET_NAME


def control_sockets(
    socket: Path | None, named: Path | None, environment: Mapping[str, str]
) -> list[Path]:
    """Return where a command looks for the appliance, in this order.

    A configuration that nobody named is looked at only for its state directory: a mistake in the
    file, or that this user may not read it, is no reason not to show what runs.

    Raises:
        InputError, ConfigError: a configuration that was named cannot be read, or used.

    """
    if socket is not None:
        return [socket]
    service = SYSTEM_RUNTIME / CONTROL_SOCKET_NAME
    try:
        found = find_configuration(named, environment)
    except ConfigError:
        if named is not None or environment.get("EDGE_CONFIG"):
            raise
        found = Found(Config(), BUILT_IN, named=False)
    places: list[Path] = []
    with suppress(ConfigError):
        places.append(control_socket(found.config, environment))
        places.append(state_directory(found.config, environment) / CONTROL_SOCKET_NAME)
    configured = found.config.supervisor.state_directory is not None
    if not (configured and found.named) or found.source == str(SYSTEM_CONFIG):
        places.append(service)
    return list(dict.fromkeys(places))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # there is a directory that this user may not enter
        return True
