"""The command line. Only here, and in ``commands/``, are arguments and the environment read.

Exit statuses are those of sysexits.h: ``commands/arguments.py`` lists them.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from edge.commands.arguments import make_parser
from edge.commands.output import OutputError, discard, prepare_output
from edge.commands.places import InputError
from edge.errors import ConfigError
from edge.operate.client import ControlError

Command = Callable[[argparse.Namespace, Mapping[str, str]], int]

INTERRUPTED = 130
"""As shells report a program that SIGINT has ended."""

_SERVICE = "run"
"""It says nothing on standard output."""

_COMMANDS = {
    "run": "service:run",
    "check-config": "service:check_config",
    "status": "operator:status",
    "sessions": "operator:sessions",
    "session": "operator:session",
    "top": "operator:top",
    "drain": "operator:drain",
    "undrain": "operator:undrain",
    "end": "operator:end",
    "reload": "operator:reload",
    "upgrade": "operator:upgrade",
    "ufrag": "service:inspect_ufrag",
    "completion": "completion:completion",
    "version": "service:version",
}
"""Modules of ``edge.commands`` and their functions: none is imported that is not called."""


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run one command; returns the process's exit status."""
    arguments = make_parser().parse_args(argv)
    try:
        if arguments.command != _SERVICE:
            prepare_output()  # before anything is done that nobody would hear of
        return _find(arguments.command)(arguments, environment)
    except InputError as exc:
        return _fail(exc, os.EX_NOINPUT)
    except ConfigError as exc:
        return _fail(exc, os.EX_CONFIG)
    except ControlError as exc:
        return _fail(exc, exc.exit_status)
    except OutputError as exc:
        discard(sys.stdout)
        return _fail(exc, os.EX_IOERR)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # "edge sessions | head"
        discard(sys.stdout)
        return os.EX_OK


def _find(name: str) -> Command:
    module, _, function = _COMMANDS[name].partition(":")
    command: Command = getattr(import_module(f"edge.commands.{module}"), function)
    return command


def _fail(error: Exception, status: int) -> int:
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"{error}\n")
    except OSError:  # the status says it, too
        discard(sys.stderr)
    return status
