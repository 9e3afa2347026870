"""One worker process as the supervisor sees it: started, watched, restarted, stopped."""

import itertools
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from attrs import define, field, frozen

from edge import logs, process
from edge.control import messages
from edge.control.statistics import TransceiverStatistics, WorkerStatistics
from edge.control.status import WorkerKind, WorkerStatus
from edge.errors import BootError, TransientBootError
from edge.supervision.offspring import Offspring, Started
from edge.supervision.restarts import RestartPolicy

logger = logging.getLogger(__name__)

DUMP_TIME = 1.0
"""How long a hung worker gets to print its stack before it is killed."""


ANSWER_TIME = 2.0
"""How long a worker may take to answer an operator's question."""


@define(eq=False)
class _Asked:
    """A question that waits for its answer."""

    over: trio.Event = field(factory=trio.Event)
    answer: messages.Answer | None = None


@frozen
class Watch:
    """How closely workers are watched. Seconds, as the configuration has them."""

    heartbeat_interval: float
    heartbeat_limit: float
    boot_timeout: float


class SupervisedWorker:
    """Keeps one worker alive until it is told to stop, or to leave.

    ``watch``, ``policy`` and ``log_level`` may be changed at any time.
    """

    def __init__(
        self,
        kind: WorkerKind,
        index: int,
        target: Callable[[process.Frame, Any], None],
        settings: object,
        *,
        log_level: str,
        policy: RestartPolicy,
        watch: Watch,
    ) -> None:
        self.name = f"{kind}-{index}"
        self._fields = {"worker": self.name}
        self.ready = trio.Event()
        """Set when the worker has been ready for the first time."""
        self.ended = trio.Event()
        """Set when the worker has ended and will not come back."""
        self.settled = trio.Event()
        """Set when it has been ready or has ended, whichever came first."""
        self.failure: BootError | None = None
        """Why it has ended without having been ready."""
        self.kind = kind
        self.index = index
        self.log_level = log_level
        self.policy = policy
        self.watch = watch
        self._target = target
        self._settings = settings
        self._context = multiprocessing.get_context("forkserver")
        self._inherited: tuple[Offspring, socket.socket] | None = None
        self._process: Offspring | None = None
        self._channel: trio.socket.SocketType | None = None
        self._state = "starting"
        self._stop_asked = trio.Event()
        self._up = trio.Event()
        self._boot_message: str | None = None
        self._answered_at = 0.0
        self._awaited: dict[int, trio.Event] = {}
        self._sequences = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._statistics: WorkerStatistics | None = None

    async def keep(self) -> None:
        """Run the worker, again and again, until ``stop``.

        One that cannot even start for the first time has ended, with a ``failure``. One that
        cannot start any more is tried again, as what keeps it from it may be mended: the other
        workers have calls.
        """
        while self._inherited is not None or not self._stop_asked.is_set():
            status = await self._run_once()
            if self._stop_asked.is_set():
                break
            if status is None:
                continue
            if not self.ready.is_set():
                self.failure = self._explain(status)
                break
            how = f"ended with status {status}"
            if status == process.EX_CONFIG and self._boot_message is not None:
                how = f"cannot start: {self._boot_message}"
            delay = self.policy.next_delay(trio.current_time())
            logger.error(
                "worker %s %s; starting it again in %.1f s",
                self.name,
                how,
                delay,
                extra=self._fields,
            )
            self._state = "backing-off"
            with trio.move_on_after(delay):
                await self._stop_asked.wait()
        self._state = "stopped"
        self.ended.set()
        self.settled.set()

    def inherit(self, worker: Offspring, channel: socket.socket) -> None:
        """Have ``keep`` begin with a process that runs already, and is ready.

        ``channel`` is our end of its control channel.
        """
        self._inherited = worker, channel
        self._state = "running"
        self.ready.set()
        self.settled.set()

    @property
    def process(self) -> Offspring | None:
        """The process; None while there is none."""
        return self._process

    @property
    def channel(self) -> int:
        """The descriptor of our end of the control channel of the process."""
        assert self._channel is not None  # there is a process
        return self._channel.fileno()

    @property
    def is_running(self) -> bool:
        """Whether it does its work."""
        return self._state == "running"

    async def stop(self, grace: float) -> None:
        """Ask the worker to end within ``grace`` seconds, once or again with less."""
        await self._end("stopping", grace)

    async def leave(self, grace: float) -> None:
        """Do the same to a worker that has handed over to another."""
        await self._end("leaving", grace)

    def note_stopping(self) -> None:
        """Do not start it again. ``stop`` is going to follow."""
        self._stop_asked.set()

    def note_leaving(self) -> None:
        """Our predecessor has asked the inherited process to leave."""
        self._stop_asked.set()
        self._state = "leaving"

    async def change(self, settings: object, order: messages.Order) -> None:
        """Run on with ``settings``: tell the worker by ``order``, and give them to its successors.

        Returns when the worker has obeyed, or will start with the new settings anyway.
        """
        self._settings = settings
        await self.tell(order)

    async def tell(self, order: messages.Order) -> None:
        """Give the worker an order, if it runs, and wait until it has obeyed."""
        if self._channel is None:
            return
        done = self._awaited[order.sequence] = trio.Event()
        await self._send(order)
        with trio.move_on_after(self.watch.heartbeat_limit):  # then the heartbeat notices, too
            await done.wait()
        self._awaited.pop(order.sequence, None)

    @property
    def is_up(self) -> bool:
        """Whether there is a process that has been ready."""
        return self._channel is not None and self._up.is_set()

    async def ask(self, question: Callable[[int], messages.Question]) -> messages.Answer | None:
        """Ask the worker something. None: there is none, or it does not answer in time.

        ``question`` is made of its sequence number.
        """
        if not self.is_up:
            return None
        sequence = next(self._sequences)
        asked = self._asked[sequence] = _Asked()
        await self._send(question(sequence))
        with trio.move_on_after(min(ANSWER_TIME, self.watch.heartbeat_limit)):
            await asked.over.wait()
        self._asked.pop(sequence, None)
        return asked.answer

    def kill(self) -> None:
        """End the process at once."""
        self._stop_asked.set()
        self._signal(signal.SIGKILL)

    @property
    def sessions(self) -> int:
        """Sessions at the latest heartbeat; 0 for a relay."""
        known = self._statistics
        return known.sessions if isinstance(known, TransceiverStatistics) else 0

    def is_attended(self) -> bool:
        """Whether it answers, or what follows when it does not is under way."""
        silence = trio.current_time() - self._answered_at
        return not self.is_running or silence <= self.watch.heartbeat_limit + 2 * DUMP_TIME

    def status(self) -> WorkerStatus:
        return WorkerStatus(
            kind=self.kind,
            index=self.index,
            pid=self._process.pid if self._process is not None else None,
            state=self._state,
            restarts=self.policy.restarts,
            statistics=self._statistics,
        )

    async def _end(self, state: str, grace: float) -> None:
        self._stop_asked.set()
        if self._channel is not None:
            self._state = state
            await self._send(messages.Stop(grace))

    def _explain(self, status: int) -> BootError:
        """Return why it was never ready. What it has said itself holds at the next start, too."""
        text = f"worker {self.name} cannot start: "
        if status == process.EX_CONFIG and self._boot_message is not None:
            return BootError(text + self._boot_message)
        return TransientBootError(f"{text}it ended with status {status} before it was ready")

    async def _run_once(self) -> int | None:
        """Have a process, and return its exit status when it has ended.

        None: what it was to be given has changed while it was forked.
        """
        settings, log_level = self._settings, self.log_level
        inherited, self._inherited = self._inherited, None
        found = inherited or await self._start(settings)
        if found is None:
            return process.EX_SOFTWARE
        is_overtaken = self._settings is not settings or self.log_level != log_level
        if inherited is None and (self._stop_asked.is_set() or is_overtaken):
            await _discard(*found)
            return None
        self._process, ours = found
        self._channel = trio.socket.from_stdlib_socket(ours)
        self._answered_at = trio.current_time()
        self.policy.note_started(trio.current_time())
        self._up = trio.Event()
        if inherited is not None:
            self._up.set()
        status = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                nursery.start_soon(self._watch_heartbeat)
                await trio.lowlevel.wait_readable(self._process.sentinel)
                nursery.cancel_scope.cancel()
            self._read_last_words(ours)
        finally:
            self._signal(signal.SIGKILL)
            status = self._process.reap()
            self._process = None
            self._channel = None
            for awaited in self._awaited.values():
                awaited.set()
            self._awaited.clear()
            for asked in self._asked.values():
                asked.over.set()
            self._asked.clear()
            ours.close()
        return status if status is not None else process.EX_SOFTWARE

    async def _start(self, settings: object) -> tuple[Offspring, socket.socket] | None:
        """Start a process; return it and our end of its control channel. None: no fork."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as exc:
            self._note_no_fork(exc)
            return None
        ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
        frame = process.Frame(
            self.name,
            theirs,
            self.log_level,
            logs.journal_in_use(),
            restarted=self.ready.is_set(),
        )
        child = self._context.Process(
            target=self._target, args=(frame, settings), name=self.name, daemon=True
        )
        self._state = "starting"
        self._boot_message = None
        # In a thread: the first start waits for the forkserver to import the workers' modules.
        try:
            await trio.to_thread.run_sync(child.start)
        except (OSError, EOFError) as exc:  # the forkserver was killed; the next start makes one
            self._note_no_fork(exc)
            ours.close()
            return None
        finally:
            theirs.close()
        return Started(child), ours

    def _note_no_fork(self, error: Exception) -> None:
        if not self._stop_asked.is_set():  # then what it was to be given is closed already
            logger.error("cannot fork worker %s: %s", self.name, error, extra=self._fields)

    async def _listen(self) -> None:
        assert self._channel is not None
        while True:
            try:
                data = await self._channel.recv(messages.MESSAGE_BYTES_MAX)
            except ConnectionError:
                return
            if not data:
                return
            self._take_message(messages.decode_from_worker(data))

    def _read_last_words(self, channel: socket.socket) -> None:
        """Read what the worker wrote just before it ended."""
        with suppress(OSError):
            while data := channel.recv(messages.MESSAGE_BYTES_MAX):
                self._take_message(messages.decode_from_worker(data))

    def _take_message(self, message: messages.FromWorker | None) -> None:
        match message:
            case None:  # what it says is of another version, but it speaks
                self._answered_at = trio.current_time()
            case messages.Ready():
                self._answered_at = trio.current_time()
                if not self._stop_asked.is_set():
                    self._state = "running"
                if self.ready.is_set():
                    logger.info("worker %s is back", self.name, extra=self._fields)
                self.ready.set()
                self.settled.set()
                self._up.set()
            case messages.Pong(_, statistics):
                self._answered_at = trio.current_time()
                self._statistics = statistics
            case messages.Done(sequence):
                if (awaited := self._awaited.pop(sequence, None)) is not None:
                    awaited.set()
            case messages.BootFailed(text):
                self._boot_message = text
            case messages.SessionPage() | messages.SessionFound() | messages.SessionEnded():
                if (asked := self._asked.pop(message.sequence, None)) is not None:
                    asked.answer = message
                    asked.over.set()

    async def _watch_heartbeat(self) -> None:
        """Ask for signs of life; end a worker that gives none."""
        with trio.move_on_after(self.watch.boot_timeout):
            await self._up.wait()
        sequence = 0
        silence = trio.current_time() - self._answered_at
        while self._up.is_set() and silence <= self.watch.heartbeat_limit:
            sequence += 1
            await self._send(messages.Ping(sequence))
            await trio.sleep(self.watch.heartbeat_interval)
            silence = trio.current_time() - self._answered_at
        logger.error("worker %s does not answer: ending it", self.name, extra=self._fields)
        self._signal(signal.SIGABRT)  # faulthandler prints where it hangs
        self._signal(signal.SIGCONT)  # even if it was stopped
        await trio.sleep(DUMP_TIME)
        self._signal(signal.SIGKILL)

    async def _send(self, message: messages.ToWorker) -> None:
        """Send without ever waiting on a worker that does not read."""
        assert self._channel is not None
        with suppress(OSError), trio.move_on_after(self.watch.heartbeat_interval):
            await self._channel.send(messages.encode_message(message))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)


async def _discard(worker: Offspring, channel: socket.socket) -> None:
    """End a process that has not begun to work."""
    try:
        worker.signal(signal.SIGKILL)
        await trio.lowlevel.wait_readable(worker.sentinel)
    finally:
        worker.reap()
        channel.close()
