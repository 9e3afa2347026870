"""The supervisor: the appliance's main process.

It opens every socket, starts N relay and M transceiver workers through a forkserver that has their
modules loaded (so that a restart takes milliseconds and nothing is forked from inside a Trio loop),
keeps them alive, and ends them in order: transceivers first, which may finish their sessions, then
relays. The first SIGTERM or SIGINT drains, the second ends at once.

SIGHUP reads configuration and keys again. A bad file changes nothing. The number of relay workers
and the routing keys change under running sessions: a new key is accepted by every relay before any
transceiver uses it, and an old one is dropped by the relays last; a relay worker that goes reads
its queue to the end, and the flows that the kernel then gives to others are in shared memory.
"""

import contextlib
import itertools
import logging
import math
import multiprocessing
import os
import signal
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import trio
from attrs import evolve

from edge import __version__, control, process, relay, status
from edge.assignment import (
    Neighbourhood,
    access_sizes,
    addresses,
    relay_settings,
    shared_keys,
    transceiver_settings,
)
from edge.config import Config, apply_live, waiting_keys
from edge.errors import BootError, ConfigError
from edge.keys import KeySet
from edge.lifecycle import RestartPolicy
from edge.memory import HeldMemory
from edge.routing.shared import table_bytes
from edge.sdnotify import ServiceManager
from edge.sockets import Sockets, name_of
from edge.supervised import SupervisedWorker
from edge.transceiver import worker as transceiver
from edge.transceiver.channel import listen_for_neighbours, neighbour_paths
from edge.transceiver.load import load_table_bytes
from edge.transceiver.settings import TransceiverSettings

logger = logging.getLogger(__name__)

PRELOAD = ["edge.preload"]
NEIGHBOURS_NAME = "workers"
"""Beside the status socket: the directory of the workers' own sockets."""
HASH_KEY_BYTES = 32
STATUS_INTERVAL = 5.0
STOP_TIME = 3.0
"""How long a worker may take to end, beyond what it was given to drain."""


Load = Callable[[], tuple[Config, KeySet]]
"""Reads configuration and keys. Raises ConfigError."""


