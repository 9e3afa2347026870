"""Drives the sessions of one worker: the only code that drains a session machine.

Frames come in from relays, rows are fed to the sessions that own them, and everything that the
touched sessions produced goes out at once: datagrams batched on the public sockets, events to the
session's reporter, the next time-out into one heap for the whole worker.

A row belongs to the session whose ufrag a Binding request names, or else to the session that its
client address is bound to. An address is bound when a session has authenticated a check from it,
and stays with that session as long as the session holds it valid: another session cannot take it
over, whatever valid check is sent from it. Relays are told of every binding they ask about, and of
its end.

Clients that come over TCP are reached through the relay worker that has their connection: it takes
the place of a public socket. So do the public addresses of other hosts' relays (edge/trunk/). Which
relay has such an address, or one of our own, may change under a call: the way back to a bound
address is the one by which the latest authentic packet came from there, a check or media.

An exception out of a session ends that session only.
"""

import heapq
import itertools
import logging
import math
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import assert_never

import trio
from attrs import frozen

from edge.demux import is_media
from edge.errors import FrameError, StunError
from edge.ice.credentials import Credentials
from edge.machine import Address
from edge.media.punctuality import Punctuality
from edge.routing import frames
from edge.routing.peek import is_binding_request, peek_ufrag
from edge.routing.sockaddr import decode_sockaddr, encode_sockaddr
from edge.signal.messages import Verdict
from edge.transceiver.driven import Driven
from edge.transceiver.pacing import Pacer
from edge.transceiver.returning import StreamBatch
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
from edge.transceiver.verdict import judge, summary
from edge.trunk.answering import TransceiverTrunk, Way
from edge.udp import SendBatch

logger = logging.getLogger(__name__)

BINDINGS_MAX = 32
"""Addresses bound to one session; the agent's own table is smaller."""


GIVEN_UP_MAX = 1024
"""Ufrags of sessions without a check that are remembered."""


