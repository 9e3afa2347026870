"""The commands that talk to the running appliance over its control socket."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import msgspec

from edge.commands.places import control_sockets
from edge.control.status import Status
from edge.operate.client import REPLY_TIME, Connection, ControlError
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
from edge.operate.status_text import render_status, transceivers

WAIT_INTERVAL = 1.0
RELOAD_TIME = 55.0
"""Seconds: new workers are waited for, but not longer than the service manager waits for us."""

Environment = Mapping[str, str]
_Shown = TypeVar("_Shown")


def status(arguments: argparse.Namespace, environment: Environment) -> int:
    with connect(arguments, environment) as connection:
        found = ask_status(connection)
    return _show(found.status, render_status, as_json=arguments.json)


def sessions(arguments: argparse.Namespace, environment: Environment) -> int:
    with connect(arguments, environment) as connection:
        listed = connection.ask(AskSessions(limit=arguments.limit))
    if not isinstance(listed, TheSessions):
        raise _unexpected(listed)
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
        watch(source.look, interval=arguments.interval, once=arguments.once)
    return os.EX_OK


def drain(arguments: argparse.Namespace, environment: Environment) -> int:
    with connect(arguments, environment) as connection:
        _order(connection, OrderDrain(deadline=arguments.deadline))
        while arguments.wait:
            if not sum(each.sessions for each in transceivers(ask_status(connection).status)):
                sys.stdout.write("no session is left\n")
                break
            time.sleep(WAIT_INTERVAL)
    return os.EX_OK


def undrain(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderUndrain(), arguments, environment)


def end(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderEnd(session=arguments.session), arguments, environment)


def reload(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderReload(), arguments, environment, RELOAD_TIME)


def upgrade(arguments: argparse.Namespace, environment: Environment) -> int:
    return _order_once(OrderUpgrade(), arguments, environment)


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


class _Source:
    """The status again and again, over connections that may be lost."""

    def __init__(self, arguments: argparse.Namespace, environment: Environment) -> None:
        self._connect = partial(connect, arguments, environment)
        self._connection: Connection | None = None

    def look(self) -> Status:
        """Raises ConfigError, ControlError; then the next call connects anew."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            return ask_status(self._connection).status
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
    sys.stdout.write(f"{agreed.message}\n")


def _show(shown: _Shown, render: Callable[[_Shown], str], *, as_json: bool) -> int:
    text = f"{msgspec.json.encode(shown).decode()}\n" if as_json else render(shown)
    sys.stdout.write(text)
    return os.EX_OK


def _unexpected(reply: Reply) -> ControlError:
    text = f"what answers is not this version of edge: it says {type(reply).__name__}"
    return ControlError(text, os.EX_PROTOCOL)
