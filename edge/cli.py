"""The command line. Only here, and in ``commands/``, are arguments and the environment read.

Exit statuses are those of sysexits.h: ``commands/arguments.py`` lists them.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from edge.commands.arguments import make_parser
from edge.commands.places import InputError
from edge.errors import ConfigError
from edge.operate.client import ControlError

Command = Callable[[argparse.Namespace, Mapping[str, str]], int]

INTERRUPTED = 130
"""As shells report a program that SIGINT has ended."""

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
        status = _find(arguments.command)(arguments, environment)
        sys.stdout.flush()  # while somebody may still be told that it fails
    except InputError as exc:
        return _fail(exc, os.EX_NOINPUT)
    except ConfigError as exc:
        return _fail(exc, os.EX_CONFIG)
    except ControlError as exc:
        return _fail(exc, exc.exit_status)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # "edge sessions | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK
    return status


def _find(name: str) -> Command:
    module, _, function = _COMMANDS[name].partition(":")
    command: Command = getattr(import_module(f"edge.commands.{module}"), function)
    return command


def _fail(error: Exception, status: int) -> int:
    sys.stderr.write(f"{error}\n")
    return status
