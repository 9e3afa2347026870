"""A relay worker's end of the trunk: packets out to transceivers of other hosts, theirs back in.

Rows for a transceiver elsewhere leave in sealed frames (edge/fleet/seal.py), a few of them in each,
by one socket of the worker. What the transceivers have for the clients comes to the same socket, as
``deliver`` frames, and so do their notices. Nothing else does: a relay takes no packets from
another relay, so none can go in a circle.

A transceiver may send only to clients whose packets this relay takes to it, and confirm only those
(edge/forwarding/notices.py): nobody in the fleet can have a relay send to whom he likes.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import trio
from attrs import frozen

from edge.errors import FrameError, UfragError
from edge.fleet.map import FleetKey
from edge.fleet.owners import Owners, Transceiver
from edge.fleet.seal import FrameOpener, KeyRing, Place, entrance_id
from edge.routing import frames
from edge.routing.sockaddr import decode_sockaddr
from edge.trunk.line import Line
from edge.trunk.settings import PACKET_BYTES_MAX, TrunkSettings, place_of
from edge.udp import PAYLOAD_OFFSET, ReceiveBatch, SendBatch

BATCHES_PER_WAKE = 4
ACTIVE_TIME = 1.0
"""Seconds after the latest frame for which more are expected."""
SOURCES_MAX = 16_384
_ROW_BYTES_MAX = PAYLOAD_OFFSET + PACKET_BYTES_MAX
_HANDED_BACK = frozenset({frames.DELIVER, frames.CONFIRM, frames.RELEASE})

Take = Callable[[frames.Frame, int], None]
"""Takes a frame of a transceiver elsewhere and the transceiver's number as an owner."""


@frozen
class TrunkStatistics:
    owners: int
    """Transceivers of other hosts that were met."""
    packets: int
    """Sent to them."""
    frames: int
    """That those packets took."""
    frames_back: int
    """Authentic ones that came from them."""


