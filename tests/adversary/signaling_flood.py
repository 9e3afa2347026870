"""Floods the signaling port with connections that never get anywhere: a program for a host.

    python -m tests.adversary.signaling_flood <kind> <address> <port> <connections> <seconds>
        <source address>...

Opens that many connections, evenly from the source addresses, says on each what the kind has it
say, and opens another for each that is closed. At the end it prints how many it opened, how many
were open at most, and how many answers it had, by their status.
"""

import heapq
import itertools
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from attrs import define

POST = "POST /v1/whip HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
UPGRADE = (
    "GET /v1/session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAGMENT = b"\x00\x80" + bytes(4)
"""Of a WebSocket message: empty, and not the last."""

CONNECT_TIME = 0.02
_order = itertools.count()


@define
class Kind:
    """What is said first, and again and again after that."""

    first: bytes
    then: bytes
    interval: float


KINDS: dict[str, Kind] = {
    "idle": Kind(b"", b"", 60.0),
    "slow-head": Kind(b"GET / HTTP/1.1\r\n", b"X: y\r\n", 1.0),
    "slow-body": Kind(f"{POST}Content-Length: 60000\r\n\r\n".encode(), b"v", 1.0),
    "slow-tls": Kind(b"\x16\x03\x01\x02\x00", b"\x01", 1.0),
    "head-bomb": Kind(b"GET / HTTP/1.1\r\n" + b"X-Header: " + b"y" * 16_000, b"", 60.0),
    "endless-chunks": Kind(
        f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode(), b"1\r\nv\r\n" * 20, 0.5
    ),
    "requests": Kind(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 50, b"", 60.0),
    "fragments": Kind(UPGRADE.encode() + b"\x01\x80" + bytes(4), FRAGMENT * 500, 0.1),
    "http-2": Kind(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"", 60.0),
}


class Flood:
    """All connections of one kind."""

    def __init__(self, kind: Kind, server: tuple[str, int], sources: list[str]) -> None:
        self._kind = kind
        self._server = server
        self._sources = sources
        self._selector = selectors.DefaultSelector()
        self._open: set[socket.socket] = set()
        self._due: list[tuple[float, int, socket.socket, bytes]] = []
        self.opened = 0
        self.open_max = 0
        self.answers: Counter[str] = Counter()

    def run(self, connections: int, seconds: float, clock: Callable[[], float]) -> None:
        """Keep that many connections open."""
        end = clock() + seconds
        while (now := clock()) < end:
            for _ in range(min(100, connections - len(self._open))):
                self._connect(now)
            self.open_max = max(self.open_max, len(self._open))
            for key, _ in self._selector.select(0.005):
                self._receive(key.fileobj)
            while self._due and self._due[0][0] <= now:
                _, _, one, data = heapq.heappop(self._due)
                if one in self._open:
                    self._say(one, data, now)

    def _connect(self, now: float) -> None:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        one.bind((self._sources[self.opened % len(self._sources)], 0))
        one.connect_ex(self._server)
        self.opened += 1
        self._open.add(one)
        self._selector.register(one, selectors.EVENT_READ)
        self._plan(one, self._kind.first, now + CONNECT_TIME)

    def _say(self, one: socket.socket, data: bytes, now: float) -> None:
        try:
            if data:
                one.send(data)
        except BlockingIOError:
            self._plan(one, data, now + CONNECT_TIME)  # not connected yet, or full
        except OSError:
            self._close(one)
        else:
            self._plan(one, self._kind.then, now + self._kind.interval)

    def _plan(self, one: socket.socket, data: bytes, due: float) -> None:
        heapq.heappush(self._due, (due, next(_order), one, data))

    def _receive(self, one: object) -> None:
        assert isinstance(one, socket.socket)
        data = b""
        with suppress(OSError):
            data = one.recv(65_536)
        for line in data.split(b"\r\n"):
            if line.startswith(b"HTTP/1.1 "):
                self.answers[line[9:12].decode()] += 1
        if not data:
            self._close(one)

    def _close(self, one: socket.socket) -> None:
        if one in self._open:
            self._open.discard(one)
            self._selector.unregister(one)
        one.close()


def main() -> None:
    kind, address, port, connections, seconds, *sources = sys.argv[1:]
    flood = Flood(KINDS[kind], (address, int(port)), sources)
    flood.run(int(connections), float(seconds), time.monotonic)
    answers = " ".join(f"{status}:{count}" for status, count in sorted(flood.answers.items()))
    print(f"opened={flood.opened} open_max={flood.open_max} answers={answers}")


if __name__ == "__main__":
    main()