def run(
    config: Config, keys: KeySet, load: Load, status_path: Path, manager: ServiceManager
) -> int:
    """Run the appliance until it is told to stop; return the exit status.

    ``load`` is called again at every reload. ``manager`` is told how things are, and keeps what is
    worth it while nobody runs.
    """
    failures: list[BaseException] = []
    try:
        with contextlib.ExitStack() as undo:
            undo.callback(manager.close)
            flow_memory = _flow_memory(config, manager)
            undo.callback(flow_memory.close)
            sockets = Sockets(config, manager)
            undo.callback(sockets.close)
            listener = status.open_status_socket(status_path)
            undo.callback(status_path.unlink, missing_ok=True)
            undo.enter_context(listener)
            directory = status_path.parent / NEIGHBOURS_NAME
            neighbourhood = undo.enter_context(_neighbourhood(directory, config))
            trio.run(
                Supervisor(
                    config, keys, load, sockets, flow_memory, neighbourhood, listener, manager
                ).run
            )
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
        load: Load,
        sockets: Sockets,
        flow_memory: HeldMemory,
        neighbourhood: Neighbourhood,
        status_listener: socket.socket,
        manager: ServiceManager,
    ) -> None:
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
        self._config = config
        self._keys = keys
        self._load = load
        self._sockets = sockets
        self._flow_memory = flow_memory
        self._neighbourhood = neighbourhood
        self._status_listener = status_listener
        self._manager = manager
        self._started_at = time.monotonic()
        self._udp = [name_of(one) for one in sockets.public[0]]
        self._tcp = [name_of(one) for one in sockets.relay_listeners[0]]
        self._signaling = [name_of(one) for one in sockets.listeners[0]]
        self._orders = itertools.count(1)
        self._relays = [
            self._supervise("relay", index, relay.run, self._relay_settings(index))
            for index in range(config.relay.workers)
        ]
        self._transceivers = [
            self._supervise(
                "transceiver", index, transceiver.run, self._transceiver_settings(index)
            )
            for index in range(config.transceiver.workers)
        ]
        self._stop_asked = trio.Event()
        self._reload_asked = trio.Event()

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
            self._manager.tell(READY=1)
            nursery.start_soon(self._tell_manager)
            nursery.start_soon(self._reload_when_asked, nursery)
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
            tcp=self._tcp,
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
        secure = "s" if self._config.signal.tls_certificate is not None else ""
        for name in self._udp:
            logger.info("media on udp %s", name)
        for name in self._tcp:
            logger.info("media on tcp %s", name)
        for name in self._signaling:
            logger.info("signaling on ws%s://%s%s", secure, name, path)
            if self._config.signal.serves_page:
                logger.info("page on http%s://%s/", secure, name)
        logger.info("ready: %d relay and %d transceiver workers", *map(len, self._groups))

    async def _tell_manager(self) -> None:
        """Say how things are, and give signs of life while all workers do."""
        interval = min(STATUS_INTERVAL, (self._manager.watchdog or math.inf) / 4)
        while True:
            if all(one.is_attended() for one in self._relays + self._transceivers):
                self._manager.tell(STATUS=self._status_line(), WATCHDOG=1)
            await trio.sleep(interval)

    def _status_line(self) -> str:
        known = [one.status().statistics for one in self._transceivers]
        found = [one for one in known if isinstance(one, control.TransceiverStatistics)]
        on_time = min((one.placement.on_time_ratio for one in found), default=1.0)
        return f"{sum(one.sessions for one in found)} sessions, {on_time:.1%} of frames on time"

    @property
    def _groups(self) -> tuple[list[SupervisedWorker], list[SupervisedWorker]]:
        return self._relays, self._transceivers

    async def _take_signals(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        with trio.open_signal_receiver(*wanted) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload_asked.set()
                elif self._stop_asked.is_set():
                    logger.info("asked again to stop: ending at once")
                    for one in self._transceivers:
                        await one.stop(0.0)
                else:
                    logger.info("%s: stopping", signal.Signals(number).name)
                    self._stop_asked.set()

    async def _reload_when_asked(self, nursery: trio.Nursery) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked = trio.Event()
            if self._stop_asked.is_set():
                return
            try:
                config, keys = await trio.to_thread.run_sync(self._load)
            except ConfigError as exc:
                logger.error("reload: nothing was changed: %s", exc)  # noqa: TRY400 - told in full
                continue
            self._manager.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
            await self._apply(config, keys, nursery)
            self._manager.tell(READY=1)

    async def _apply(self, config: Config, keys: KeySet, nursery: trio.Nursery) -> None:
        """Make what can be changed live so; ``self._config`` stays what is in force."""
        waiting = waiting_keys(self._config, config)
        if keys.password_key != self._keys.password_key:
            waiting.append("keys.password")
        if waiting:
            logger.warning("reload: wait for a restart: %s", ", ".join(waiting))
        wanted = config.relay.workers
        changed = wanted != len(self._relays) or keys.routing != self._keys.routing
        if keys.routing != self._keys.routing:
            await self._rotate_keys(keys)
        while len(self._relays) < wanted:
            await self._add_relay(nursery)
        while len(self._relays) > wanted:
            await self._remove_relay()
        self._config = apply_live(self._config, config)
        await self._reload_certificates()
        logger.info("reload: %s", "done" if changed else "nothing to change")

    async def _rotate_keys(self, keys: KeySet) -> None:
        """Accept new keys everywhere, then use the new first one, then drop what is gone."""
        old, new = self._keys.routing, keys.routing
        taken = {each.id for each in new}
        kept = tuple(each for each in old if each.id not in taken)
        self._keys = evolve(self._keys, routing=new + kept)
        await self._order_relays()
        for index, one in enumerate(self._transceivers):
            settings = self._transceiver_settings(index)
            key = shared_keys(self._keys)[0]
            await one.change(settings, control.IssueWith(next(self._orders), key))
        self._keys = evolve(self._keys, routing=new)
        await self._order_relays()
        logger.info(
            "reload: routing keys %s accepted, %d in use",
            ", ".join(str(each.id) for each in new),
            new[0].id,
        )

    async def _order_relays(self) -> None:
        """Have every relay accept the present keys."""
        for index, one in enumerate(self._relays):
            order = control.AcceptKeys(next(self._orders), shared_keys(self._keys))
            await one.change(self._relay_settings(index), order)

    async def _trust_relays(self) -> None:
        """Have every transceiver take frames from the present relays."""
        known = addresses(self._sockets.relay_internal)
        for index, one in enumerate(self._transceivers):
            order = control.TrustRelays(next(self._orders), list(known))
            await one.change(self._transceiver_settings(index), order)

    async def _add_relay(self, nursery: trio.Nursery) -> None:
        """Start one more relay worker; packets come to it once it is ready."""
        self._sockets.add_relay()
        await self._trust_relays()
        index = len(self._relays)
        added = self._supervise("relay", index, relay.run, self._relay_settings(index))
        self._relays.append(added)
        nursery.start_soon(added.keep)
        await added.ready.wait()
        self._sockets.bind_relay()

    async def _remove_relay(self) -> None:
        """End the latest relay worker without losing what is queued for it."""
        self._sockets.quiet_relay()
        removed = self._relays.pop()
        await self._stop_workers([removed], relay.QUEUE_TIME)
        self._sockets.remove_relay()
        await self._trust_relays()

    def _relay_settings(self, index: int) -> relay.RelaySettings:
        return relay_settings(index, self._config, self._keys, self._sockets, self._flow_memory)

    def _transceiver_settings(self, index: int) -> TransceiverSettings:
        return transceiver_settings(
            index, self._config, self._keys, self._sockets, self._neighbourhood
        )

    async def _reload_certificates(self) -> None:
        """Have every transceiver that has a certificate read it again."""
        for index, one in enumerate(self._transceivers):
            settings = self._transceiver_settings(index)
            if settings.tls_files is not None:
                order = control.ReloadCertificate(next(self._orders))
                await one.change(settings, order)

    async def _stop(self) -> None:
        """End transceivers, then relays, each within its time."""
        grace = self._config.supervisor.drain_limit
        self._manager.tell(STOPPING=1, EXTEND_TIMEOUT_USEC=int((grace + 3 * STOP_TIME) * 1e6))
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


def _flow_memory(config: Config, manager: ServiceManager) -> HeldMemory:
    """Take the flow memory that was kept, if it means the same by its numbers, or make one."""
    size = table_bytes(config.relay.flows_max * len(config.relay.listen))
    meaning = (size, config.transceiver.workers, *map(str, config.relay.listen))
    name = f"flows-{zlib.crc32(repr(meaning).encode()):08x}"
    kept = manager.take(name)
    if kept is not None:
        return HeldMemory(kept)
    memory = HeldMemory.create("edge-flows", size)
    manager.keep(name, memory.fileno())
    return memory


@contextlib.contextmanager
def _neighbourhood(directory: Path, config: Config) -> Iterator[Neighbourhood]:
    """Open what transceiver workers reach each other by."""
    workers = config.transceiver.workers
    paths = neighbour_paths(directory, workers)
    with contextlib.ExitStack() as undo:
        listeners = listen_for_neighbours(directory, workers)
        for path, listener in zip(paths, listeners, strict=True):
            undo.enter_context(listener)
            undo.callback(Path(path).unlink, missing_ok=True)
        load = HeldMemory.create("edge-load", load_table_bytes(workers))
        undo.callback(load.close)
        access = HeldMemory.create("edge-access", access_sizes(config).memory_bytes)
        undo.callback(access.close)
        yield Neighbourhood(tuple(listeners), paths, load, access, os.urandom(HASH_KEY_BYTES))
