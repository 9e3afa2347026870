"""The commands that need no running appliance, and the one that is it."""

import argparse
import faulthandler
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from edge import __version__, logs
from edge.commands.files import check_files
from edge.commands.output import say
from edge.commands.places import (
    control_socket,
    find_configuration,
    state_directories,
    state_directory,
)
from edge.config import Config
from edge.errors import BootError, UfragError
from edge.keys import KeySet, find_keys, load_secret, obtain_keys
from edge.routing.ufrag import UfragOpener
from edge.sdnotify import ServiceManager
from edge.supervision.handover import VARIABLE, Successor, take_handover
from edge.supervision.signals import holding_signals

STDERR = 2
PROGRAM = ("edge.supervisor", "edge.relay", "edge.transceiver.worker")
"""With what they import, all that the service runs."""
_FOR_US_ALONE = frozenset({"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", VARIABLE})
"""Variables about descriptors that have found their way."""

logger = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    with holding_signals():
        return _run(arguments, environment)


def _run(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    found = find_configuration(arguments.config, environment)
    config = found.config
    journal = logs.is_journal(environment.get("JOURNAL_STREAM"), STDERR)
    logs.configure(config.log.level, "supervisor", journal=journal)
    faulthandler.enable()  # what the service manager's watchdog sends leaves a stack
    logger.info("configuration: %s", found.source)
    directory = state_directory(config, environment)
    socket_path = control_socket(config, environment)
    config = config.with_key_files(load_secret)
    keys = obtain_keys(config.keys, directory, os.urandom, in_fleet=config.fleet.host is not None)
    from edge.supervisor import run as supervise  # noqa: PLC0415 - the others need not wait for it

    def load() -> tuple[Config, KeySet]:
        again = find_configuration(arguments.config, environment).config
        check_files(again)
        again = again.with_key_files(load_secret)
        in_fleet = again.fleet.host is not None
        return again, obtain_keys(again.keys, directory, os.urandom, in_fleet=in_fleet)

    try:
        handover = take_handover(environment, os.getpid())
    except BootError as exc:
        logger.error("%s", exc)  # noqa: TRY400 - told in full
        return os.EX_SOFTWARE
    left = handover.descriptors if handover is not None else None
    manager = ServiceManager.of(environment, os.getpid(), left)
    successor = _successor(arguments, environment)
    return supervise(config, keys, load, socket_path, manager, successor, handover)


def _successor(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Successor:
    """Return the program that would be executed under our name.

    A script's path may have led through a link that now leads to another version.
    """
    program = [sys.argv[0]]
    if Path(sys.argv[0]).name == "__main__.py":  # python -m edge
        program = [sys.executable, "-m", "edge"]
    named = [] if arguments.config is None else [str(arguments.config)]
    ours = {key: value for key, value in environment.items() if key not in _FOR_US_ALONE}
    return Successor(
        command=(*program, *sys.argv[1:]),
        check=(*program, "check-config", "--program", *named),
        version=(*program, "version"),
        environment=ours,
    )


def check_config(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    found = find_configuration(arguments.config, environment)
    check_files(found.config)
    if arguments.program and (fault := _program_fault()):
        sys.stderr.write(f"edge {__version__} cannot run: {fault}\n")
        return os.EX_SOFTWARE
    say(f"{found.source}: good: {_describe(found.config)}\n")
    return os.EX_OK


def inspect_ufrag(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    found = find_configuration(arguments.config, environment)
    keys = find_keys(found.config.keys, state_directories(found, environment))
    token = arguments.token.partition(":")[0]
    try:
        routed = UfragOpener(keys.routing).open(token)
    except UfragError as exc:
        sys.stderr.write(f"{token}: not a ufrag of ours: {exc.reason}\n")
        return os.EX_DATAERR
    issued_at = datetime.fromtimestamp(routed.issued_at, UTC)
    age = datetime.now(UTC) - issued_at
    say(
        f"key          {routed.key_id}\n"
        f"cluster      {routed.cluster}\n"
        f"transceiver  {routed.transceiver}\n"
        f"issued at    {issued_at:%Y-%m-%d %H:%M:%S} UTC ({age.total_seconds():.0f} s ago)\n"
    )
    return os.EX_OK


def version(_arguments: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    say(f"edge {__version__}\n")
    return os.EX_OK


def _program_fault() -> str | None:
    """Import what the service's processes do; return what is wrong with it, if anything is."""
    for name in PROGRAM:
        try:
            import_module(name)
        except Exception as exc:  # noqa: BLE001 - whatever a program raises that is not whole
            return f"{name}: {type(exc).__name__}: {exc}"
    return None


def _describe(config: Config) -> str:
    relay, signal = config.relay, config.signal
    udp = ", ".join(str(listen) for listen in relay.listen)
    tcp = ", ".join(str(listen) for listen in signal.listen)
    routes = ", ".join(f"{name} ({route.kind})" for name, route in config.routes.items())
    return (
        f"{_count(relay.workers, 'relay worker')} on udp {udp}; "
        f"{_count(config.transceiver.workers, 'transceiver worker')}; "
        f"{_describe_fleet(config)}"
        f"signaling on tcp {tcp}, page {'on' if signal.serves_page else 'off'}; "
        f"routes: {routes}"
    )


def _describe_fleet(config: Config) -> str:
    name = config.fleet.host
    if name is None:
        return ""
    here = config.hosts[name]
    role = "relays only" if here.cluster is None else f"cluster {here.cluster}"
    others = _count(len(config.hosts) - 1, "other host")
    return f"host {name} ({here.internal}, {role}) in a fleet with {others}; "


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
