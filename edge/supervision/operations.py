"""What the supervisor does for an operator: looks, asks workers, drains, ends.

Sessions are found by asking every transceiver worker, so it does not matter which generation or
version of workers a session belongs to.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, assert_never

import trio

from edge.control import messages
from edge.control.inspection import SessionDetails, SessionLine
from edge.control.status import Drain, DrainStatus, Status
from edge.operate.protocol import (
    Agreed,
    AskSession,
    AskSessions,
    AskStatus,
    OperatorError,
    OrderDrain,
    OrderEnd,
    OrderReload,
    OrderUndrain,
    OrderUpgrade,
    RefusalCode,
    Reply,
    Request,
    TheSession,
    TheSessions,
    TheStatus,
)
from edge.supervision.worker import SupervisedWorker

logger = logging.getLogger(__name__)

PAGES_MAX = 1000
"""Of one worker's list: it has fewer, but it might never say so."""
COLLECT_TIME = 5.0
"""Seconds for all pages: the command waits."""


class Plant(Protocol):
    """What operations work on: the supervisor."""

    @property
    def transceivers(self) -> Sequence[SupervisedWorker]:
        """All that run, those that only end their calls included."""

    def status(self) -> Status: ...

    @property
    def drain(self) -> Drain | None:
        """The drain that is in force. Its deadline is kept here."""

    async def set_drain(self, drain: Drain | None) -> None:
        """Have all transceivers, and those that come, take new sessions or none.

        Clients of sessions that there are hear of the deadline.
        """

    async def end_sessions(self) -> None:
        """End all sessions there are."""

    def refuse_at_end(self) -> None:
        """Refuse what is of no use to a service that stops. Raises OperatorError."""

    async def reload(self) -> str:
        """Ask for a reload; return what to tell. Raises OperatorError."""

    async def upgrade(self) -> str:
        """Ask for an upgrade; return what to tell. Raises OperatorError."""


