"""One client's TCP connection: packets in, packets out, and what may wait meanwhile.

What the client does not read waits here and not in the kernel, where nothing could be dropped any
more: the kernel is told to take no more than ``UNSENT_BYTES_MAX`` beyond what is on its way.
"""

import contextlib
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from edge.errors import FrameError
from edge.poller import Poller
from edge.routing.framing import PacketReader, PacketWriter
from edge.udp import PAYLOAD_BYTES_MAX

logger = logging.getLogger(__name__)

BACKLOG_BYTES_MAX = 65_536
STALE_AFTER = 0.5
"""Seconds after which sound that waits is too old to be of use."""
UNSENT_BYTES_MAX = 4_096
WRITE_BYTES = 16_384
READ_RATE_MAX = 125_000.0
"""Bytes per second, ten times what a call needs; whoever sends more is read that fast."""
READ_BURST = 65_536.0

_TCP_NOTSENT_LOWAT = 25
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Owner(Protocol):
    """Who takes what a connection brings."""

    def take(self, connection: "Connection", packets: list[bytes], now: float) -> None:
        """These packets have come. May close the connection."""

    def close(self, connection: "Connection", reason: str) -> None:
        """The connection cannot go on."""


class Connection:
    """One accepted connection, from ``start`` until ``shut``. Times: seconds on Trio's clock."""

    def __init__(
        self,
        tcp: socket.socket,
        client: bytes,
        owner: Owner,
        poller: Poller,
        drops: Counter[str],
        clock: Callable[[], float],
    ) -> None:
        self.client = client
        """28 bytes, see edge/routing/sockaddr.py."""
        self.transceiver: int | None = None
        """The owner of the session, by the ufrag of the first check; never another."""
        self.confirmed = False
        """That session has authenticated the client."""
        self.proof_due = 0.0
        """When it has to be a step further, as long as it is not confirmed."""
        self.heard_at = clock()
        self.behind_since: float | None = None
        """Since when there has always been something that waits to be written."""
        self.open = True
        self._socket = tcp
        self._owner = owner
        self._poller = poller
        self._clock = clock
        self._reader = PacketReader(PAYLOAD_BYTES_MAX)
        self._writer = PacketWriter(BACKLOG_BYTES_MAX, STALE_AFTER, drops)
        self._credit = READ_BURST
        self._credited_at = self.heard_at

    def start(self) -> None:
        """Set the socket up and have it watched."""
        tcp = self._socket
        tcp.setblocking(False)  # noqa: FBT003 - the standard library's signature
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
        self._poller.add(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def local(self) -> object:
        """The address of ours that the client came to."""
        return self._socket.getsockname()

    def read(self, now: float) -> float | None:
        """Take what has come, as far as there is room and the client is not too fast."""
        if not self.open:
            return None
        try:
            data = self._socket.recv(self._reader.room)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            data = b""
        if not data:
            self._owner.close(self, "client")
            return None
        self.heard_at = now
        self._reader.receive(data)
        broken = False
        packets: list[bytes] = []
        try:
            while (packet := self._reader.next_packet()) is not None:
                packets.append(packet)
        except FrameError:
            broken = True
        if packets:
            self._owner.take(self, packets, now)
        if broken and self.open:
            self._owner.close(self, "too-long")
        return self._rest(len(data), now)

    def send(self, packet: bytes) -> None:
        """Write a packet as soon as the client takes it."""
        if not self.open:
            return
        now = self._clock()
        self._writer.push(packet, now)
        if self.behind_since is None:
            self._write(now)

    def write(self) -> None:
        if self.open:
            self._write(self._clock())

    def crash(self, error: Exception) -> None:
        logger.error("a TCP connection crashed", exc_info=error)
        self._owner.close(self, "crashed")

    def shut(self, *, in_order: bool) -> None:
        """Close the socket. ``in_order``: the kernel goes on to deliver what it has taken."""
        if not self.open:
            return
        self.open = False
        self._poller.remove(self)
        with contextlib.suppress(OSError):
            if not in_order:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._socket.close()

    def _write(self, now: float) -> None:
        writer = self._writer
        while chunk := writer.head(WRITE_BYTES, now):
            try:
                count = self._socket.send(chunk)
            except (BlockingIOError, InterruptedError):
                count = 0
            except OSError:
                self._owner.close(self, "client")
                return
            writer.advance(count)
            if count < len(chunk):
                break
        behind = len(writer) > 0
        if behind != (self.behind_since is not None):
            self.behind_since = now if behind else None
            self._poller.want_write(self, wanted=behind)

    def _rest(self, size: int, now: float) -> float | None:
        """Count what was read; return until when this client has had enough."""
        gained = (now - self._credited_at) * READ_RATE_MAX
        self._credit = min(READ_BURST, self._credit + gained) - size
        self._credited_at = now
        return None if self._credit >= 0 or not self.open else now - self._credit / READ_RATE_MAX
