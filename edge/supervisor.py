"""The supervisor: the appliance's main process.

It opens every socket, starts N relay and M transceiver workers through a forkserver that has their
modules loaded (so that a restart takes milliseconds and nothing is forked from inside a Trio loop),
keeps them alive, and ends them in order: transceivers first, which may finish their sessions, then
relays. The first SIGTERM or SIGINT drains, the second ends at once.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from edge import __version__, control, process, relay, status
from edge.config import Config
from edge.errors import BootError
from edge.keys import KeySet
from edge.lifecycle import RestartPolicy
from edge.memory import HeldMemory
from edge.routing.shared import table_bytes
from edge.signal.page import load_page
from edge.signal.settings import SignalSettings
from edge.sockets import Sockets, name_of, open_sockets, port_of
from edge.supervised import SupervisedWorker
from edge.transceiver import worker as transceiver
from edge.transceiver.session import SessionLimits

logger = logging.getLogger(__name__)

PRELOAD = ["edge.preload"]
STOP_TIME = 3.0
"""How long a worker may take to end, beyond what it was given to drain."""


def run(config: Config, keys: KeySet, status_path: Path) -> int:
    """Run the appliance until it is told to stop; return the exit status."""
    failures: list[BaseException] = []
    try:
        with contextlib.ExitStack() as undo:
            sockets = open_sockets(config)
            undo.callback(sockets.close)
            flow_memory = HeldMemory.create("edge-flows", table_bytes(config.relay.flows_max))
            undo.callback(flow_memory.close)
            listener = status.open_status_socket(status_path)
            undo.callback(status_path.unlink, missing_ok=True)
            undo.enter_context(listener)
            trio.run(Supervisor(config, keys, sockets, flow_memory, listener).run)
    except* BootError as group:
        failures = process.leaves(group)
    for failure in failures:
        logger.error("%s", failure)
    return process.EX_CONFIG if failures else process.EX_OK


class Supervisor:
    """Owns the sockets and the workers."""

    def __init__(
        self,
        config: Config,
        keys: KeySet,
        sockets: Sockets,
        flow_memory: HeldMemory,
        status_listener: socket.socket,
    ) -> None:
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
        self._config = config
        self._sockets = sockets
        self._status_listener = status_listener
        self._started_at = time.monotonic()
        self._udp = [name_of(one) for one in sockets.public[0]]
        self._signaling = [name_of(one) for one in sockets.listeners[0]]
        self._relays = [
            self._supervise("relay", index, relay.run, settings)
            for index, settings in enumerate(_relay_settings(config, keys, sockets, flow_memory))
        ]
        self._transceivers = [
            self._supervise("transceiver", index, transceiver.run, settings)
            for index, settings in enumerate(_transceiver_settings(config, keys, sockets))
        ]
        self._stop_asked = trio.Event()

    async def run(self) -> None:
        """Keep everything running until a signal; raises BootError if something cannot start."""
        workers = self._relays + self._transceivers
        async with trio.open_nursery() as nursery:
            await nursery.start(self._take_signals)
            nursery.start_soon(status.serve_status, self._status_listener, self.status)
            for one in workers:
                nursery.start_soon(one.keep)
            await self._wait_ready(workers)
            self._announce()
            await self._stop_asked.wait()
            await self._stop()
            nursery.cancel_scope.cancel()
        logger.info("stopped")

    def status(self) -> control.Status:
        """Return the state of the whole appliance."""
        return control.Status(
            version=__version__,
            uptime=time.monotonic() - self._started_at,
            udp=self._udp,
            signaling=self._signaling,
            workers=[one.status() for one in self._relays + self._transceivers],
        )

    def _supervise(
        self, kind: control.WorkerKind, index: int, target: Any, settings: object
    ) -> SupervisedWorker:
        limits = self._config.supervisor
        return SupervisedWorker(
            kind,
            index,
            target,
            settings,
            log_level=self._config.log.level,
            policy=RestartPolicy(limits.restart_backoff, limits.restart_backoff_max),
            heartbeat_interval=limits.heartbeat_interval,
            heartbeat_limit=limits.heartbeat_limit,
            boot_timeout=limits.boot_timeout,
        )

    async def _wait_ready(self, workers: Sequence[SupervisedWorker]) -> None:
        with trio.move_on_after(self._config.supervisor.boot_timeout):
            for one in workers:
                await one.ready.wait()
            return
        late = ", ".join(one.name for one in workers if not one.ready.is_set())
        raise BootError(f"not ready in time: {late}")

    def _announce(self) -> None:
        wanted = self._config.relay.receive_buffer_bytes
        # The kernel reports twice what was asked for (socket(7)).
        got = self._sockets.public[0][0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if got < wanted:
            logger.warning(
                "UDP receive buffers have %d bytes instead of %d: raise net.core.rmem_max",
                got,
                wanted,
            )
        path = self._config.signal.path
        for name in self._udp:
            logger.info("media on udp %s", name)
        for name in self._signaling:
            logger.info("signaling on ws://%s%s", name, path)
            if self._config.signal.serves_page:
                logger.info("page on http://%s/", name)
        logger.info("ready: %d relay and %d transceiver workers", *map(len, self._groups))

    @property
    def _groups(self) -> tuple[list[SupervisedWorker], list[SupervisedWorker]]:
        return self._relays, self._transceivers

    async def _take_signals(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                if self._stop_asked.is_set():
                    logger.info("asked again to stop: ending at once")
                    for one in self._transceivers:
                        await one.stop(0.0)
                    continue
                logger.info("%s: stopping", signal.Signals(number).name)
                self._stop_asked.set()

    async def _stop(self) -> None:
        """End transceivers, then relays, each within its time."""
        grace = self._config.supervisor.drain_limit
        sessions = sum(one.sessions for one in self._transceivers)
        if sessions:
            logger.info("waiting up to %g s for %d sessions to end", grace, sessions)
        self._sockets.close_listeners()
        await self._stop_workers(self._transceivers, grace)
        await self._stop_workers(self._relays, 0.0)

    async def _stop_workers(self, workers: Sequence[SupervisedWorker], grace: float) -> None:
        for one in workers:
            await one.stop(grace)
        with trio.move_on_after(grace + STOP_TIME):
            for one in workers:
                await one.ended.wait()
        for one in workers:
            if not one.ended.is_set():
                logger.error("worker %s did not end in time: killing it", one.name)
                one.kill()
                await one.ended.wait()


def _relay_settings(
    config: Config, keys: KeySet, sockets: Sockets, flow_memory: HeldMemory
) -> list[relay.RelaySettings]:
    cores = sorted(os.sched_getaffinity(0))
    return [
        relay.RelaySettings(
            index=index,
            cluster=config.supervisor.cluster,
            core=cores[index % len(cores)] if config.relay.pin_cores else None,
            public=public,
            internal=sockets.relay_internal[index],
            transceivers=_addresses(sockets.transceiver_internal),
            keys=keys.routing,
            flows_max=config.relay.flows_max,
            flow_generation=config.relay.flow_generation,
            flow_memory=flow_memory,
        )
        for index, public in enumerate(sockets.public)
    ]


def _transceiver_settings(
    config: Config, keys: KeySet, sockets: Sockets
) -> list[transceiver.TransceiverSettings]:
    limits, offered = config.transceiver, config.signal
    page = load_page(_page_folder()) if offered.serves_page else None
    advertised = config.relay.advertised([port_of(one) for one in sockets.public[0]])
    return [
        transceiver.TransceiverSettings(
            index=index,
            cluster=config.supervisor.cluster,
            public=sockets.public[0],
            advertised=tuple((each.host, each.port) for each in advertised),
            internal=internal,
            relays=_addresses(sockets.relay_internal),
            listeners=sockets.listeners[index],
            signal=SignalSettings(
                path=offered.path,
                grace=offered.grace,
                connections_max=offered.connections_max,
                message_bytes_max=offered.message_bytes_max,
                idle_timeout=offered.idle_timeout,
            ),
            page=page,
            routing_key=keys.routing[0],
            password_key=keys.password_key,
            sessions_max=limits.sessions_max,
            limits=SessionLimits(
                setup_timeout=limits.handshake_timeout, consent_timeout=limits.consent_timeout
            ),
        )
        for index, internal in enumerate(sockets.transceiver_internal)
    ]


def _page_folder() -> Path:
    """Return the page's folder: of the checkout that we run from, else of the installed package."""
    package = Path(__file__).parent
    checkout = package.parent / "web"
    return checkout if checkout.is_dir() else package / "web"


def _addresses(bound: Sequence[socket.socket]) -> tuple[tuple[str, int], ...]:
    return tuple((one.getsockname()[0], one.getsockname()[1]) for one in bound)
