"""What can be written on the command line. The manual page and the shells' completions come of it.

Nothing is imported here that takes time: every command starts with it.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from edge.commands.places import SYSTEM_CONFIG

SHELLS = ("bash", "zsh", "tcsh")
SESSION_ID_MAX = 128
LIMIT_DEFAULT, LIMIT_MAX = 100, 5000
INTERVAL_DEFAULT, INTERVAL_MIN, INTERVAL_MAX = 1.0, 0.2, 30.0

EXIT_STATUSES = {
    0: "done",
    2: "wrong arguments",
    65: "no such session; or a ufrag that is not ours",
    66: "a file that was named is not there",
    69: "edge is not running",
    70: "a fault of edge itself",
    74: "standard output cannot be written; an order that was given is carried out",
    75: "no answer in time, or not possible now: try again",
    76: "what answers is of another version",
    77: "no permission to use the control socket",
    78: "the configuration cannot be used",
}
"""Those of sysexits.h, but for 2."""


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - there is no other name


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge", description="A WebRTC voice edge appliance.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_service_commands(commands)
    _add_looking_commands(commands)
    _add_ordering_commands(commands)
    _add_tools(commands)
    return parser


def _add_service_commands(commands: _Commands) -> None:
    run = commands.add_parser("run", help="run the appliance until it is told to stop")
    run.add_argument("--config", metavar="FILE", type=Path, help=_lookup())
    check = commands.add_parser("check-config", help="say what is wrong with a configuration file")
    check.add_argument(
        "--program",
        action="store_true",
        help="see whether this version of edge can run, too: an upgrade asks before it begins",
    )
    check.add_argument("config", metavar="FILE", type=Path, nargs="?", help=_lookup())


def _add_looking_commands(commands: _Commands) -> None:
    status = _add_control_command(commands, "status", "show what the appliance is doing")
    _add_json(status)
    sessions = _add_control_command(commands, "sessions", "list the sessions, the oldest first")
    _add_json(sessions)
    sessions.add_argument(
        "--limit",
        metavar="COUNT",
        type=_whole(1, LIMIT_MAX),
        default=LIMIT_DEFAULT,
        help=f"list so many at most (default: {LIMIT_DEFAULT}, not above {LIMIT_MAX})",
    )
    session = _add_control_command(commands, "session", "show all that is known of one session")
    _add_session(session)
    _add_json(session)
    top = _add_control_command(commands, "top", "watch the appliance; q ends it")
    top.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_seconds(INTERVAL_MIN, INTERVAL_MAX),
        default=INTERVAL_DEFAULT,
        help=f"look so often (default: {INTERVAL_DEFAULT:g})",
    )
    top.add_argument("--once", action="store_true", help="print one picture and end")


def _add_ordering_commands(commands: _Commands) -> None:
    drain = _add_control_command(commands, "drain", "take no new sessions; those there are go on")
    drain.add_argument(
        "--deadline",
        metavar="SECONDS",
        type=_seconds(0.0, 7 * 24 * 3600.0),
        help="end the sessions that are left by then, and tell the clients now (without it: never)",
    )
    drain.add_argument("--wait", action="store_true", help="return when no session is left")
    _add_control_command(commands, "undrain", "take new sessions again")
    end = _add_control_command(commands, "end", "end one session")
    _add_session(end)
    _add_control_command(commands, "reload", "have the appliance read its configuration again")
    _add_control_command(
        commands, "upgrade", "have the appliance go on as the version that is installed now"
    )


def _add_tools(commands: _Commands) -> None:
    ufrag = commands.add_parser("ufrag", help="tools for routed ufrags")
    tools = ufrag.add_subparsers(dest="tool", required=True, metavar="TOOL")
    inspect = tools.add_parser("inspect", help="say what a ufrag says (with this host's keys)")
    inspect.add_argument("token", metavar="TOKEN", help="a ufrag, or a USERNAME with both parts")
    inspect.add_argument("--config", metavar="FILE", type=Path, help=_lookup())
    completion = commands.add_parser("completion", help="print a shell's completions for edge")
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))
    commands.add_parser("version", help="print the version")


def _add_control_command(commands: _Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command that talks to the running appliance."""
    command = commands.add_parser(name, help=text)
    command.add_argument("--config", metavar="FILE", type=Path, help=_lookup())
    command.add_argument(
        "--socket",
        metavar="PATH",
        type=Path,
        help="the appliance's control socket (without it: where the configuration says, or "
        "/run/edge/control.sock)",
    )
    return command


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print everything, as JSON")


def _add_session(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "session",
        metavar="ID",
        type=_session_id,
        help="the session's id: edge sessions lists them",
    )


def _session_id(text: str) -> str:
    """The type of an argument: what may be a session's id."""
    if not 1 <= len(text) <= SESSION_ID_MAX:
        raise argparse.ArgumentTypeError(f"not an id: it has 1 to {SESSION_ID_MAX} characters")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise argparse.ArgumentTypeError("not an id: not UTF-8 text") from exc
    return text


def _lookup() -> str:
    return (
        f"configuration (without it: $EDGE_CONFIG, else {SYSTEM_CONFIG} if it is there, else the "
        "defaults)"
    )


def _seconds(least: float, most: float) -> Callable[[str], float]:
    """Return the type of an argument: a number within limits."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"not a number from {least:g} to {most:g}: {text}")
        return number

    return convert


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Return the type of an argument: a whole number within limits."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"not a whole number from {least} to {most}: {text}")
        return int(text)

    return convert
