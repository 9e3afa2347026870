"""The command line. The only place that reads arguments and the environment.

Exit statuses are those of sysexits.h: 65, a ufrag is not ours; 66, a file that was named is not
there; 69, no appliance answers; 78, the configuration cannot be used; and 2, wrong arguments.
"""

import argparse
import faulthandler
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge import __version__, logs
from edge.config import Config, decode_config
from edge.errors import ConfigError, UfragError
from edge.keys import KeySet, load_secret, obtain_keys
from edge.routing.ufrag import UfragOpener
from edge.sdnotify import ServiceManager

SYSTEM_CONFIG = Path("/etc/edge/edge.toml")
BUILT_IN = "built-in defaults"
STATUS_SOCKET_NAME = "status.sock"
STDERR = 2

logger = logging.getLogger(__name__)


class InputError(ConfigError):
    """The configuration file that was named cannot be read."""


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run one command; returns the process's exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return _COMMANDS[arguments.command](arguments, environment)
    except InputError as exc:
        sys.stderr.write(f"{exc}\n")
        return os.EX_NOINPUT
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return os.EX_CONFIG


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge", description="A WebRTC voice edge appliance.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the appliance until it is told to stop")
    check = commands.add_parser("check-config", help="say what is wrong with a configuration file")
    lookup = f"(without it: $EDGE_CONFIG, else {SYSTEM_CONFIG} if it is there, else the defaults)"
    run.add_argument("--config", metavar="FILE", type=Path, help=f"configuration {lookup}")
    check.add_argument(
        "config", metavar="FILE", type=Path, nargs="?", help=f"configuration {lookup}"
    )
    status = commands.add_parser("status", help="show what the running appliance is doing")
    status.add_argument("--config", metavar="FILE", type=Path, help=f"configuration {lookup}")
    status.add_argument("--json", action="store_true", help="print everything, as JSON")
    ufrag = commands.add_parser("ufrag", help="tools for routed ufrags")
    tools = ufrag.add_subparsers(dest="tool", required=True, metavar="TOOL")
    inspect = tools.add_parser("inspect", help="say what a ufrag says (with this host's keys)")
    inspect.add_argument("token", metavar="TOKEN", help="a ufrag, or a USERNAME with both parts")
    inspect.add_argument("--config", metavar="FILE", type=Path, help=f"configuration {lookup}")
    commands.add_parser("version", help="print the version")
    return parser


def _run(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    config, source = _load(arguments.config, environment)
    journal = logs.is_journal(environment.get("JOURNAL_STREAM"), STDERR)
    logs.configure(config.log.level, "supervisor", journal=journal)
    faulthandler.enable()  # what the service manager's watchdog sends leaves a stack
    logger.info("configuration: %s", source)
    directory = state_directory(config, environment)
    config = config.with_key_files(load_secret)
    keys = obtain_keys(config.keys, directory, os.urandom)
    from edge.supervisor import run  # noqa: PLC0415 - the other commands need not wait for it

    def load() -> tuple[Config, KeySet]:
        again, _ = _load(arguments.config, environment)
        again = again.with_key_files(load_secret)
        return again, obtain_keys(again.keys, directory, os.urandom)

    manager = ServiceManager.of(environment, os.getpid())
    return run(config, keys, load, directory / STATUS_SOCKET_NAME, manager)


def _check_config(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    config, source = _load(arguments.config, environment)
    sys.stdout.write(f"{source}: good: {_describe(config)}\n")
    return os.EX_OK


def _status(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from edge.status import StatusError, fetch_status, render_status  # noqa: PLC0415 - see _run

    config, _ = _load(arguments.config, environment)
    try:
        status = fetch_status(state_directory(config, environment) / STATUS_SOCKET_NAME)
    except StatusError as exc:
        sys.stderr.write(f"{exc}\n")
        return os.EX_UNAVAILABLE
    text = f"{msgspec.json.encode(status).decode()}\n" if arguments.json else render_status(status)
    sys.stdout.write(text)
    return os.EX_OK


def _ufrag(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    config, _ = _load(arguments.config, environment)
    keys = obtain_keys(config.keys, state_directory(config, environment), os.urandom)
    token = arguments.token.partition(":")[0]
    try:
        routed = UfragOpener(keys.routing).open(token)
    except UfragError as exc:
        sys.stderr.write(f"{token}: not a ufrag of ours: {exc.reason}\n")
        return os.EX_DATAERR
    issued_at = datetime.fromtimestamp(routed.issued_at, UTC)
    age = datetime.now(UTC) - issued_at
    sys.stdout.write(
        f"key          {routed.key_id}\n"
        f"cluster      {routed.cluster}\n"
        f"transceiver  {routed.transceiver}\n"
        f"issued at    {issued_at:%Y-%m-%d %H:%M:%S} UTC ({age.total_seconds():.0f} s ago)\n"
    )
    return os.EX_OK


def _version(_arguments: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    sys.stdout.write(f"edge {__version__}\n")
    return os.EX_OK


_COMMANDS = {
    "run": _run,
    "check-config": _check_config,
    "status": _status,
    "ufrag": _ufrag,
    "version": _version,
}


def _load(named: Path | None, environment: Mapping[str, str]) -> tuple[Config, str]:
    path = named or _find_config(environment)
    if path is None:
        return Config(), BUILT_IN
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror}") from exc
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 text (byte {exc.start})") from exc
    return decode_config(text, str(path)), str(path)


def _find_config(environment: Mapping[str, str]) -> Path | None:
    if from_environment := environment.get("EDGE_CONFIG"):
        return Path(from_environment)
    return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None


def _describe(config: Config) -> str:
    relay, signal = config.relay, config.signal
    udp = ", ".join(str(listen) for listen in relay.listen)
    tcp = ", ".join(str(listen) for listen in signal.listen)
    routes = ", ".join(f"{name} ({route.kind})" for name, route in config.routes.items())
    return (
        f"{_count(relay.workers, 'relay worker')} on udp {udp}; "
        f"{_count(config.transceiver.workers, 'transceiver worker')}; "
        f"signaling on tcp {tcp}, page {'on' if signal.serves_page else 'off'}; "
        f"routes: {routes}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