class Operations:
    """Carries out requests, one at a time or several at once."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._drain_changed = trio.Event()

    async def answer(self, request: Request) -> Reply:
        """Carry out a request. Raises OperatorError."""
        match request:
            case AskStatus():
                return TheStatus(status=self._plant.status())
            case AskSessions(limit=limit):
                return await self._list(limit)
            case AskSession(session=session):
                return TheSession(session=await self._describe(session))
            case OrderEnd(session=session):
                return await self._end(session)
            case OrderDrain(deadline=deadline):
                self._plant.refuse_at_end()
                return await self._start_drain(deadline)
            case OrderUndrain():
                self._plant.refuse_at_end()
                return await self._stop_drain()
            case OrderReload():
                return Agreed(message=await self._plant.reload())
            case OrderUpgrade():
                return Agreed(message=await self._plant.upgrade())
            case _:
                assert_never(request)

    def drain_status(self) -> DrainStatus | None:
        """Return the state of the drain; None: there is none."""
        drain = self._plant.drain
        if drain is None:
            return None
        now = time.monotonic()
        left = None if drain.ends_at is None else max(drain.ends_at - now, 0.0)
        return DrainStatus(since=now - drain.since, deadline=left)

    async def keep_deadlines(self) -> None:
        """End the sessions that are left when a drain's time is over."""
        while True:
            drain = self._plant.drain
            left = math.inf
            if drain is not None and drain.ends_at is not None:
                left = drain.ends_at - time.monotonic()
            with trio.move_on_after(max(left, 0.0)):
                await self._drain_changed.wait()
                self._drain_changed = trio.Event()
                continue
            assert drain is not None  # else its time would not be over
            logger.info("drain: time is over: ending all sessions")
            await self._plant.end_sessions()
            if self._plant.drain is drain:  # first: clients are not told that they may stay
                await self._plant.set_drain(Drain(since=drain.since))

    async def _start_drain(self, deadline: float | None) -> Agreed:
        now = time.monotonic()
        before = self._plant.drain
        drain = Drain(
            since=now if before is None else before.since,
            ends_at=None if deadline is None else now + deadline,
        )
        await self._plant.set_drain(drain)
        self._drain_changed.set()
        lines, silent = await self._collect(self._workers(), math.inf)
        text = f"draining: no new sessions; {len(lines)} left"
        if silent:
            text += f", and those of {', '.join(silent)}, which did not answer"
        return Agreed(
            message=text if deadline is None else f"{text}, to be ended in {deadline:g} s"
        )

    async def _stop_drain(self) -> Agreed:
        if self._plant.drain is None:
            return Agreed(message="nothing was draining")
        await self._plant.set_drain(None)
        self._drain_changed.set()
        return Agreed(message="taking new sessions again")

    async def _list(self, limit: int) -> TheSessions:
        workers = self._workers()
        lines, silent = await self._collect(workers, limit)
        total = max(sum(one.sessions for one in workers), len(lines))
        lines.sort(key=lambda line: -line.age)
        return TheSessions(sessions=lines[:limit], total=total, silent=silent)

    async def _collect(
        self, workers: Sequence[SupervisedWorker], limit: float
    ) -> tuple[list[SessionLine], list[str]]:
        """Have each worker tell of its sessions, until there are ``limit`` of it, or a few more.

        Return also the names of those that did not tell of all in time.
        """
        lines: list[SessionLine] = []
        silent: list[str] = []
        until = time.monotonic() + COLLECT_TIME

        async def collect(worker: SupervisedWorker) -> None:
            after, found = 0, 0
            for _ in range(PAGES_MAX):
                page = await worker.ask(partial(_next_page, after))
                if not isinstance(page, messages.SessionPage):
                    silent.append(worker.name)
                    return
                lines.extend(page.sessions)
                found += len(page.sessions)
                if not page.sessions or found >= limit:
                    return
                if time.monotonic() > until:
                    silent.append(worker.name)
                    return
                after = page.last

        await _all_of(workers, collect)
        return lines, sorted(silent)

    async def _describe(self, session: str) -> SessionDetails:
        found: list[SessionDetails] = []

        def question(number: int) -> messages.Question:
            return messages.DescribeSession(number, session)

        def take(answer: messages.Answer) -> None:
            if isinstance(answer, messages.SessionFound) and answer.session is not None:
                found.append(answer.session)

        silent = await self._ask_all(question, take)
        if not found:
            raise _not_found(session, silent)
        return found[0]

    async def _end(self, session: str) -> Agreed:
        found: list[str] = []

        def question(number: int) -> messages.Question:
            return messages.EndSession(number, session)

        def take(answer: messages.Answer) -> None:
            if isinstance(answer, messages.SessionEnded) and answer.found:
                found.append(session)

        silent = await self._ask_all(question, take)
        if not found:
            raise _not_found(session, silent)
        return Agreed(message=f"session {session} has ended")

    async def _ask_all(
        self,
        question: Callable[[int], messages.Question],
        take: Callable[[messages.Answer], None],
    ) -> list[str]:
        """Ask all transceivers at once; return the names of those that do not answer."""
        silent: list[str] = []

        async def ask(worker: SupervisedWorker) -> None:
            answer = await worker.ask(question)
            if answer is None:
                silent.append(worker.name)
            else:
                take(answer)

        await _all_of(self._workers(), ask)
        return sorted(silent)

    def _workers(self) -> list[SupervisedWorker]:
        """Return those that may have sessions."""
        return [one for one in self._plant.transceivers if one.is_up]


async def _all_of(workers: Sequence[SupervisedWorker], task: "_Task") -> None:
    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(task, worker)


class _Task(Protocol):
    async def __call__(self, worker: SupervisedWorker, /) -> None: ...


def _next_page(after: int, number: int) -> messages.Question:
    return messages.ListSessions(number, after)


def _not_found(session: str, silent: Sequence[str]) -> OperatorError:
    if silent:
        names = ", ".join(silent)
        text = f"session {session} was not found, and {names} did not answer: try again"
        return OperatorError(RefusalCode.TIMEOUT, text)
    text = f"there is no session {session}: edge sessions lists them"
    return OperatorError(RefusalCode.UNKNOWN_SESSION, text)
