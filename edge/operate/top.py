"""``edge top``: the appliance on a terminal, drawn again and again until q is pressed."""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.control.status import Status
from edge.operate.client import ControlError
from edge.operate.rates import Rates, WorkerRates, compare
from edge.operate.status_text import session_room, span, transceivers, worker_name

DROPS_SHOWN = 10
ON_TIME_GOOD = 0.99
_QUIT = frozenset("qQ\x03")
_HUNG_UP = "\x03"
"""What a terminal that has gone away is taken to have said."""
_HINT = "q ends"

Look = Callable[[], Status]
"""Raises ControlError."""


def watch(look: Look, *, interval: float, once: bool) -> None:
    """Show what ``look`` sees, every ``interval`` seconds until q or ctrl-c, or ``once``.

    Without a terminal that can be drawn on it is once.

    Raises:
        ControlError: the first look failed. Later ones may: edge may be restarted meanwhile.

    """
    console = Console()
    draw = partial(picture_of, folds=not console.encoding.startswith("utf"))
    before, looked_at = look(), time.monotonic()
    if once or not console.is_terminal or console.is_dumb_terminal:
        time.sleep(interval)
        console.print(draw(compare(before, look(), time.monotonic() - looked_at)))
        return
    picture = draw(compare(None, before, interval), _HINT)
    with (
        _keys() as pressed,
        Live(picture, console=console, screen=True, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while pressed(interval) not in _QUIT:
            try:
                status, now = look(), time.monotonic()
            except ControlError as exc:
                live.update(Group(Text(str(exc), style="bold red"), picture), refresh=True)
                continue
            picture = draw(compare(before, status, now - looked_at), _HINT)
            before, looked_at = status, now
            live.update(picture, refresh=True)


def picture_of(rates: Rates, hint: str = "", *, folds: bool) -> RenderableType:
    """Return the picture, with a hint at what can be done.

    What does not fit into a column ends with "…" there, or goes on below if it ``folds``: not every
    terminal has that character.
    """
    parts: list[RenderableType] = [*_headlines(rates, hint), "", _workers(rates, folds=folds)]
    if rates.drops:
        parts += ["", _drops(rates, folds=folds)]
    return Group(*parts)


def _headlines(rates: Rates, hint: str) -> Iterator[RenderableType]:
    status = rates.status
    known = transceivers(status)
    sessions = sum(each.sessions for each in known)
    room = session_room(status)
    on_time = min((each.placement.on_time_ratio for each in known), default=1.0)
    yield Text.assemble(
        (f"edge {status.version}", "bold"), f"   up {span(status.uptime)}", (f"   {hint}", "dim")
    )
    yield Text.assemble(
        "sessions ",
        (f"{sessions}", "bold"),
        f" of {room}   opened {_rate(rates.opened)}   ended {_rate(rates.ended)}   on time ",
        (f"{on_time:.2%}", _judge(on_time)),
        f"   drops {_rate(sum(rates.drops.values()))}",
    )
    if (drain := status.drain) is not None:
        left = "" if drain.deadline is None else f", sessions are ended in {span(drain.deadline)}"
        yield Text(f"draining: no new sessions{left}", style="bold yellow")


def _workers(rates: Rates, *, folds: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("worker", "state"):
        _add_column(table, name, "left", folds=folds)
    for name in ("died", "sessions", "on time", "late", "in", "out", "drops"):
        _add_column(table, name, "right", folds=folds)
    for each in rates.workers:
        table.add_row(*_row(each))
    return table


def _row(rates: WorkerRates) -> Iterator[RenderableType]:
    worker = rates.worker
    yield worker_name(worker)
    yield Text(worker.state, style="" if worker.state == "running" else "yellow")
    yield Text(str(worker.restarts), style="red" if worker.restarts else "")
    yield "" if rates.sessions is None else f"{rates.sessions}/{rates.sessions_max}"
    on_time = rates.on_time_ratio
    yield "" if on_time is None else Text(f"{on_time:.2%}", style=_judge(on_time))
    yield _lateness(rates.lateness)
    yield _rate(rates.packets_in)
    yield _rate(rates.packets_out)
    yield _rate(sum(rates.drops.values()))


def _lateness(bound: str | None) -> str:
    if bound is None:
        return ""
    return f"<={bound} ms" if bound[0].isdigit() else bound


def _add_column(table: Table, name: str, justify: Literal["left", "right"], *, folds: bool) -> None:
    overflow: Literal["fold", "ellipsis"] = "fold" if folds else "ellipsis"
    table.add_column(name, justify=justify, no_wrap=not folds, overflow=overflow)


def _drops(rates: Rates, *, folds: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    _add_column(table, "dropped packets, by reason", "left", folds=folds)
    _add_column(table, "", "right", folds=folds)
    ranking = sorted(rates.drops.items(), key=lambda item: -item[1])
    for reason, rate in ranking[:DROPS_SHOWN]:
        table.add_row(reason, _rate(rate))
    if len(ranking) > DROPS_SHOWN:
        table.add_row(f"and {len(ranking) - DROPS_SHOWN} other reasons", "")
    return table


def _rate(rate: float | None) -> str:
    if rate is None:
        return ""
    if rate >= 10_000:
        return f"{rate / 1000:.0f}k/s"
    return f"{rate:.0f}/s" if rate >= 10 or rate == 0 else f"{rate:.1f}/s"


def _judge(on_time: float) -> str:
    return "green" if on_time >= ON_TIME_GOOD else "bold red"


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Take keys as they are pressed; yield what waits for one, for some seconds at most."""
    if not sys.stdin.isatty():
        yield _wait_only
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([keyboard], [], [], seconds)
        if not ready:
            return ""
        return os.read(keyboard, 1).decode(errors="replace") or _HUNG_UP

    try:
        tty.setcbreak(keyboard)
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _wait_only(seconds: float) -> str:
    time.sleep(seconds)
    return ""