@frozen
class _Binding:
    driven: Driven
    address: Address


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
        self._internal = internal
        self._trunk = trunk
        self._arrival: tuple[int, Way] | None = None
        """The entrance and the way of the present frame, if it came from another host."""
        self._batches: list[SendBatch | StreamBatch] = [
            SendBatch(one.fileno(), one.family) for one in public
        ]
        """By index of the public socket; behind them the relays, for their TCP clients."""
        self._udp_sockets = len(public)
        self._bindings: dict[int, dict[bytes, _Binding]] = {
            index: {} for index in range(len(public))
        }
        """By public socket, TCP clients' relay or entrance of other hosts."""
        self.trust(relays)
        self._sessions: dict[Driven, None] = {}
        self._by_ufrag: dict[bytes, Driven] = {}
        self._given_up: dict[bytes, str] = {}
        """Ufrags of sessions that ended without a check, and their ids: the latest ones."""
        self._unbound: dict[bytes, None] = {}
        """Clients of the present frame that a relay takes for ours, and that are not."""
        self._timers: list[tuple[float, int, Driven]] = []
        self._timer_order = itertools.count()
        self._numbers = itertools.count(1)
        self._pacer = Pacer(
            punctuality, trio.current_time, self._send_media, self._flush, self._crash_now
        )
        self._timer_moved = trio.Event()
        self.empty = trio.Event()
        """Set while there is no session."""
        self.empty.set()
        self.drops: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        """Ended sessions by what became of them."""
        self.tally = Tally()
        """What all sessions count together."""
        self.ways_turned = 0
        """How often a bound address was found behind another relay than before."""
        self.packets_received = 0
        self.packets_sent = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.reached_media = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def trust(self, relays: Iterable[tuple[str, int]]) -> None:
        """Take frames from these internal addresses only, and tell them of bindings that end.

        The order is that of the relays' indices.
        """
        known = tuple(relays)
        self._relays = frozenset(known)
        for index, relay in enumerate(known, self._udp_sockets):
            if index < len(self._batches):
                batch = self._batches[index]
                assert isinstance(batch, StreamBatch)  # the others are before it
                batch.relay = relay
            elif index < frames.SOCKETS_MAX:
                self._batches.append(StreamBatch(self._internal, relay, index))
                self._bindings[index] = {}

    def add(self, driven: Driven, now: float) -> None:
        """Take over a new session."""
        driven.number = next(self._numbers)
        self._sessions[driven] = None
        self._by_ufrag.update(dict.fromkeys(driven.ufrags, driven))
        self.empty = trio.Event()
        self._drain(driven, now)
        self._flush()

    def restart_ice(self, driven: Driven, local: Credentials, key_id: int, now: float) -> None:
        """Let a session's ICE restart with credentials whose ufrag that routing key has sealed."""
        if driven not in self._sessions:
            return
        ufrag = local.ufrag.encode()
        driven.ufrags[ufrag] = key_id
        self._by_ufrag[ufrag] = driven
        self._guard(driven, partial(driven.session.restart_ice, local), now)
        self._flush()

    def end(self, driven: Driven, reason: EndReason, now: float) -> None:
        """End one session from our side."""
        self._guard(driven, partial(driven.session.end, reason), now)
        self._flush()

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
        for batch in self._batches:
            total.update(batch.drops)
        if self._trunk is not None:
            total.update(self._trunk.all_drops())
        return total

    def receive_frame(self, data: memoryview, source: tuple[str, int], now: float) -> None:
        """Feed one frame's rows to their sessions and send what comes of it."""
        frame = self._decode(data, source)
        if frame is not None:
            self._take_frame(frame, source, now)

    def receive_sealed(self, data: memoryview, source: tuple[str, int], now: float) -> None:
        """Do the same with what comes from another host."""
        assert self._trunk is not None  # its socket is where this comes from
        arrival = self._trunk.open(data, source)
        if arrival is None:
            return
        way, frame = arrival
        self._bindings.setdefault(frame.socket, {})
        self._arrival = frame.socket, way
        try:
            self._take_frame(frame, way, now)
        finally:
            self._arrival = None

    def _take_frame(self, frame: frames.Frame, source: tuple[str, int] | Way, now: float) -> None:
        """Feed a frame's rows to their sessions. ``source``: the relay that notices go back to."""
        way = source if isinstance(source, Way) else None
        if frame.kind == frames.CLOSED:
            self._forget(frame, way, now)
            return
        self.packets_received += len(frame.rows)
        self.bytes_received += sum(len(row.payload) for row in frame.rows)
        touched: dict[Driven, None] = {}
        asked: list[tuple[bytes, Driven, Address]] = []
        for row in frame.rows:
            found = self._find(frame.socket, row)
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
                self._turn(driven, address, way)
            if session.pending or (answer is None and not is_media(row.payload)):
                touched[driven] = None
            elif answer is None:
                self._schedule_media(driven)
            if answer is not None:
                self._send_media(driven, answer)
        for driven in touched:
            self._drain(driven, now)
        if asked:
            self._confirm(frame.socket, source, asked)
        if self._unbound:
            self._notify(frames.RELEASE, frame.socket, source, list(self._unbound))
            self._unbound.clear()
        self._flush()

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
        timers = self._timers
        if not timers or timers[0][0] > now:
            return
        while timers and timers[0][0] <= now:
            due, _, driven = heapq.heappop(timers)
            if due > driven.wakes_at:
                continue  # an earlier entry has already done its work
            driven.wakes_at = math.inf
            if driven in self._sessions:
                self._guard(driven, driven.session.handle_timeout, now)
        self._flush()

    async def run_timers(self) -> None:
        """Wake sessions when they asked for it."""
        while True:
            self.fire(trio.current_time())
            self._timer_moved = trio.Event()
            due = self._timers[0][0] if self._timers else math.inf
            due = min(due, self._pacer.next_wake())
            with trio.move_on_at(due):
                await self._timer_moved.wait()

    # From frame to session

    def _decode(self, data: memoryview, source: tuple[str, int]) -> frames.Frame | None:
        """Return a frame that a relay may send; count it if it may not."""
        if source not in self._relays:
            self.drops["frame-from-stranger"] += 1
            return None
        try:
            frame = frames.decode_frame(data)
        except FrameError as exc:
            self.drops[exc.reason] += 1
            return None
        if frame.socket < self._udp_sockets:
            expected = frame.kind == frames.PACKETS
        else:  # nobody speaks for another relay's TCP clients
            expected = frame.kind in {frames.PACKETS, frames.CLOSED}
            expected = expected and source in self._relays_of(frame.socket)
        if not expected:
            self.drops["unexpected-frame"] += 1
            return None
        return frame

    def _relays_of(self, public_socket: int) -> frozenset[tuple[str, int]]:
        """Return the relays that may have flows of a public socket."""
        if public_socket >= len(self._batches):
            return frozenset()
        batch = self._batches[public_socket]
        return frozenset({batch.relay}) if isinstance(batch, StreamBatch) else self._relays

    def _forget(self, frame: frames.Frame, way: Way | None, now: float) -> None:
        """Unbind clients whose connections have ended. Their sessions may have other addresses."""
        table = self._bindings[frame.socket]
        for row in frame.rows:
            binding = table.get(row.client)
            if binding is not None and binding.driven.ways.get(binding.address) is way:
                driven, address = binding.driven, binding.address
                del table[row.client], driven.addresses[address]
                driven.ways.pop(address, None)
                self._guard(driven, partial(driven.session.forget, address), now)

    def _find(self, public_socket: int, row: frames.Row) -> tuple[Driven, Address] | None:
        """Return whose packet a row is, and the address it came from; count it if nobody's."""
        payload = row.payload
        binding = self._bindings[public_socket].get(row.client)
        if payload and payload[0] <= 3 and is_binding_request(payload):
            return self._find_by_ufrag(public_socket, row, binding)
        if binding is None:
            self.drops["unbound-address"] += 1
            self._unbound[row.client] = None
            return None
        return binding.driven, binding.address

    def _find_by_ufrag(
        self, public_socket: int, row: frames.Row, binding: _Binding | None
    ) -> tuple[Driven, Address] | None:
        try:
            ufrag = peek_ufrag(row.payload)
        except StunError as exc:
            self.drops[exc.reason] += 1
            return None
        driven = self._by_ufrag.get(ufrag)
        if driven is None:
            self._drop_unknown(ufrag)
            return None
        if binding is not None and binding.driven is driven:
            return driven, binding.address
        try:
            host, port = decode_sockaddr(row.client)
        except FrameError as exc:
            self.drops[exc.reason] += 1
            return None
        return driven, Address(host, port, public_socket)

    def _drop_unknown(self, ufrag: bytes) -> None:
        """Count a check for nobody; say whom it would have been for, if it comes too late."""
        late = self._given_up.pop(ufrag, None)
        if late is None:
            self.drops["unknown-session"] += 1
            return
        self.drops["ufrag-expired"] += 1
        logger.info(
            "session %s: its first check came after it had been given up",
            late,
            extra={"session_id": late},
        )

    def _note_given_up(self, ufrag: bytes, session: str) -> None:
        if len(self._given_up) >= GIVEN_UP_MAX:
            del self._given_up[next(iter(self._given_up))]
        self._given_up[ufrag] = session

    # From session to world

    def _pump(self, driven: Driven) -> None:
        """Drain a session's outputs and re-read its time-out."""
        session = driven.session
        while (transmit := session.next_datagram()) is not None:
            self._send(driven, *transmit)
        while (event := session.next_event()) is not None:
            self._take_event(driven, event)
        timeout = session.next_timeout()
        if timeout is not None and timeout < driven.wakes_at:
            driven.wakes_at = timeout
            heapq.heappush(self._timers, (timeout, next(self._timer_order), driven))
            if self._timers[0][2] is driven:
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
        self._send(driven, packet, destination)
        if not driven.sends_media:
            driven.sends_media = True
            self._drain(driven, trio.current_time())

    def _send(self, driven: Driven, payload: bytes, destination: Address) -> None:
        client = driven.addresses.get(destination)
        if client is None:
            client = encode_sockaddr(destination.host, destination.port)
            way = self._way_of(destination.socket)
        else:
            way = driven.ways.get(destination) if driven.ways else None
        (way or self._batches[destination.socket]).add(payload, client)
        self.packets_sent += 1
        self.bytes_sent += len(payload)

    def _take_event(self, driven: Driven, event: SessionEvent) -> None:
        match event:
            case AddressValidated(address):
                self._bind(driven, address)
            case UfragRetired(ufrag):
                retired = ufrag.encode()
                if driven.ufrags.pop(retired, None) is not None:
                    del self._by_ufrag[retired]
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

    def _way_of(self, public_socket: int) -> Way | None:
        """Return the way to an address that nothing is known of; None: this host's own."""
        if self._arrival is not None and self._arrival[0] == public_socket:
            return self._arrival[1]
        if public_socket < frames.SOCKETS_MAX or self._trunk is None:
            return None
        return self._trunk.latest(public_socket)

    def _turn(self, driven: Driven, address: Address, way: Way | None) -> None:
        """Use another way back to an address: something authentic came from there by it."""
        if address not in driven.addresses:
            return
        if way is None:
            del driven.ways[address]
        else:
            driven.ways[address] = way
        self.ways_turned += 1

    def _bind(self, driven: Driven, address: Address) -> None:
        table = self._bindings[address.socket]
        client = encode_sockaddr(address.host, address.port)
        held = table.get(client)
        if held is not None and held.driven is not driven:
            if held.driven.session.valid(address):
                self.drops["address-conflict"] += 1
                return
            del held.driven.addresses[address]
            held.driven.ways.pop(address, None)
        if len(driven.addresses) >= BINDINGS_MAX:
            oldest = next(iter(driven.addresses))
            evicted = driven.addresses.pop(oldest)
            del self._bindings[oldest.socket][evicted]
            self._release(oldest.socket, driven.ways.pop(oldest, None), [evicted])
        table[client] = _Binding(driven, address)
        driven.addresses[address] = client
        way = self._way_of(address.socket)
        if way is not None:
            driven.ways[address] = way

    def _remove(self, driven: Driven, end: Ended) -> None:
        if driven not in self._sessions:
            return
        del self._sessions[driven]
        verdict = judge(end.reason, end.statistics)
        for ufrag in driven.ufrags:
            del self._by_ufrag[ufrag]
            if verdict is Verdict.NO_CHECK:
                self._note_given_up(ufrag, driven.id)
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
        released: defaultdict[tuple[int, Way | None], list[bytes]] = defaultdict(list)
        for address, client in driven.addresses.items():
            del self._bindings[address.socket][client]
            released[address.socket, driven.ways.get(address)].append(client)
        driven.addresses.clear()
        driven.ways.clear()
        for (public_socket, way), clients in released.items():
            self._release(public_socket, way, clients)
        self._forget_timers(driven)
        if not self._sessions:
            self.empty.set()

    def _forget_timers(self, driven: Driven) -> None:
        """Keep no ended session alive until its last time-out would have come."""
        kept = [entry for entry in self._timers if entry[2] is not driven]
        heapq.heapify(kept)
        self._timers[:] = kept
        self._pacer.forget(driven)

    def _confirm(
        self,
        public_socket: int,
        relay: tuple[str, int] | Way,
        asked: list[tuple[bytes, Driven, Address]],
    ) -> None:
        """Tell the relay which of the clients it asked about have authenticated.

        One that did so while its address was another session's is bound now if that one has left.
        """
        table = self._bindings[public_socket]
        clients: list[bytes] = []
        for client, driven, address in asked:
            binding = table.get(client)
            free = binding is None or not binding.driven.session.valid(address)
            if free and driven in self._sessions and driven.session.valid(address):
                self._bind(driven, address)
                binding = table.get(client)
            if binding is not None and binding.driven is driven:
                clients.append(client)
        self._notify(frames.CONFIRM, public_socket, relay, clients)

    def _release(self, public_socket: int, way: Way | None, clients: list[bytes]) -> None:
        """Tell the relays that these clients are nobody's here any more."""
        for relay in self._relays_of(public_socket):
            self._notify(frames.RELEASE, public_socket, relay, clients)
        if way is not None:
            way.notify(frames.RELEASE, clients)

    def _notify(
        self, kind: int, public_socket: int, relay: tuple[str, int] | Way, clients: list[bytes]
    ) -> None:
        if isinstance(relay, Way):
            relay.notify(kind, clients)
            return
        for start in range(0, len(clients), frames.NOTICE_ROWS_MAX):
            part = clients[start : start + frames.NOTICE_ROWS_MAX]
            rows = (frames.Row(client, 0, b"") for client in part)
            notice = frames.encode_frame(kind, public_socket, 0, rows)
            try:
                self._internal.sendto(notice, socket.MSG_DONTWAIT, relay)
            except OSError:
                self.drops["notice-not-taken"] += 1

    def _flush(self) -> None:
        for batch in self._batches:
            batch.flush()
        if self._trunk is not None:
            self._trunk.flush()

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
