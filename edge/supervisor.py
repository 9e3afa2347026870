"""The supervisor: the appliance's main process.

It opens every socket, starts N relay and M transceiver workers through a forkserver that has their
modules loaded (so that a restart takes milliseconds and nothing is forked from inside a Trio loop),
keeps them alive, and ends them in order: transceivers first, which may finish their sessions, then
relays. The first SIGTERM or SIGINT drains, the second ends at once.

What it holds for the workers is in supervision/estate.py, the workers themselves are in
supervision/relays.py and transceivers.py. SIGHUP reads configuration and keys again, and what is
live of it changes under running sessions (supervision/reload.py); a bad file changes nothing.
SIGUSR2 has the program of now, perhaps a new version, follow this one without a lost packet
(supervision/handover.py).
"""

import contextlib
import logging
import math
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from edge import __version__, logs, process
from edge.config import Config
from edge.control.statistics import TransceiverStatistics
from edge.control.status import Drain, Status
from edge.errors import BootError, TransientBootError
from edge.keys import KeySet
from edge.metrics.endpoint import open_metrics_listeners, serve_metrics
from edge.operate.protocol import OperatorError
from edge.operate.server import open_control_socket, serve_operators
from edge.sdnotify import ServiceManager
from edge.sockets import Sockets
from edge.supervision.addresses import Addresses
from edge.supervision.changes import Changes
from edge.supervision.commons import open_neighbourhood, take_flow_memory
from edge.supervision.crew import STOP_TIME, wait_ready
from edge.supervision.estate import Estate
from edge.supervision.handover import Handover, Successor, children
from edge.supervision.operations import Operations
from edge.supervision.registration import HostRegistration
from edge.supervision.relays import Relays
from edge.supervision.reload import Load, Reload
from edge.supervision.signals import SIGNALS, taking_signals
from edge.supervision.succession import Succession, adopt, clean_up
from edge.supervision.transceivers import Transceivers
from edge.supervision.voice import Voice
from edge.supervision.worker import SupervisedWorker

logger = logging.getLogger(__name__)

PRELOAD = ["edge.preload"]
NEIGHBOURS_NAME = "workers"
"""Beside the control socket: the directory of the workers' own sockets."""
HASH_KEY_BYTES = 32
STATUS_INTERVAL = 5.0


def run(
    config: Config,
    keys: KeySet,
    load: Load,
    control_path: Path,
    manager: ServiceManager,
    successor: Successor,
    handover: Handover | None = None,
) -> int:
    """Run the appliance until it is told to stop; return the exit status.

    ``load`` is called again at every reload. ``manager`` is told how things are, and keeps what is
    worth it while nobody runs. ``successor`` is what an upgrade executes; ``handover`` is what our
    own predecessor has left.
    """
    failures: list[BaseException] = []
    try:
        with contextlib.ExitStack() as undo:
            undo.callback(manager.close)
            flow_memory = take_flow_memory(config, manager)
            undo.callback(flow_memory.close)
            sockets = Sockets(config, manager, handover.relay_places if handover else None)
            undo.callback(sockets.close)
            listener = undo.enter_context(open_control_socket(control_path))
            undo.callback(control_path.unlink, missing_ok=True)
            metrics = _open_metrics_listeners(config, handover)
            for one in metrics:
                undo.enter_context(one)
            directory = control_path.parent / NEIGHBOURS_NAME
            hash_key = handover.hash_key if handover else os.urandom(HASH_KEY_BYTES)
            neighbourhood = undo.enter_context(
                open_neighbourhood(directory, config, manager, hash_key)
            )
            manager.forget_untaken()
            estate = Estate(config, keys, sockets, flow_memory, neighbourhood)
            trio.run(Supervisor(estate, load, listener, metrics, manager, successor, handover).run)
    except* BootError as group:
        failures = process.leaves(group)
    for failure in failures:
        logger.error("%s", failure)
    if not failures:
        return process.EX_OK
    # The service manager tries again after an upgrade: it has what is left.
    if handover:
        return process.EX_SOFTWARE
    mended = all(isinstance(each, TransientBootError) for each in failures)
    return os.EX_TEMPFAIL if mended else process.EX_CONFIG


