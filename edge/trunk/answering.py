"""A transceiver worker's end of the trunk: packets from relays of other hosts in, answers back.

A frame from a relay elsewhere is authentic or nothing (edge/fleet/seal.py). It says by which public
address its packets came in, the *entrance*, and it tells the *way* back: the relay worker that has
sent it, and which of that worker's public sockets. Entrances are part of a client's address, as
public sockets are on the host itself; ways are not. So when a public address moves to another host,
the client's address stays what it was, and the driver has only to learn the new way.

Only members of the fleet can make a way.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edge.errors import FrameError
from edge.fleet.map import FleetKey, FleetMap
from edge.fleet.seal import NO_ENTRANCE, FrameOpener, KeyRing, Place
from edge.routing import frames
from edge.trunk.line import NOTICE_ROWS_MAX, Line
from edge.trunk.settings import PACKET_BYTES_MAX, RELAYS_MAX, TrunkSettings, place_of
from edge.udp import SendBatch

WAYS_MAX = 4_096
"""The one that was used longest ago makes room. Sessions that have it keep it."""
ENTRANCES_MAX = 4_096
FIRST_ENTRANCE = frames.SOCKETS_MAX
"""Entrances that this host has not are numbered from here on."""
_ROWS_MAX = 64
_TAKEN = frozenset({frames.PACKETS, frames.CLOSED})


class Way:
    """Back to clients through one public socket of one relay worker of another host."""

    def __init__(
        self,
        line: Line,
        public_socket: int,
        used: dict["Way", None],
        drops: Counter[str],
        clock: Callable[[], float],
    ) -> None:
        self._line = line
        self._public_socket = public_socket
        self._used = used
        self._clock = clock
        self._drops = drops
        self._rows: list[bytes] = []

    def add(self, payload: bytes, client: bytes) -> None:
        """Queue one packet to a 28-byte address; sends what is queued when it is much."""
        if len(payload) > PACKET_BYTES_MAX:
            self._drops["send-too-long"] += 1
            return
        if not self._rows:
            self._used[self] = None
        self._rows.append(frames.ROW_HEAD.pack(client, len(payload), 0) + payload)
        if len(self._rows) == _ROWS_MAX:
            self.flush()

    def flush(self) -> None:
        """Hand over what is queued; it leaves with the trunk's next ``flush``."""
        if self._rows:
            self._send(frames.DELIVER, self._rows)
            self._rows.clear()

    def notify(self, kind: int, clients: Sequence[bytes]) -> None:
        """Tell the relay something about clients, behind what is queued for them."""
        self.flush()
        for start in range(0, len(clients), NOTICE_ROWS_MAX):
            part = clients[start : start + NOTICE_ROWS_MAX]
            self._send(kind, [frames.ROW_HEAD.pack(client, 0, 0) for client in part])
        self._used[self] = None

    def _send(self, kind: int, rows: Sequence[bytes]) -> None:
        self._line.send(kind, self._public_socket, NO_ENTRANCE, rows, self._clock())


class Arrival(NamedTuple):
    """What an authentic datagram of a relay elsewhere brings."""

    way: Way
    frame: frames.Frame
    """Its socket is the entrance's number."""


class TransceiverTrunk:
    """One worker's end: opens what comes in, and has the ways back."""

    def __init__(self, settings: TrunkSettings, clock: Callable[[], float] = time.time) -> None:
        self.socket = settings.socket
        self.drops: Counter[str] = Counter()
        self.frames = 0
        """Taken so far."""
        self._fleet = settings.fleet
        self._here = place_of(settings.socket)
        self._clock = clock
        self._ring = KeyRing(settings.keys)
        self._opener = FrameOpener(self._ring, self._here)
        self._out = SendBatch(settings.socket.fileno(), settings.socket.family)
        self._used: dict[Way, None] = {}
        """Ways with something queued."""
        self._lines: dict[Place, Line] = {}
        self._ways: dict[tuple[Place, int], Way] = {}
        """In the order of their latest use."""
        self._entrances = {entrance: index for index, entrance in enumerate(settings.entrances)}
        self._latest: dict[int, Way] = {}
        """By number of the entrance: the way of its latest frame."""

    @property
    def ways(self) -> int:
        """How many there are."""
        return len(self._ways)

    def use_keys(self, keys: Sequence[FleetKey]) -> None:
        """Seal with the first of these keys from now on, and open with all of them."""
        self._ring.use(keys)

    def open(self, data: memoryview, source: Place) -> Arrival | None:
        """Return what a datagram brings, if it is a relay's; else count it."""
        try:
            arrival = self._open(data, source)
        except FrameError as exc:
            self.drops[exc.reason] += 1
            return None
        self.frames += 1
        return arrival

    def latest(self, entrance: int) -> Way | None:
        """Return the way by which the latest frame of an entrance came."""
        return self._latest.get(entrance)

    def flush(self) -> None:
        """Send all that is queued on any way."""
        if not self._used:
            return
        for way in self._used:
            way.flush()
        self._used.clear()
        self._out.flush()

    def all_drops(self) -> Counter[str]:
        """Return what was not taken and what was not sent, by reason."""
        return self.drops + self._out.drops

    def _open(self, data: memoryview, source: Place) -> Arrival:
        if not _is_relay(self._fleet, source):
            raise FrameError("frame-from-stranger")
        opened = self._opener.open(data, source, self._clock())
        frame = frames.decode_frame(opened.frame)
        if frame.kind not in _TAKEN:
            raise FrameError("unexpected-frame")
        entrance = self._entrance(opened.entrance)
        way = self._way(source, frame.socket)
        self._latest[entrance] = way
        return Arrival(way, frame._replace(socket=entrance))

    def _entrance(self, entrance: bytes) -> int:
        """Return the number of an entrance: a public socket's, if this host has that address."""
        number = self._entrances.get(entrance)
        if number is None:
            if len(self._entrances) >= ENTRANCES_MAX:
                raise FrameError("entrances-full")
            number = self._entrances[entrance] = FIRST_ENTRANCE + len(self._entrances)
        return number

    def _way(self, relay: Place, public_socket: int) -> Way:
        key = relay, public_socket
        way = self._ways.pop(key, None)
        if way is None:
            if len(self._ways) >= WAYS_MAX:
                del self._ways[next(iter(self._ways))]
            way = Way(self._line(relay), public_socket, self._used, self.drops, self._clock)
        self._ways[key] = way
        return way

    def _line(self, relay: Place) -> Line:
        line = self._lines.get(relay)
        if line is None:
            if len(self._lines) >= WAYS_MAX:
                self._lines.clear()
            self._lines[relay] = line = Line(self._out, self._ring, self._here, relay)
        return line


def _is_relay(fleet: FleetMap, source: Place) -> bool:
    """Whether a relay worker of a member sends from there."""
    host, port = source
    return 0 <= port - fleet.relay_port < RELAYS_MAX and fleet.member_at(host) is not None