class RelayTrunk:
    """``take`` gets what comes in; ``flush`` is called when a batch of that has been taken."""

    def __init__(
        self,
        settings: TrunkSettings,
        drops: Counter[str],
        take: Take,
        flush: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.owners = Owners(settings.fleet)
        self.socket = settings.socket
        self.packets = 0
        self._settings = settings
        self._here = place_of(settings.socket)
        self._drops = drops
        self._take = take
        self._flush = flush
        self._clock = clock
        self._ring = KeyRing(settings.keys)
        self._opener = FrameOpener(self._ring, self._here)
        self._out = SendBatch(settings.socket.fileno(), settings.socket.family)
        self._lines: dict[int, Line] = {}
        self._changes = 0
        self._frames_sent = 0
        self._batch = ReceiveBatch(settings.socket.fileno(), b"")
        self._sources: dict[bytes, tuple[Place, Transceiver]] = {}
        self._frames_back = 0
        self._active_until = 0.0
        self._stream_entrance = entrance_id(*self._here, "tcp")

    @property
    def active(self) -> bool:
        """Whether frames come, or may be expected to."""
        return time.monotonic() < self._active_until

    def fileno(self) -> int:
        return self.socket.fileno()

    def use_keys(self, keys: Sequence[FleetKey]) -> None:
        """Seal with the first of these keys from now on, and open with all of them."""
        self._ring.use(keys)

    def statistics(self) -> TrunkStatistics:
        return TrunkStatistics(
            owners=len(self.owners),
            packets=self.packets,
            frames=self._frames_sent,
            frames_back=self._frames_back,
        )

    def all_drops(self) -> Counter[str]:
        """Return what the socket did not take, by reason."""
        return self._out.drops

    # Out

    def send_batch(
        self, batch: ReceiveBatch, owned: Sequence[tuple[int, int]], public_socket: int
    ) -> int:
        """Send rows of a sealed receive batch: pairs of owner and row. Return how many went out."""
        by_owner: dict[int, list[bytes | memoryview]] = {}
        for owner, row in owned:
            by_owner.setdefault(owner, []).append(batch.row(row))
        entrance = self._settings.entrances[public_socket]
        now = self._clock()
        sent = sum(
            self._queue(frames.PACKETS, owner, public_socket, entrance, its_rows, now)
            for owner, its_rows in by_owner.items()
        )
        self._out.flush()
        self.packets += sent
        return sent

    def send_rows(
        self, kind: int, owner: int, public_socket: int, rows: Sequence[frames.Row]
    ) -> bool:
        """Send packets that were copied, or a notice; return whether any went out.

        A ``public_socket`` beyond the last one stands for the worker's TCP clients.
        """
        wires = [
            frames.ROW_HEAD.pack(row.client, len(row.payload), row.flags) + row.payload
            for row in rows
        ]
        entrances = self._settings.entrances
        by_tcp = public_socket >= len(entrances)
        entrance = self._stream_entrance if by_tcp else entrances[public_socket]
        sent = self._queue(kind, owner, public_socket, entrance, wires, self._clock())
        self._out.flush()
        if kind == frames.PACKETS:
            self.packets += sent
        return sent > 0

    def _queue(
        self,
        kind: int,
        owner: int,
        public_socket: int,
        entrance: bytes,
        rows: Sequence[bytes | memoryview],
        unix_now: float,
    ) -> int:
        line = self._line(owner)
        if line is None:
            self._drops["transceiver-gone"] += len(rows)
            return 0
        fitting = [row for row in rows if len(row) <= _ROW_BYTES_MAX]
        if len(fitting) < len(rows):
            self._drops["too-long"] += len(rows) - len(fitting)
        if fitting:
            before = line.frames
            line.send(kind, public_socket, entrance, fitting, unix_now)
            self._frames_sent += line.frames - before
        return len(fitting)

    def _line(self, owner: int) -> Line | None:
        """Return the way to an owner; None if it is not in the fleet any more."""
        self._follow_changes()
        line = self._lines.get(owner)
        if line is None:
            there = self.owners.place_of(self.owners.transceiver(owner))
            if there is None:
                return None
            self._lines[owner] = line = Line(self._out, self._ring, self._here, there)
        return line

    # Back

    async def run(self) -> None:
        """Take what comes while nobody calls ``receive_waiting``."""
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            self.receive_waiting()

    def receive_waiting(self) -> None:
        """Take what has come, some batches at most; do not wait."""
        for _ in range(BATCHES_PER_WAKE):
            count = self._batch.receive()
            if not count:
                return
            now = self._clock()
            for row in range(count):
                self._receive(row, now)
            self._flush()

    def _receive(self, row: int, unix_now: float) -> None:
        try:
            frame, owner = self._open(row, unix_now)
        except (FrameError, UfragError) as exc:
            self._drops[exc.reason] += 1
            return
        self._frames_back += 1
        self._active_until = time.monotonic() + ACTIVE_TIME
        self._take(frame, owner)

    def _open(self, row: int, unix_now: float) -> tuple[frames.Frame, int]:
        """Return the frame that a row holds, and whose it is."""
        batch = self._batch
        source, who = self._source(batch.client(row))
        if batch.is_truncated(row):
            raise FrameError("too-long")
        opened = self._opener.open(batch.payload(row), source, unix_now)
        frame = frames.decode_frame(opened.frame)
        if frame.kind not in _HANDED_BACK:
            raise FrameError("unexpected-frame")
        return frame, self.owners.find(*who)

    def _source(self, raw: bytes) -> tuple[Place, Transceiver]:
        """Return where a datagram is from, and which transceiver that is."""
        self._follow_changes()
        known = self._sources.get(raw)
        if known is None:
            place = decode_sockaddr(raw)
            who = self.owners.at(place)
            if who is None:
                raise FrameError("frame-from-stranger")
            if len(self._sources) >= SOURCES_MAX:
                self._sources.clear()
            self._sources[raw] = known = place, who
        return known

    def _follow_changes(self) -> None:
        """Forget what was found out about places if it may not hold any more."""
        if self._changes != self.owners.changes:
            self._changes = self.owners.changes
            self._lines.clear()
            self._sources.clear()
