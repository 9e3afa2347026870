"""The TCP connections of one relay worker: ICE over TCP (RFC 6544), for networks that block UDP.

A connection is its own flow. Its first packet has to be a Binding request with a good ufrag, which
says for good which transceiver it belongs to; until that one has confirmed that the client has
authenticated, nothing but its Binding requests is passed on, and nobody else can write to it. What
transceivers have for a client comes as ``deliver`` frames. When a connection ends its transceiver
is told, and when the session ends so does the connection.

Nobody can hold places for long without a session. A connection that is not confirmed is *half
open*; of those there may be few, each has seconds, and a new one displaces the oldest: who comes
with a session behind him needs one round trip and wins against any number of idle ones.
"""

import errno
import socket
from collections import Counter
from collections.abc import Callable, Sequence

import trio
from attrs import field, frozen

from edge.demux import Kind, classify
from edge.errors import StunError, UfragError
from edge.fleet.owners import FIRST as FIRST_ELSEWHERE
from edge.poller import Poller
from edge.routing import frames
from edge.routing.limits import CheckLimiter
from edge.routing.peek import is_binding_request, peek_ufrag
from edge.routing.sockaddr import encode_sockaddr
from edge.streams.connection import Connection
from edge.streams.settings import StreamLimits
from edge.trunk.relaying import RelayTrunk

ACCEPTS_PER_TURN = 16
ACCEPT_PAUSE = 0.005
"""Seconds until the next turn when there are more: a flood of connections gets no further."""
SHORTAGE_PAUSE = 1.0
"""How long nobody is accepted when the system has no descriptors or memory left, or refuses."""
SWEEP_INTERVAL = 0.5

_V4 = encode_sockaddr("0.0.0.0", 0)[:2]  # noqa: S104 - how an IPv4 sockaddr begins
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@frozen
class StreamStatistics:
    connections: int
    half_open: int
    accepted: int
    refused: dict[str, int]
    """Connections that were closed at once, by reason."""
    closed: dict[str, int]
    """Connections that have ended, by reason."""


@frozen
class StreamPlace:
    """Where a relay worker's connections are among everything else of the host."""

    relay: int
    index: int
    """What stands for them among the public sockets (edge/routing/frames.py)."""
    internal: socket.socket
    transceivers: tuple[tuple[str, int], ...]
    listeners: tuple[socket.socket, ...] = field(factory=tuple)
    trunk: RelayTrunk | None = None
    """The way to transceivers of other hosts."""


