"""What the supervisor has in force and in its hands, and the workers that it makes of it."""

import itertools
from collections.abc import Callable
from typing import Any

from attrs import define, field

from edge import process
from edge.assignment.neighbourhood import Neighbourhood
from edge.assignment.relays import relay_settings
from edge.assignment.transceivers import transceiver_settings
from edge.config import Config
from edge.control.status import Drain, WorkerKind
from edge.keys import KeySet
from edge.memory import HeldMemory
from edge.relay import RelaySettings
from edge.sockets import Sockets
from edge.supervision.restarts import RestartPolicy
from edge.supervision.worker import SupervisedWorker, Watch
from edge.transceiver.settings import TransceiverSettings


@define(eq=False)
class Estate:
    """Everything that workers are given a part of."""

    config: Config
    """What is in force: a reload may leave keys of the file for a restart."""
    keys: KeySet
    sockets: Sockets
    flow_memory: HeldMemory
    neighbourhood: Neighbourhood
    drain: Drain | None = None
    """The operator wants no new sessions."""
    _orders: "itertools.count[int]" = field(init=False, factory=lambda: itertools.count(1))

    def new_order(self) -> int:
        """Return the sequence number of one more order to workers."""
        return next(self._orders)

    def relay_settings(self, number: int, place: int) -> RelaySettings:
        """Return what relay worker ``number`` gets to work in a place (edge/sockets.py)."""
        return relay_settings(number, place, self.config, self.keys, self.sockets, self.flow_memory)

    def transceiver_settings(self, slot: int, worker: int) -> TransceiverSettings:
        """Return what one worker (0 and up) of a generation gets to work in a slot."""
        return transceiver_settings(
            slot, worker, self.config, self.keys, self.sockets, self.neighbourhood
        )

    def watch(self) -> Watch:
        """Return how closely workers are watched."""
        limits = self.config.supervisor
        return Watch(limits.heartbeat_interval, limits.heartbeat_limit, limits.boot_timeout)

    def restart_policy(self) -> RestartPolicy:
        """Return how one worker's restarts are spaced."""
        limits = self.config.supervisor
        return RestartPolicy(limits.restart_backoff, limits.restart_backoff_max)

    def supervise(
        self,
        kind: WorkerKind,
        index: int,
        target: Callable[[process.Frame, Any], None],
        settings: object,
    ) -> SupervisedWorker:
        """Return a worker that is not started yet."""
        return SupervisedWorker(
            kind,
            index,
            target,
            settings,
            log_level=self.config.log.level,
            policy=self.restart_policy(),
            watch=self.watch(),
        )
