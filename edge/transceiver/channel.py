"""One connection between two transceiver workers, and the sockets that those of a host make it by.

Every worker listens on a Unix socket that the supervisor holds, so that a successor is found under
the same name.
"""

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from edge.errors import BootError, EdgeError
from edge.transceiver import neighbour_messages as wire

logger = logging.getLogger(__name__)

QUEUE_BYTES_MAX = 8 << 20
"""What may wait for a worker that does not read; then the connection ends."""
BACKLOG = 64
CONNECT_TIME = 2.0
"""How long it may take to connect."""

_CHUNK_BYTES = 65_536


class NeighbourError(EdgeError):
    """Another worker does not answer."""


def listen_for_neighbours(directory: Path, workers: int) -> list[socket.socket]:
    """Open one listener per transceiver slot, in a directory that is ours alone.

    Raises:
        BootError: the directory or a socket in it cannot be made.

    """
    listeners: list[socket.socket] = []
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        for path in neighbour_paths(directory, workers):
            Path(path).unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            listeners.append(listener)
            listener.bind(path)
            Path(path).chmod(0o600)
            listener.listen(BACKLOG)
    except OSError as exc:
        for each in listeners:
            each.close()
        raise BootError(f"cannot open the workers' sockets in {directory}: {exc}") from exc
    return listeners


def neighbour_paths(directory: Path, workers: int) -> tuple[str, ...]:
    """Return the paths of the listeners."""
    return tuple(str(directory / f"transceiver-{index}.sock") for index in range(workers))


async def connect_to_neighbour(path: str) -> "Channel":
    """Connect to another worker of this host.

    Raises:
        NeighbourError: it is not there.

    """
    try:
        with trio.fail_after(CONNECT_TIME):
            stream = await trio.open_unix_socket(path)
    except (OSError, trio.TooSlowError) as exc:
        raise NeighbourError(f"cannot connect to {path}") from exc
    return Channel(stream, wire.LengthFraming())


class Framing(Protocol):
    """How messages stand in a stream. Each end has its own."""

    def frame(self, message: bytes) -> bytes:
        """Return the bytes that carry a message."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the messages that they complete. Raises EdgeError."""


class Channel:
    """One connection, as each end sees it: messages that are sent without waiting."""

    def __init__(self, stream: trio.SocketStream, framing: Framing) -> None:
        self._stream = stream
        self._framing = framing
        self._outgoing = bytearray()
        self._more = trio.Event()
        self._sending = False
        self._scope = trio.CancelScope()
        self.ended = False

    @property
    def has_unsent(self) -> bool:
        """Whether the kernel has not taken all messages yet."""
        return not self.ended and (self._sending or bool(self._outgoing))

    def send(self, message: wire.ToOwner | wire.ToAccepting) -> None:
        """Queue a message; nothing happens if the connection has ended.

        Raises:
            LocalProtocolError: it is too long.

        """
        if self.ended:
            return
        self._outgoing += self._framing.frame(wire.encode_neighbour_message(message))
        self._more.set()
        if len(self._outgoing) > QUEUE_BYTES_MAX:
            logger.error("another worker does not read: giving up the connection to it")
            self.close()

    def close(self) -> None:
        self.ended = True
        self._scope.cancel()

    async def run(self, take: Callable[[bytes], None]) -> None:
        """Send and receive until the connection ends."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read(take)
                    nursery.cancel_scope.cancel()
        finally:
            self.ended = True
            await trio.aclose_forcefully(self._stream)

    async def _read(self, take: Callable[[bytes], None]) -> None:
        while True:
            try:
                data = await self._stream.receive_some(_CHUNK_BYTES)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            for message in self._framing.feed(data):
                take(message)

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more = trio.Event()
            outgoing, self._outgoing = self._outgoing, bytearray()
            self._sending = True
            try:
                await self._stream.send_all(outgoing)
            except trio.BrokenResourceError:
                self.close()
            self._sending = False