class Streams:
    """All TCP connections of one relay worker.

    ``owner_of`` tells the transceiver that issued a ufrag, or raises UfragError. ``tick`` is called
    every millisecond while connections keep the worker busy.
    """

    def __init__(
        self,
        place: StreamPlace,
        limits: StreamLimits,
        owner_of: Callable[[bytes], int],
        limiter: CheckLimiter,
        drops: Counter[str],
        tick: Callable[[float], None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.packets = 0
        self.bytes = 0
        self.forwarded = 0
        self.frames = 0
        self.poller = Poller(tick)
        self.doors: list[_Door] = []
        """The listeners that are accepted from."""
        self._place = place
        self._limits = limits
        self._owner_of = owner_of
        self._limiter = limiter
        self._drops = drops
        self._clock = clock
        self._connections: dict[bytes, Connection] = {}
        self._half_open: dict[bytes, Connection] = {}
        """In order of ``proof_due``, as all have the same time."""
        self._sources: Counter[bytes] = Counter()
        self._accepted = 0
        self._refused: Counter[str] = Counter()
        self._closed: Counter[str] = Counter()

    @property
    def index(self) -> int:
        """What stands for these connections among the public sockets."""
        return self._place.index

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return bool(self._connections)

    async def run(self) -> None:
        """Serve until cancelled. Connections end with it."""
        if not self._place.listeners:
            return
        for listener in self._place.listeners:
            listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self.doors.append(_Door(listener, self))
            self.poller.add(self.doors[-1])
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.poller.run)
                nursery.start_soon(self._sweep_often)
        finally:
            self.end()

    def leave(self) -> None:
        """Accept no connections any more; those that there are go on."""
        while self.doors:
            self.poller.remove(self.doors.pop())

    def end(self) -> None:
        """Close everything, and tell the transceivers."""
        for connection in list(self._connections.values()):
            self.close(connection, "relay-ending")

    def statistics(self) -> StreamStatistics:
        return StreamStatistics(
            connections=len(self._connections),
            half_open=len(self._half_open),
            accepted=self._accepted,
            refused=dict(self._refused),
            closed=dict(self._closed),
        )

    def take_notice(self, notice: frames.Frame, transceiver: int) -> None:
        """Do what a transceiver says about clients of ours."""
        for client, _, payload in notice.rows:
            connection = self._connections.get(client)
            if connection is None:
                self._drops["tcp-no-connection"] += 1
            elif connection.transceiver != transceiver:
                self._drops["tcp-other-owner"] += 1
            elif notice.kind == frames.DELIVER:
                connection.send(payload)
            elif notice.kind == frames.CONFIRM:
                connection.confirmed = True
                self._half_open.pop(client, None)
            elif notice.kind == frames.RELEASE:
                self.close(connection, "released")

    # From connections

    def take(self, connection: Connection, packets: list[bytes], now: float) -> None:
        """Send on what a client has sent, as far as it may."""
        self.packets += len(packets)
        self.bytes += sum(len(packet) for packet in packets)
        rows: list[frames.Row] = []
        for packet in packets:
            if classify(packet) is Kind.UNKNOWN:
                self._drops["not-webrtc"] += 1
            elif is_binding_request(packet):
                if self._may_check(connection, packet, now):
                    flags = 0 if connection.confirmed else frames.UNCONFIRMED
                    rows.append(frames.Row(connection.client, flags, packet))
            elif connection.confirmed:
                rows.append(frames.Row(connection.client, 0, packet))
            else:
                self._drops["tcp-unconfirmed"] += 1
            if connection.transceiver is None:
                self.close(connection, "not-a-check")
                return
        if rows:
            self._forward(connection, rows)

    def close(self, connection: Connection, reason: str) -> None:
        """End a connection, for our reason or the client's."""
        if not connection.open:
            return
        connection.shut(in_order=reason == "released")
        client = connection.client
        del self._connections[client]
        self._half_open.pop(client, None)
        self._closed[reason] += 1
        source = _source(client)
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if connection.transceiver is not None and reason != "released":
            self._send(frames.CLOSED, connection.transceiver, [frames.Row(client, 0, b"")])

    def accept(self, listener: socket.socket, now: float) -> float | None:
        """Take new connections; return when to do so again if there may be more."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                tcp, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return None
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                shortage = exc.errno in _SHORTAGES
                self._refused["system-limit" if shortage else "not-acceptable"] += 1
                return now + SHORTAGE_PAUSE
            try:
                self._admit(tcp, _client(address), now)
            except OSError:  # of its socket: the client has gone, or the system lacks something
                self._refused["not-acceptable"] += 1
                tcp.close()
        return now + ACCEPT_PAUSE

    def _may_check(self, connection: Connection, packet: bytes, now: float) -> bool:
        """Tell whether a Binding request is passed on. The first good one says to whom for good."""
        try:
            transceiver = self._owner_of(ufrag := peek_ufrag(packet))
        except (StunError, UfragError) as exc:
            self._drops[exc.reason] += 1
            return False
        if connection.transceiver is None:
            connection.transceiver = transceiver
            self._await_proof(connection, now)
        elif connection.transceiver != transceiver:
            self._drops["tcp-other-owner"] += 1
            return False
        known = connection.client if connection.confirmed else None
        if not self._limiter.admit(ufrag, known, now):
            self._drops["too-many-checks"] += 1
            return False
        return True

    def _admit(self, tcp: socket.socket, client: bytes, now: float) -> None:
        known = self._connections.get(client)
        if known is not None and known.local == tcp.getsockname():
            self.close(known, "client")  # there is one such connection: that one has ended
        refusal = self._refusal(client)
        if refusal is not None:
            self._refused[refusal] += 1
            tcp.close()
            return
        if len(self._half_open) >= self._limits.half_open or self._full:
            self.close(next(iter(self._half_open.values())), "displaced")
        connection = Connection(tcp, client, self, self.poller, self._drops, self._clock)
        connection.start()
        self._connections[client] = connection
        self._sources[_source(client)] += 1
        self._accepted += 1
        self._await_proof(connection, now)

    @property
    def _full(self) -> bool:
        return len(self._connections) >= self._limits.connections

    def _refusal(self, client: bytes) -> str | None:
        """Return why a client cannot be taken, if so."""
        if client in self._connections:
            return "address-taken"  # it came to another of our addresses; flows have one each
        if self._sources[_source(client)] >= self._limits.per_source:
            return "source-limit"
        if self._full and not self._half_open:
            return "full"
        return None

    def _await_proof(self, connection: Connection, now: float) -> None:
        connection.proof_due = now + self._limits.proof_time
        self._half_open.pop(connection.client, None)
        self._half_open[connection.client] = connection

    async def _sweep_often(self) -> None:
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            self.sweep(self._clock())

    def sweep(self, now: float) -> None:
        """Close what has had its time."""
        limits = self._limits
        for connection in list(self._half_open.values()):
            if now < connection.proof_due:
                break
            unproven = "no-check" if connection.transceiver is None else "not-confirmed"
            self.close(connection, unproven)
        for connection in list(self._connections.values()):
            behind = connection.behind_since
            if behind is not None and now - behind >= limits.slow_time:
                self.close(connection, "slow")
            elif now - connection.heard_at >= limits.silence_time:
                self.close(connection, "silent")

    def _forward(self, connection: Connection, rows: list[frames.Row]) -> None:
        assert connection.transceiver is not None  # the first good check has said so
        if self._send(frames.PACKETS, connection.transceiver, rows):
            self.forwarded += len(rows)
            self.frames += 1
        else:
            self._drops["transceiver-not-taking"] += len(rows)

    def _send(self, kind: int, transceiver: int, rows: Sequence[frames.Row]) -> bool:
        place = self._place
        if transceiver >= FIRST_ELSEWHERE:
            assert place.trunk is not None  # which has given out the number
            return place.trunk.send_rows(kind, transceiver, place.index, rows)
        frame = frames.encode_frame(kind, place.index, place.relay, rows)
        try:
            place.internal.sendto(frame, socket.MSG_DONTWAIT, place.transceivers[transceiver])
        except OSError:
            return False
        return True


class _Door:
    """A listener, as the poller knows it."""

    def __init__(self, listener: socket.socket, streams: Streams) -> None:
        self._listener = listener
        self._streams = streams

    def fileno(self) -> int:
        return self._listener.fileno()

    def read(self, now: float) -> float | None:
        return self._streams.accept(self._listener, now)

    def write(self) -> None:
        """Is never asked for."""

    def crash(self, error: Exception) -> None:  # noqa: ARG002 - the poller's signature
        """It does not listen any more: the supervisor takes this worker out."""
        self._streams.poller.remove(self)
        self._streams.doors.remove(self)


def _client(address: tuple[str, int] | tuple[str, int, int, int]) -> bytes:
    host, port, *rest = address
    host = host.partition("%")[0]
    scope = rest[1] if rest else 0
    return encode_sockaddr(f"{host}%{scope}" if scope else host, port)


def _source(client: bytes) -> bytes:
    """Return what stands for everybody who may share an address: IPv4 /32, IPv6 /64."""
    return client[4:8] if client.startswith(_V4) else client[8:16]
