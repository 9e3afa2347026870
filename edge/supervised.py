"""One worker process as the supervisor sees it: started, watched, restarted, stopped."""

import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from edge import control, logs, process
from edge.errors import BootError
from edge.lifecycle import RestartPolicy

logger = logging.getLogger(__name__)

DUMP_TIME = 1.0
"""How long a hung worker gets to print its stack before it is killed."""


class SupervisedWorker:
    """Keeps one worker alive until it is told to stop."""

    def __init__(
        self,
        kind: control.WorkerKind,
        index: int,
        target: Callable[[process.Frame, Any], None],
        settings: object,
        *,
        log_level: str,
        policy: RestartPolicy,
        heartbeat_interval: float,
        heartbeat_limit: float,
        boot_timeout: float,
    ) -> None:
        self.name = f"{kind}-{index}"
        self.ready = trio.Event()
        """Set when the worker has been ready for the first time."""
        self.ended = trio.Event()
        """Set when the worker has ended and will not come back."""
        self._kind = kind
        self._index = index
        self._target = target
        self._settings = settings
        self._log_level = log_level
        self._policy = policy
        self._heartbeat_interval = heartbeat_interval
        self._heartbeat_limit = heartbeat_limit
        self._boot_timeout = boot_timeout
        self._context = multiprocessing.get_context("forkserver")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._channel: trio.socket.SocketType | None = None
        self._state = "starting"
        self._stop_asked = trio.Event()
        self._up = trio.Event()
        self._boot_message: str | None = None
        self._answered_at = 0.0
        self._awaited: dict[int, trio.Event] = {}
        self._statistics: control.WorkerStatistics | None = None

    async def keep(self) -> None:
        """Run the worker, again and again, until ``stop``.

        Raises:
            BootError: it cannot start, and trying again would not help.

        """
        while not self._stop_asked.is_set():
            status = await self._run_once()
            if self._stop_asked.is_set():
                break
            if status == process.EX_CONFIG or not self.ready.is_set():
                reason = self._boot_message or f"it ended with status {status} before it was ready"
                raise BootError(f"worker {self.name} cannot start: {reason}")
            delay = self._policy.next_delay(trio.current_time())
            logger.error(
                "worker %s ended with status %s; starting it again in %.1f s",
                self.name,
                status,
                delay,
            )
            self._state = "backing-off"
            with trio.move_on_after(delay):
                await self._stop_asked.wait()
        self._state = "stopped"
        self.ended.set()

    async def stop(self, grace: float) -> None:
        """Ask the worker to end within ``grace`` seconds, once or again with less."""
        self._stop_asked.set()
        if self._channel is not None and self._process is not None:
            self._state = "stopping"
            await self._send(control.Stop(grace))

    async def change(self, settings: object, order: control.Order) -> None:
        """Run on with ``settings``: tell the worker by ``order``, and give them to its successors.

        Returns when the worker has obeyed, or will start with the new settings anyway.
        """
        self._settings = settings
        if self._channel is None:
            return
        done = self._awaited[order.sequence] = trio.Event()
        await self._send(order)
        with trio.move_on_after(self._heartbeat_limit):  # then the heartbeat has noticed, too
            await done.wait()
        self._awaited.pop(order.sequence, None)

    def kill(self) -> None:
        """End the process at once."""
        self._stop_asked.set()
        self._signal(signal.SIGKILL)

    @property
    def sessions(self) -> int:
        """Sessions at the latest heartbeat; 0 for a relay."""
        known = self._statistics
        return known.sessions if isinstance(known, control.TransceiverStatistics) else 0

    def is_attended(self) -> bool:
        """Whether it answers, or what follows when it does not is under way."""
        silence = trio.current_time() - self._answered_at
        return self._state != "running" or silence <= self._heartbeat_limit + 2 * DUMP_TIME

    def status(self) -> control.WorkerStatus:
        return control.WorkerStatus(
            kind=self._kind,
            index=self._index,
            pid=self._process.pid if self._process is not None else None,
            state=self._state,
            restarts=self._policy.restarts,
            statistics=self._statistics,
        )

    async def _run_once(self) -> int:
        """Start the process and return its exit status when it has ended."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
        frame = process.Frame(self.name, theirs, self._log_level, logs.journal_in_use())
        settings = self._settings
        child = self._context.Process(
            target=self._target, args=(frame, settings), name=self.name, daemon=True
        )
        self._state = "starting"
        self._up = trio.Event()
        # In a thread: the first start waits for the forkserver to import the workers' modules.
        try:
            await trio.to_thread.run_sync(child.start)
        except (OSError, EOFError) as exc:  # the forkserver was killed; the next start makes one
            logger.error("cannot fork worker %s: %s", self.name, exc)  # noqa: TRY400
            ours.close()
            return process.EX_SOFTWARE
        finally:
            theirs.close()
        self._process = child
        self._channel = trio.socket.from_stdlib_socket(ours)
        self._policy.note_started(trio.current_time())
        if self._stop_asked.is_set() or self._settings is not settings:
            self._signal(signal.SIGKILL)  # overtaken while it started
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                nursery.start_soon(self._watch_heartbeat)
                await trio.lowlevel.wait_readable(child.sentinel)
                nursery.cancel_scope.cancel()
            self._read_last_words(ours)
        finally:
            self._signal(signal.SIGKILL)
            child.join()
            status = child.exitcode
            self._process = None
            self._channel = None
            for awaited in self._awaited.values():
                awaited.set()
            self._awaited.clear()
            ours.close()
            child.close()
        return status if status is not None else process.EX_SOFTWARE

    async def _listen(self) -> None:
        assert self._channel is not None
        while True:
            try:
                data = await self._channel.recv(control.MESSAGE_BYTES_MAX)
            except ConnectionError:
                return
            if not data:
                return
            self._take_message(control.decode_from_worker(data))

    def _read_last_words(self, channel: socket.socket) -> None:
        """Read what the worker wrote just before it ended."""
        with suppress(OSError):
            while data := channel.recv(control.MESSAGE_BYTES_MAX):
                self._take_message(control.decode_from_worker(data))

    def _take_message(self, message: control.FromWorker) -> None:
        match message:
            case control.Ready():
                self._answered_at = trio.current_time()
                if not self._stop_asked.is_set():
                    self._state = "running"
                if self.ready.is_set():
                    logger.info("worker %s is back", self.name)
                self.ready.set()
                self._up.set()
            case control.Pong(_, statistics):
                self._answered_at = trio.current_time()
                self._statistics = statistics
            case control.Done(sequence):
                if (awaited := self._awaited.pop(sequence, None)) is not None:
                    awaited.set()
            case control.BootFailed(text):
                self._boot_message = text

    async def _watch_heartbeat(self) -> None:
        """Ask for signs of life; end a worker that gives none."""
        with trio.move_on_after(self._boot_timeout):
            await self._up.wait()
        sequence = 0
        silence = trio.current_time() - self._answered_at
        while self._up.is_set() and silence <= self._heartbeat_limit:
            sequence += 1
            await self._send(control.Ping(sequence))
            await trio.sleep(self._heartbeat_interval)
            silence = trio.current_time() - self._answered_at
        logger.error("worker %s does not answer: ending it", self.name)
        self._signal(signal.SIGABRT)  # faulthandler prints where it hangs
        await trio.sleep(DUMP_TIME)
        self._signal(signal.SIGKILL)

    async def _send(self, message: control.ToWorker) -> None:
        """Send without ever waiting on a worker that does not read."""
        assert self._channel is not None
        with suppress(OSError), trio.move_on_after(self._heartbeat_interval):
            await self._channel.send(control.encode_message(message))

    def _signal(self, number: signal.Signals) -> None:
        child = self._process
        if child is not None and child.pid is not None and child.is_alive():
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)
