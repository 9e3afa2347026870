"""The frame around every worker process: birth, control channel, heartbeat, end.

A worker is a child of the forkserver. It ignores SIGINT, SIGTERM and SIGHUP, which reach it when
they are sent to the whole process group: the supervisor decides. It dies with its parent even
if its loop hangs, answers heartbeats from its own Trio loop so that an answer proves the loop
alive, and leaves when the supervisor's end of the control channel closes.
"""

import contextlib
import ctypes
import faulthandler
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable
from typing import Protocol

import trio
from attrs import frozen

from edge import logs
from edge.control import messages
from edge.control.statistics import ProcessCounts, WorkerStatistics
from edge.errors import BootError

logger = logging.getLogger(__name__)

EX_OK = 0
EX_SOFTWARE = 70
EX_CONFIG = 78

_PR_SET_PDEATHSIG = 1


class Worker(Protocol):
    """What runs inside the frame."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; report started once able to. Raises BootError before that."""

    def statistics(self) -> WorkerStatistics: ...

    def obey(self, order: messages.Order) -> None:
        """Change what can be changed while running."""

    def answer(self, question: messages.Question) -> messages.Answer:
        """Tell of sessions; for transceivers."""

    async def drain(self, grace: float) -> None:
        """Take nothing new; return when nothing runs any more, after ``grace`` seconds at most."""


@frozen
class Frame:
    """What every worker is given, beside its own settings."""

    name: str
    """For logs, such as ``relay-0``."""
    control: socket.socket
    log_level: str
    journal: bool
    """Standard error is the systemd journal."""
    restarted: bool = False
    """It has been ready before: what it does not strictly need, it should do without."""


def run_worker(frame: Frame, create: Callable[[], Worker]) -> None:
    """Be a worker process until told to stop; the process's exit status tells how it went."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.enable()
    logs.configure(frame.log_level, frame.name, journal=frame.journal)
    try:
        status = trio.run(_supervised, frame, create)
    finally:
        logs.flush()
    raise SystemExit(status)


async def _supervised(frame: Frame, create: Callable[[], Worker]) -> int:
    frame.control.setblocking(False)  # noqa: FBT003 - the standard library's signature
    channel = trio.socket.from_stdlib_socket(frame.control)
    status = EX_OK
    failures: list[str] = []
    try:
        worker = create()
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            gc.collect()
            gc.freeze()
            await channel.send(messages.encode_message(messages.Ready()))
            await _obey(channel, worker)
            nursery.cancel_scope.cancel()
    except* BootError as group:
        status = EX_CONFIG
        failures += (str(error) for error in leaves(group))
    except* Exception:
        status = EX_SOFTWARE
        logger.exception("worker crashed")
    if failures:
        with contextlib.suppress(OSError):
            await channel.send(messages.encode_message(messages.BootFailed("; ".join(failures))))
    return status


async def _obey(channel: trio.socket.SocketType, worker: Worker) -> None:
    """Answer the supervisor until it says stop, or is gone."""
    while True:
        try:
            data = await channel.recv(messages.MESSAGE_BYTES_MAX)
        except ConnectionError:
            data = b""
        if not data:
            logger.warning("the supervisor is gone: ending")
            return
        message = messages.decode_to_worker(data)
        match message:
            case messages.Ping(sequence):
                logs.report_suppressed()
                pong = messages.Pong(sequence, worker.statistics())
                try:
                    await channel.send(messages.encode_message(pong))
                except ConnectionError:
                    continue  # the next receive tells that it is gone
            case messages.Stop(grace):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_obey_until_over, channel, worker, nursery.cancel_scope)
                    await worker.drain(grace)
                    nursery.cancel_scope.cancel()
                return
            case messages.ListSessions() | messages.DescribeSession() | messages.EndSession():
                with contextlib.suppress(ConnectionError):
                    await channel.send(messages.encode_message(worker.answer(message)))
            case None:
                pass  # a supervisor of a later version asks for what this one does not know
            case order:
                if isinstance(order, messages.LogAs):
                    logging.getLogger().setLevel(order.level.upper())
                else:
                    worker.obey(order)
                with contextlib.suppress(ConnectionError):
                    await channel.send(messages.encode_message(messages.Done(order.sequence)))


async def _obey_until_over(
    channel: trio.socket.SocketType, worker: Worker, drain: trio.CancelScope
) -> None:
    """Obey while the worker drains. It drains no longer if it is stopped, or the supervisor is."""
    await _obey(channel, worker)
    drain.cancel()


def consumption() -> ProcessCounts:
    """Return what this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return ProcessCounts(
        cpu=used.ru_utime + used.ru_stime, resident_max_bytes=used.ru_maxrss * 1024
    )


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the exceptions inside a group of groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
