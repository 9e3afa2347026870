"""The transceiver worker: receives frames, drives sessions, serves signaling.

One internal UDP socket for all sessions, one signaling listener of its own per address, the public
sockets to send on, one Unix socket for the other workers' requests. What sessions do is in
session.py, how they are driven in driver.py, who owns them in hosting.py.
"""

import gc
import os
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial

import trio

from edge import process
from edge.access.policy import AccessPolicy, Admission
from edge.access.tables import open_tables
from edge.audio.opus import opus_version
from edge.control import messages
from edge.control.statistics import Placement as PlacementCounts
from edge.control.statistics import Punctuality as PunctualityCounts
from edge.control.statistics import TransceiverStatistics, WayCounts
from edge.errors import LocalProtocolError
from edge.fleet.guidance import FleetView
from edge.fleet.map import FleetKey
from edge.fleet.states import HostState
from edge.media.punctuality import BUCKETS, Punctuality, PunctualityStatistics
from edge.poller import Poller
from edge.routing.ufrag import RoutingKey
from edge.signal.host import SessionRequest
from edge.signal.intake import Door
from edge.signal.server import serve_signaling
from edge.steering.visitor import Visitors
from edge.transceiver.backends import BackendMaker
from edge.transceiver.channel import connect_to_neighbour
from edge.transceiver.driver import Driver
from edge.transceiver.federation import Federation
from edge.transceiver.files import WorkerFiles
from edge.transceiver.hosting import ForPeers, Host
from edge.transceiver.inspector import Inspector
from edge.transceiver.load import PUBLISH_INTERVAL, LoadTable
from edge.transceiver.neighbours import Neighbour
from edge.transceiver.opening import SessionMaker
from edge.transceiver.owning import serve_neighbours
from edge.transceiver.peers import Peers
from edge.transceiver.placement import Placement
from edge.transceiver.receiver import FrameReceiver
from edge.transceiver.residents import Residents
from edge.transceiver.session import EndReason
from edge.transceiver.settings import AccessShare, TransceiverSettings
from edge.transceiver.steered import SteeredHost
from edge.trunk.answering import TransceiverTrunk

COLLECT_AFTER = (10_000, 10, 100)
"""Objects more, and young collections, before the next collection of each generation."""
FAREWELL_TIME = 0.5
"""How long signaling connections get to deliver the last word when the worker ends."""
REMOTE_POLL = 0.1
"""How often a worker that drains looks whether its signaling is still of use to others."""


def run(frame: process.Frame, settings: TransceiverSettings) -> None:
    """Entry point of the worker process.

    The garbage collector hardly ever looks at everything: with 75 sessions it took 17 ms, in which
    no frame left. Sessions that have ended do not need it.
    """
    gc.set_threshold(*COLLECT_AFTER)
    process.run_worker(frame, lambda: Transceiver(settings, restarted=frame.restarted))


