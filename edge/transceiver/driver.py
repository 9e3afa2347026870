"""Drives the sessions of one worker: the only code that drains a session machine.

Frames come in from relays, rows are fed to the sessions that own them, and everything that the
touched sessions produced goes out at once: datagrams batched on the public sockets, events to the
session's reporter, the next time-out into one heap for the whole worker.

Whose a row is, and the way back to its client, is known by the bindings (bindings.py). Relays are
told of every binding they ask about, and of its end (relays.py).

An exception out of a session ends that session only.
"""

import itertools
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import assert_never

import trio

from edge.demux import is_media
from edge.ice.credentials import Credentials
from edge.machine import Address
from edge.media.punctuality import Punctuality
from edge.routing import frames
from edge.signal.messages import Verdict
from edge.transceiver.bindings import Bindings
from edge.transceiver.driven import Driven
from edge.transceiver.pacing import Pacer
from edge.transceiver.relays import Relay, Relays
from edge.transceiver.sender import Sender
from edge.transceiver.session import (
    AddressValidated,
    Ended,
    EndReason,
    Layer,
    LayerUp,
    SessionEvent,
    UfragRetired,
)
from edge.transceiver.tally import Tally
from edge.transceiver.timers import Timers
from edge.transceiver.ufrags import Ufrags
from edge.transceiver.verdict import judge, summary
from edge.trunk.answering import TransceiverTrunk, Way

logger = logging.getLogger(__name__)