class Supervisor:
    """Owns the sockets and the workers."""

    def __init__(
        self,
        estate: Estate,
        load: Load,
        control_listener: socket.socket,
        metrics_listeners: Sequence[socket.socket],
        manager: ServiceManager,
        successor: Successor,
        handover: Handover | None,
    ) -> None:
        self._orphans = children()
        """Our predecessor's, as we have none yet."""
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
        self._estate = estate
        self._load = load
        self._control_listener = control_listener
        self._metrics_listeners = metrics_listeners
        self._manager = manager
        self._handover = handover
        self._started_at = handover.started_at if handover else time.monotonic()
        self._addresses = Addresses.of(estate.sockets, metrics_listeners)
        self._transceivers = Transceivers(estate)
        self._relays = Relays(estate, self._transceivers)
        self._reload = Reload(estate, self._relays, self._transceivers)
        self._voice = Voice(estate, self._relays)
        self._succession = Succession(
            estate, self._relays, self._transceivers, successor, load, self._started_at
        )
        if handover is None:
            self._relays.add_first()
            self._transceivers.add_first()
        else:
            adopt(handover, estate, self._relays, self._transceivers)
        self._registration = HostRegistration(estate)
        self._operations = Operations(self)
        self._stop_asked = trio.Event()

    async def run(self) -> None:
        """Keep everything running until a signal; raises BootError if something cannot start."""
        async with trio.open_nursery() as nursery:
            self._changes = Changes(
                nursery,
                self._load,
                self._reload,
                self._succession,
                self._voice,
                self._registration,
                self._manager,
                self._stop_asked,
            )
            await nursery.start(self._take_signals, nursery)
            nursery.start_soon(serve_operators, self._control_listener, self._operations.answer)
            nursery.start_soon(self._operations.keep_deadlines)
            nursery.start_soon(serve_metrics, self._metrics_listeners, self.status)
            if self._handover is not None:
                nursery.start_soon(clean_up, self._handover, self._orphans)
            for crew in self._crews:
                crew.begin(nursery)
            async with trio.open_nursery() as coming_up:
                coming_up.start_soon(self._come_up, nursery)
                await self._stop_asked.wait()
                coming_up.cancel_scope.cancel()
            await self._stop()
            nursery.cancel_scope.cancel()
        logger.info("stopped")

    async def _come_up(self, nursery: trio.Nursery) -> None:
        """Wait for the first workers, and do what needs them. Raises BootError."""
        limit = self._estate.config.supervisor.boot_timeout
        await wait_ready(self._relays.active + self._transceivers.active, limit)
        nursery.start_soon(self._tell_manager)
        nursery.start_soon(self._voice.run)
        if self._handover is not None:
            await self._changes.renew()
        self._announce()
        self._manager.tell(READY=1)
        self._registration.follow(nursery)
        self._changes.begin()

    @property
    def transceivers(self) -> Sequence[SupervisedWorker]:
        """All that run, those that only end their calls included."""
        return self._transceivers.everybody

    def status(self) -> Status:
        """Return the state of the whole appliance."""
        return Status(
            version=__version__,
            uptime=time.monotonic() - self._started_at,
            udp=self._addresses.udp,
            tcp=self._addresses.tcp,
            signaling=self._addresses.signaling,
            workers=[one.status() for one in self._everybody],
            registration=self._registration.status(),
            drain=self._operations.drain_status(),
            metrics=self._addresses.metrics,
            clusters=self._voice.clusters(),
        )

    @property
    def drain(self) -> Drain | None:
        """The drain that is in force."""
        return self._estate.drain

    def refuse_at_end(self) -> None:
        """Refuse what is of no use to a service that stops. Raises OperatorError."""
        self._changes.refuse_at_end()

    async def set_drain(self, drain: Drain | None) -> None:
        """Have all transceivers, and those that come, take new sessions or none."""
        await self._transceivers.set_drain(drain)

    async def end_sessions(self) -> None:
        """End all sessions there are."""
        await self._transceivers.end_sessions()

    async def reload(self) -> str:
        """Read configuration and keys again; return what came of it. Raises OperatorError."""
        return await self._changes.reload()

    async def upgrade(self) -> str:
        """Have the program of now follow; return what is going to happen. Raises OperatorError."""
        return await self._changes.upgrade()

    def _announce(self) -> None:
        config = self._estate.config
        wanted = config.relay.receive_buffer_bytes
        # The kernel reports twice what was asked for (socket(7)).
        public = self._estate.sockets.public[0][0]
        got = public.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if got < wanted:
            logger.warning(
                "UDP receive buffers have %d bytes instead of %d: raise net.core.rmem_max",
                got,
                wanted,
            )
        self._addresses.announce(config)
        logger.info(
            "ready: %d relay and %d transceiver workers",
            len(self._relays.active),
            len(self._transceivers.active),
        )

    async def _tell_manager(self) -> None:
        """Say how things are, and give signs of life while all workers do."""
        interval = min(STATUS_INTERVAL, (self._manager.watchdog or math.inf) / 4)
        while True:
            if all(one.is_attended() for one in self._everybody):
                self._manager.tell(STATUS=self._status_line(), WATCHDOG=1)
            logs.report_suppressed()
            await trio.sleep(interval)

    def _status_line(self) -> str:
        known = [one.status().statistics for one in self._transceivers.everybody]
        found = [one for one in known if isinstance(one, TransceiverStatistics)]
        on_time = min((one.placement.on_time_ratio for one in found), default=1.0)
        return f"{sum(one.sessions for one in found)} sessions, {on_time:.1%} of frames on time"

    @property
    def _crews(self) -> tuple[Relays, Transceivers]:
        return self._relays, self._transceivers

    @property
    def _everybody(self) -> list[SupervisedWorker]:
        return self._relays.everybody + self._transceivers.everybody

    async def _take_signals(
        self,
        nursery: trio.Nursery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            reloads, upgrades = _follow(self.reload, nursery), _follow(self.upgrade, nursery)
            with taking_signals():
                async for number in signals:
                    if number in (signal.SIGHUP, signal.SIGUSR2):
                        with contextlib.suppress(trio.WouldBlock):  # what waits will do for both
                            (reloads if number == signal.SIGHUP else upgrades).send_nowait(None)
                    elif self._stop_asked.is_set():
                        logger.info("asked again to stop: ending at once")
                        await self._transceivers.hurry()
                    else:
                        logger.info("%s: stopping", signal.Signals(number).name)
                        self._stop_asked.set()

    async def _stop(self) -> None:
        """End transceivers, then relays, each within its time. Relays are kept alive until then."""
        await self._changes.end()
        grace = self._estate.config.supervisor.drain_limit
        self._manager.tell(STOPPING=1, EXTEND_TIMEOUT_USEC=int((grace + 3 * STOP_TIME) * 1e6))
        sessions = sum(one.sessions for one in self._transceivers.everybody)
        if sessions:
            logger.info("waiting up to %g s for %d sessions to end", grace, sessions)
        self._transceivers.note_stopping()
        self._estate.sockets.close_listeners()
        await self._transceivers.stop(grace)
        await self._registration.withdraw()
        await self._relays.stop(0.0)


def _open_metrics_listeners(config: Config, handover: Handover | None) -> list[socket.socket]:
    """Listen for who wants metrics. Calls that a predecessor has left are worth more than that.

    Raises:
        BootError: an address cannot be bound.

    """
    try:
        return open_metrics_listeners(config.metrics.listen)
    except BootError as exc:
        if handover is None:
            raise
        logger.error("%s", exc)  # noqa: TRY400 - told in full
        return []


def _follow(
    verb: Callable[[], Awaitable[str]], nursery: trio.Nursery
) -> trio.MemorySendChannel[None]:
    """Return what to tell when a signal asks for something. Whoever sent it reads the log."""
    asking, asked = trio.open_memory_channel[None](1)

    async def follow() -> None:
        async for _ in asked:
            with contextlib.suppress(OperatorError):
                await verb()

    nursery.start_soon(follow)
    return asking