class Transceiver:
    """One transceiver worker."""

    def __init__(self, settings: TransceiverSettings, *, restarted: bool = False) -> None:
        opus_version()  # what cannot be loaded should not be found out by the first caller
        self._settings = settings
        self._punctuality = Punctuality()
        self._trunk = TransceiverTrunk(settings.trunk) if settings.trunk is not None else None
        self._driver = Driver(
            settings.public, settings.internal, settings.relays, self._punctuality, self._trunk
        )
        from_elsewhere = []
        if self._trunk is not None:
            from_elsewhere.append((self._trunk.socket, self._driver.receive_sealed))
        self._receiver = FrameReceiver(
            settings.internal,
            self._driver.receive_frame,
            self._driver.fire,
            further=from_elsewhere,
        )
        self._poller = Poller(self._driver.fire)
        self._placement = Placement(
            LoadTable(settings.load_memory.map()),
            settings.index,
            sessions_max=settings.sessions_max,
            on_time_min=settings.on_time_min,
            clock=time.monotonic,
        )
        self._placement.pause(paused=settings.paused)
        self._placement.draining = settings.waits
        self._doors = [
            Door(
                trio.SocketListener(trio.socket.from_stdlib_socket(one)), is_open=not settings.waits
            )
            for one in settings.listeners
        ]
        self._federation: Federation | None = None
        if settings.peers is not None:
            self._federation = Federation(settings.peers, is_open=not settings.waits)
        self._policy = _policy(settings.access, settings.index)
        database = settings.visitors.database
        self._files = WorkerFiles(settings.tls_files, database, restarted=restarted)
        self._visitors = Visitors(
            settings.visitors.proxies,
            settings.visitors.location_headers,
            self._files.find if database is not None else None,
        )
        self._steered: SteeredHost | None = None
        self._signaling = trio.CancelScope()
        self._signaling_ended = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        settings = self._settings
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receiver.run)
            nursery.start_soon(self._driver.run_timers)
            nursery.start_soon(self._poller.run)
            backends = BackendMaker(
                settings.media,
                self._driver,
                self._punctuality,
                self._poller,
                nursery.start_soon,
                os.urandom,
            )
            self._maker = SessionMaker(settings, self._driver, backends)
            self._residents = Residents(
                self._maker.make,
                self._admit,
                settings.signal.grace,
                time.monotonic,
                self._placement.note_sessions,
            )
            self._residents.drain(settings.drained_at)
            self._inspector = Inspector(
                f"transceiver-{settings.index}",
                self._driver,
                self._residents,
                len(settings.public),
                trio.current_time,
            )
            others = {
                index: Neighbour(partial(connect_to_neighbour, path), nursery.start_soon)
                for index, path in enumerate(settings.neighbours)
                if index != settings.index
            }
            peers = self._federation.peers(nursery.start_soon) if self._federation else None
            self._host = Host(
                settings.cluster,
                settings.index,
                self._residents,
                others,
                self._placement,
                settings.host,
                peers,
            )
            if peers is not None:
                self._steered = _steered(settings, self._host, peers, self._placement)
            await nursery.start(
                partial(
                    serve_neighbours,
                    settings.neighbour_listener,
                    self._residents,
                    self._host.check_room,
                )
            )
            if self._federation is not None:
                await nursery.start(self._federation.serve, ForPeers(self._host))
            nursery.start_soon(self._look_around)
            await nursery.start(self._serve_signaling)
            task_status.started()

    async def drain(self, grace: float) -> None:
        """Refuse new sessions; end those that are left after ``grace`` seconds."""
        self._placement.drain()
        if grace:
            self._residents.leave(time.monotonic() + grace)
        with trio.move_on_after(grace):
            while len(self._driver) or self._host.remote_sessions:
                await self._driver.empty.wait()
                if self._host.remote_sessions:
                    await trio.sleep(REMOTE_POLL)
        self._driver.end_all(EndReason.GOING_AWAY, trio.current_time())
        with trio.move_on_after(FAREWELL_TIME):  # owners that stop as well say so to our clients
            while self._host.remote_sessions:  # noqa: ASYNC110 - they end in other processes
                await trio.sleep(REMOTE_POLL)
        self._signaling.cancel()
        with trio.move_on_after(FAREWELL_TIME):
            await self._signaling_ended.wait()

    def obey(self, order: messages.Order) -> None:
        match order:
            case messages.IssueWith(_, key):
                self._maker.use_key(RoutingKey(key.id, key.key))
            case messages.TrustRelays(_, relays):
                self._driver.trust(relays)
            case messages.UseFleetKeys(_, keys):
                self._use_fleet_keys([FleetKey(each.id, each.key) for each in keys])
            case messages.ReloadCertificate():
                self._files.reload_certificate()
            case messages.ReloadPositions():
                self._files.reload_positions()
            case messages.TakeOver():
                self._placement.open()
                for door in self._all_doors:
                    door.open()
            case messages.HandOver():
                self._placement.drain()
                for door in self._all_doors:
                    door.leave()
            case messages.TakeSessions(_, wanted, ends_at):
                self._placement.pause(paused=not wanted)
                self._residents.drain(ends_at)
            case messages.EndSessions():
                self._driver.end_all(EndReason.GOING_AWAY, trio.current_time())
            case messages.AcceptKeys():
                raise LocalProtocolError("accepting keys is for relays")

    @property
    def _all_doors(self) -> list[Door]:
        return [*self._doors, *(self._federation.doors if self._federation is not None else ())]

    @property
    def _control_drops(self) -> Counter[str]:
        return self._federation.drops if self._federation is not None else Counter()

    def answer(self, question: messages.Question) -> messages.Answer:
        return self._inspector.answer(question)

    def statistics(self) -> TransceiverStatistics:
        driver, host, residents = self._driver, self._host, self._residents
        return TransceiverStatistics(
            sessions=len(driver),
            sessions_by_key=dict(driver.sessions_by_key()),
            opened=self._maker.opened,
            reached_media=driver.reached_media,
            ended=dict(driver.ended),
            verdicts=dict(driver.verdicts),
            packets_received=driver.packets_received,
            packets_sent=driver.packets_sent,
            punctuality=_punctuality(self._punctuality.statistics()),
            placement=PlacementCounts(
                sessions_max=self._settings.sessions_max,
                on_time_ratio=self._placement.load.on_time_ratio,
                opened_here=host.opened_here,
                opened_elsewhere=host.opened_elsewhere,
                opened_for_others=residents.opened_for_others,
                refused=host.refused,
                opened_at_peers=host.opened_at_peers,
                opened_for_peers=host.opened_for_peers,
                redirected=self._steered.redirected if self._steered is not None else 0,
                remote=host.remote_sessions,
                detached=residents.detached,
            ),
            drops=dict(self._all_drops()),
            bytes_received=driver.bytes_received,
            bytes_sent=driver.bytes_sent,
            setup=driver.tally.setup_counts(),
            quality=driver.tally.quality_counts(),
            media=driver.tally.media_counts(),
            links=driver.tally.link_counts(),
            process=process.consumption(),
            trunk=self._way_counts(),
        )

    def _way_counts(self) -> WayCounts | None:
        if self._trunk is None:
            return None
        turned = self._driver.ways_turned
        return WayCounts(frames=self._trunk.frames, ways=self._trunk.ways, turned=turned)

    def _all_drops(self) -> Counter[str]:
        visitors = self._visitors.drops + self._files.drops
        return self._driver.all_drops() + visitors + self._control_drops

    def _use_fleet_keys(self, keys: list[FleetKey]) -> None:
        if self._trunk is not None:
            self._trunk.use_keys(keys)
        if self._federation is not None:
            self._federation.use_keys(keys)

    def _admit(self, request: SessionRequest) -> Admission | None:
        """Use up what the client was granted. Raises AccessError."""
        if self._policy is None or request.grant is None:
            return None
        return self._policy.admit(request.grant, request.source, time.time())

    async def _look_around(self) -> None:
        """Every now and then tell the load, and end the sessions whose time is over."""
        while True:
            self._residents.tick()
            self._placement.note_frames(self._punctuality.statistics())
            await trio.sleep(PUBLISH_INTERVAL)

    async def _serve_signaling(
        self,
        *,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        settings = self._settings
        with self._signaling:
            await serve_signaling(
                self._doors,
                settings.signal,
                self._steered or self._host,
                settings.page,
                self._policy,
                self._files.tls,
                self._visitors,
                task_status=task_status,
            )
        self._signaling_ended.set()


def _policy(access: AccessShare | None, worker: int) -> AccessPolicy | None:
    if access is None:
        return None
    memory = access.memory
    tables = open_tables(memory.map(), memory.lock, access.hash_key, worker, access.sizes)
    return AccessPolicy(access.settings, tables, os.urandom)


def _steered(
    settings: TransceiverSettings, host: Host, peers: Peers, placement: Placement
) -> SteeredHost | None:
    if settings.steering is None or settings.peers is None:
        return None
    fleet = settings.peers.fleet

    def states() -> Mapping[str, HostState]:
        return {**peers.states(), fleet.here.name: placement.of_host()}

    return SteeredHost(host, settings.steering, FleetView(fleet, states, time.monotonic))


def _punctuality(figures: PunctualityStatistics) -> PunctualityCounts:
    bounds = [f"{bound * 1000:g}" for bound in BUCKETS]
    return PunctualityCounts(
        frames=figures.frames,
        skipped=figures.skipped,
        on_time_ratio=figures.on_time_ratio,
        late_up_to=dict(zip([*bounds, "more"], figures.histogram, strict=True)),
        late=figures.late,
    )