class Driver:
    """All sessions of one transceiver worker."""

    def __init__(
        self,
        public: Sequence[socket.socket],
        internal: socket.socket,
        relays: Iterable[tuple[str, int]],
        punctuality: Punctuality,
        trunk: TransceiverTrunk | None = None,
    ) -> None:
        self._trunk = trunk
        self.drops: Counter[str] = Counter()
        self._ufrags = Ufrags(self.drops)
        self._relays = Relays(internal, len(public), self.drops)
        self._bindings = Bindings(self._ufrags, self._relays, trunk, self.drops)
        self._sender = Sender(public, internal, self._bindings, trunk)
        self.trust(relays)
        self._sessions: dict[Driven, None] = {}
        self._numbers = itertools.count(1)
        self._timers = Timers()
        self._pacer = Pacer(
            punctuality, trio.current_time, self._send_media, self._sender.flush, self._crash_now
        )
        self._timer_moved = trio.Event()
        self.empty = trio.Event()
        """Set while there is no session."""
        self.empty.set()
        self.ended: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        """Ended sessions by what became of them."""
        self.tally = Tally()
        """What all sessions count together."""
        self.packets_received = 0
        self.bytes_received = 0
        self.reached_media = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def packets_sent(self) -> int:
        return self._sender.packets

    @property
    def bytes_sent(self) -> int:
        return self._sender.bytes

    @property
    def ways_turned(self) -> int:
        """How often a bound address was found behind another relay than before."""
        return self._bindings.ways_turned

    def trust(self, relays: Iterable[tuple[str, int]]) -> None:
        """Take frames from these internal addresses only, and tell them of bindings that end.

        The order is that of the relays' indices.
        """
        self._relays.trust(relays)
        self._sender.use_relays(self._relays.places)

    def add(self, driven: Driven, now: float) -> None:
        """Take over a new session."""
        driven.number = next(self._numbers)
        self._sessions[driven] = None
        self._ufrags.add(driven)
        self.empty = trio.Event()
        self._drain(driven, now)
        self._sender.flush()

    def restart_ice(self, driven: Driven, local: Credentials, key_id: int, now: float) -> None:
        """Let a session's ICE restart with credentials whose ufrag that routing key has sealed."""
        if driven not in self._sessions:
            return
        driven.ufrags[local.ufrag.encode()] = key_id
        self._ufrags.add(driven)
        self._guard(driven, partial(driven.session.restart_ice, local), now)
        self._sender.flush()

    def end(self, driven: Driven, reason: EndReason, now: float) -> None:
        """End one session from our side."""
        self._guard(driven, partial(driven.session.end, reason), now)
        self._sender.flush()

    def end_all(self, reason: EndReason, now: float) -> None:
        for driven in list(self._sessions):
            self.end(driven, reason, now)

    def sessions(self) -> Iterable[Driven]:
        """Return all sessions, the oldest first."""
        return self._sessions

    def sessions_by_key(self) -> Counter[int]:
        """Count the sessions by the routing keys that sealed their ufrags.

        While ICE restarts, a session may have ufrags of two keys.
        """
        return Counter(key for driven in self._sessions for key in set(driven.ufrags.values()))

    def all_drops(self) -> Counter[str]:
        """Return the drops of sockets and routing, and of sessions that have ended."""
        total = Counter(self.drops)
        self._sender.add_drops(total)
        return total

    def receive_frame(self, data: memoryview, source: tuple[str, int], now: float) -> None:
        """Feed one frame's rows to their sessions and send what comes of it."""
        frame = self._relays.open(data, source)
        if frame is not None:
            self._take_frame(frame, source, now)

    def receive_sealed(self, data: memoryview, source: tuple[str, int], now: float) -> None:
        """Do the same with what comes from another host."""
        assert self._trunk is not None  # its socket is where this comes from
        arrival = self._trunk.open(data, source)
        if arrival is None:
            return
        way, frame = arrival
        self._bindings.arrival = frame.socket, way
        try:
            self._take_frame(frame, way, now)
        finally:
            self._bindings.arrival = None

    def command(self, driven: Driven, verb: Callable[[float], None], now: float) -> None:
        """Let a backend act on its session's media; what it wants sent leaves when it is due."""
        if driven in self._sessions:
            try:
                verb(now)
                self._schedule_media(driven)
            except Exception as exc:  # noqa: BLE001 - the crash scope of a session
                self._crash(driven, exc, now)

    def fire(self, now: float) -> None:
        """Do what is due: media first."""
        self._pacer.fire(now)
        if self._timers.next_wake() > now:
            return
        for driven in self._timers.take_due(now):
            if driven in self._sessions:
                self._guard(driven, driven.session.handle_timeout, now)
        self._sender.flush()

    async def run_timers(self) -> None:
        """Wake sessions when they asked for it."""
        while True:
            self.fire(trio.current_time())
            self._timer_moved = trio.Event()
            due = min(self._timers.next_wake(), self._pacer.next_wake())
            with trio.move_on_at(due):
                await self._timer_moved.wait()

    # From frame to session

    def _take_frame(self, frame: frames.Frame, source: Relay, now: float) -> None:
        """Feed a frame's rows to their sessions. ``source``: the relay that notices go back to."""
        way = source if isinstance(source, Way) else None
        if frame.kind == frames.CLOSED:
            self._forget(frame, way, now)
            return
        self.packets_received += len(frame.rows)
        self.bytes_received += sum(len(row.payload) for row in frame.rows)
        bindings = self._bindings
        touched: dict[Driven, None] = {}
        asked: list[tuple[bytes, Driven, Address]] = []
        for row in frame.rows:
            found = bindings.find(frame.socket, row)
            if found is None:
                continue
            driven, address = found
            session = driven.session
            strays = (driven.ways or way) and driven.ways.get(address) is not way
            heard_at = session.heard_at(address) if strays else None
            if row.flags & frames.UNCONFIRMED:
                asked.append((row.client, driven, address))
            try:
                answer = session.answer_datagram(row.payload, address, now)
            except Exception as exc:  # noqa: BLE001 - the crash scope of a session
                self._crash(driven, exc, now)
                continue
            if strays and session.heard_at(address) != heard_at:
                bindings.turn(driven, address, way)
            if session.pending or (answer is None and not is_media(row.payload)):
                touched[driven] = None
            elif answer is None:
                self._schedule_media(driven)
            if answer is not None:
                self._send_media(driven, answer)
        for driven in touched:
            self._drain(driven, now)
        if asked:
            still = [each for each in asked if each[1] in self._sessions]
            clients = bindings.confirmed(frame.socket, still)
            self._relays.notify(frames.CONFIRM, frame.socket, source, clients)
        if unbound := bindings.unbound:
            self._relays.notify(frames.RELEASE, frame.socket, source, list(unbound))
            unbound.clear()
        self._sender.flush()

    def _forget(self, frame: frames.Frame, way: Way | None, now: float) -> None:
        """Unbind clients whose connections have ended. Their sessions may have other addresses."""
        for row in frame.rows:
            unbound = self._bindings.unbind(frame.socket, row.client, way)
            if unbound is not None:
                driven, address = unbound
                self._guard(driven, partial(driven.session.forget, address), now)

    # From session to world

    def _pump(self, driven: Driven) -> None:
        """Drain a session's outputs and re-read its time-out."""
        session = driven.session
        while (transmit := session.next_datagram()) is not None:
            self._sender.send(driven, *transmit)
        while (event := session.next_event()) is not None:
            self._take_event(driven, event)
        timeout = session.next_timeout()
        if timeout is not None and self._timers.schedule(driven, timeout):
            self._timer_moved.set()
        self._schedule_media(driven)

    def _schedule_media(self, driven: Driven) -> None:
        if self._pacer.schedule(driven):
            self._timer_moved.set()

    def _send_media(self, driven: Driven, packet: bytes) -> None:
        """Queue a packet of media. The first one arms the session's reports."""
        session = driven.session
        destination = session.destination
        assert destination is not None  # there is one when there are keys
        self._sender.send(driven, packet, destination)
        if not driven.sends_media:
            driven.sends_media = True
            self._drain(driven, trio.current_time())

    def _take_event(self, driven: Driven, event: SessionEvent) -> None:
        match event:
            case AddressValidated(address):
                self._bindings.bind(driven, address)
            case UfragRetired(ufrag):
                self._ufrags.retire(driven, ufrag.encode())
            case LayerUp(layer, elapsed):
                if layer is Layer.MEDIA:
                    self.reached_media += 1
                self.tally.setup[layer].note(elapsed - driven.up_after)
                driven.up_after = elapsed
                driven.report(event)
            case Ended():
                self._remove(driven, event)
                driven.report(event)
            case _:
                assert_never(event)

    def _remove(self, driven: Driven, end: Ended) -> None:
        if driven not in self._sessions:
            return
        del self._sessions[driven]
        verdict = judge(end.reason, end.statistics)
        self._ufrags.remove(driven, given_up=verdict is Verdict.NO_CHECK)
        logger.info(
            "session %s ended: %s",
            driven.id,
            summary(end.reason, end.statistics),
            extra={
                "session_id": driven.id,
                "verdict": verdict.value,
                "reason": end.reason.value,
            },
        )
        self.ended[end.reason.value] += 1
        self.verdicts[verdict.value] += 1
        self.drops.update(driven.session.statistics().drops)
        self._bindings.remove(driven)
        self._timers.forget(driven)
        self._pacer.forget(driven)
        if not self._sessions:
            self.empty.set()

    # Time and trouble

    def _guard(self, driven: Driven, verb: Callable[[float], None], now: float) -> None:
        """Run a verb of a session and drain it; an exception ends the session."""
        try:
            verb(now)
        except Exception as exc:  # noqa: BLE001 - the crash scope of a session
            self._crash(driven, exc, now)
        self._drain(driven, now)

    def _drain(self, driven: Driven, now: float) -> None:
        if driven not in self._sessions:
            return
        try:
            self._pump(driven)
        except Exception as exc:  # noqa: BLE001 - the crash scope of a session
            self._crash(driven, exc, now)

    def _crash_now(self, driven: Driven, error: Exception) -> None:
        self._crash(driven, error, trio.current_time())

    def _crash(self, driven: Driven, error: Exception, now: float) -> None:
        """End a session whose state is unknown, with a goodbye if it still can."""
        extra = {"session_id": driven.id}
        logger.error("session %s crashed", driven.id, exc_info=error, extra=extra)
        with suppress(Exception):
            driven.session.end(EndReason.CRASHED, now)
            self._pump(driven)
        if driven in self._sessions:
            end = Ended(EndReason.CRASHED)
            self._remove(driven, end)
            driven.report(end)
