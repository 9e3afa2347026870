"""The commands that talk to the running appliance over its control socket."""

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import msgspec

from edge import __version__
from edge.commands.output import OutputError, say
from edge.commands.places import control_sockets
from edge.control.status import Status
from edge.operate.client import REPLY_TIME, AwayError, Connection, ControlError
from edge.operate.protocol import (
    Agreed,
    AskSession,
    AskSessions,
    AskStatus,
    OrderDrain,
    OrderEnd,
    OrderReload,
    OrderUndrain,
    OrderUpgrade,
    Reply,
    Request,
    TheSession,
    TheSessions,
    TheStatus,
)
from edge.operate.session_text import render_session, render_sessions
from edge.operate.status_text import render_status

WAIT_INTERVAL = 1.0
AWAY_TIME = 30.0
"""Seconds that nobody may answer while an upgrade is under way."""
RELOAD_TIME = 55.0
"""Seconds: new workers are waited for, but not longer than the service manager waits for us."""
UPGRADE_TIME = 300.0
"""Seconds: a change that is under way ends first, and then the new version is looked at. Whoever
installs a package must not take a slow answer for a refusal."""

Environment = Mapping[str, str]
_Shown = TypeVar("_Shown")


def status(arguments: argparse.Namespace, environment: Environment) -> int:
    with connect(arguments, environment) as connection:
        found = ask_status(connection)
    render = partial(render_status, installed=__version__)
    return _show(found.status, render, as_json=arguments.json)


def sessions(arguments: argparse.Namespace, environment: Environment) -> int:
    with connect(arguments, environment) as connection:
        listed = _ask_sessions(connection, arguments.limit)
    return _show(listed, render_sessions, as_json=arguments.json)


def session(arguments: argparse.Namespace, environment: Environment) -> int:
    with connect(arguments, environment) as connection:
        found = connection.ask(AskSession(session=arguments.session))
    if not isinstance(found, TheSession):
        raise _unexpected(found)
    return _show(found.session, render_session, as_json=arguments.json)


def top(arguments: argparse.Namespace, environment: Environment) -> int:
    from edge.operate.top import watch  # noqa: PLC0415 - the other commands draw nothing

    with contextlib.closing(_Source(arguments, environment)) as source:
        try:
            watch(source.look, interval=arguments.interval, once=arguments.once)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputError(exc.strerror or str(exc)) from exc
    return os.EX_OK


def drain(arguments: argparse.Namespace, environment: Environment) -> int:
    _order_once(OrderDrain(deadline=arguments.deadline), arguments, environment)
    if arguments.wait:
        with contextlib.closing(_Source(arguments, environment)) as source:
            _wait_drained(source)
        say("no session is left\n")
    return os.EX_OK


def undrain(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderUndrain(), arguments, environment)


def end(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderEnd(session=arguments.session), arguments, environment)


def reload(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderReload(), arguments, environment, RELOAD_TIME)


def upgrade(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderUpgrade(), arguments, environment, UPGRADE_TIME)


def connect(
    arguments: argparse.Namespace, environment: Environment, reply_time: float = REPLY_TIME
) -> Connection:
    """Raises ConfigError, ControlError."""
    places = control_sockets(arguments.socket, arguments.config, environment)
    return Connection(places, reply_time=reply_time)


def ask_status(connection: Connection) -> TheStatus:
    """Raises ControlError."""
    found = connection.ask(AskStatus())
    if not isinstance(found, TheStatus):
        raise _unexpected(found)
    return found


def _ask_sessions(connection: Connection, limit: int) -> TheSessions:
    """Raises ControlError."""
    listed = connection.ask(AskSessions(limit=limit))
    if not isinstance(listed, TheSessions):
        raise _unexpected(listed)
    return listed


def _wait_drained(source: "_Source") -> None:
    """Return when no session is left. An upgrade may come in between.

    The workers themselves are asked: figures of heartbeats are older than the order.

    Raises:
        ControlError: the drain does not go on, or the appliance does not come back.

    """
    heard_at = time.monotonic()
    while True:
        try:
            if source.look().drain is None:
                raise ControlError("the drain is over: new sessions are taken", os.EX_TEMPFAIL)
            if source.is_empty():
                return
            heard_at = time.monotonic()
        except AwayError:
            if time.monotonic() - heard_at > AWAY_TIME:
                raise
        time.sleep(WAIT_INTERVAL)


class _Source:
    """Asks again and again, over connections that may be lost."""

    def __init__(self, arguments: argparse.Namespace, environment: Environment) -> None:
        self._connect = partial(connect, arguments, environment)
        self._connection: Connection | None = None

    def look(self) -> Status:
        """Raises ConfigError, ControlError; then the next call connects anew."""
        return self._ask(ask_status).status

    def is_empty(self) -> bool:
        """Whether all workers say that they have no session. Raises as ``look``."""
        listed = self._ask(partial(_ask_sessions, limit=1))
        return not listed.sessions and not listed.silent

    def _ask(self, ask: Callable[[Connection], _Shown]) -> _Shown:
        if self._connection is None:
            self._connection = self._connect()
        try:
            return ask(self._connection)
        except ControlError:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _order_once(
    order: Request,
    arguments: argparse.Namespace,
    environment: Environment,
    reply_time: float = REPLY_TIME,
) -> int:
    with connect(arguments, environment, reply_time) as connection:
        _order(connection, order)
    return os.EX_OK


def _order(connection: Connection, order: Request) -> None:
    agreed = connection.ask(order)
    if not isinstance(agreed, Agreed):
        raise _unexpected(agreed)
    say(f"{agreed.message}\n")


def _show(shown: _Shown, render: Callable[[_Shown], str], *, as_json: bool) -> int:
    text = f"{msgspec.json.encode(shown).decode()}\n" if as_json else render(shown)
    say(text)
    return os.EX_OK


def _unexpected(reply: Reply) -> ControlError:
    text = f"what answers is not this version of edge: it says {type(reply).__name__}"
    return ControlError(text, os.EX_PROTOCOL)
