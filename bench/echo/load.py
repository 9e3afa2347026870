"""The load client: one process, one epoll, N sessions.

``python -m bench.echo.load ORIGIN SESSIONS SECONDS`` talks to its parent in lines: it prints
``warm`` when it has opened and closed a few sessions, ``open`` when the N sessions are open,
``begin`` and ``end`` around the seconds that count, and then its results as one line of JSON. After
each of the first four it waits for a line in return, so that the parent can read its meters;
``begin`` and ``end`` are not waited for.

Sessions are opened one after the other, each until its first echo. Packets are evenly staggered: a
timer expires 50 x N times a second and each time the next session sends. A late timer is made up
for, so the rate holds.
"""

import gc
import select
import sys
import time
from array import array
from collections.abc import Callable
from statistics import median

import msgspec

from bench.echo.client import Client
from bench.echo.timer import IntervalTimer

FRAME_TIME = 0.02
WARM_UP_SESSIONS = 8
WARM_UP = 2.0
"""Seconds of media that do not count."""
SETTLE = 1.0
"""Seconds to wait for the last echoes."""
SETUP_LIMIT = 10.0
ON_TIME_NS = 5_000_000
"""An echo is on time when it is back within 5 ms."""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What the load client has seen. Times in ms."""

    sent: int
    lost: int
    unreadable: int
    rtt_p50_ms: float
    rtt_p99_ms: float
    rtt_max_ms: float
    on_time: float
    """Share of the packets sent whose echo was back within 5 ms."""
    send_lateness_p99_ms: float
    """How late our own timer was: what lies above it in the round trips is not the server's."""
    setup_ms: float
    """Median from the offer to the first echo; the next four are its parts."""
    setup_answer_ms: float
    setup_ice_ms: float
    setup_dtls_ms: float
    setup_echo_ms: float


class Load:
    """All sessions of one run."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._clients: list[Client] = []
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def open(self, count: int, frames_max: int) -> None:
        """Open sessions one after the other, each until its first echo."""
        for _ in range(count):
            client = Client(self._origin, frames_max)
            self._clients.append(client)
            self._watch(client.socket.fileno(), client.receive)
            self._watch(client.websocket.fileno(), client.websocket.read)
            self._run_until(client, lambda one: one.connected_at > 0)
            client.send_frame()
            self._run_until(client, lambda one: one.echoed_at > 0)

    def close(self) -> None:
        for client in self._clients:
            self._epoll.unregister(client.socket.fileno())
            self._epoll.unregister(client.websocket.fileno())
            client.close()
        self._clients.clear()
        self._readers.clear()

    def idle(self, seconds: float) -> None:
        """Keep the sessions alive without media."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            self._read_all(0.01)
            self._run_timers(now)

    def stream(self, seconds: float, lateness: "array[int]") -> None:
        """Let every session send a packet every 20 ms. ``lateness``: of each packet, in ns."""
        clients = self._clients
        interval = FRAME_TIME / len(clients)
        timer = IntervalTimer(interval)
        started_at, interval_ns = time.monotonic_ns(), interval * 1e9
        ticks, ticks_last = 0, round(seconds / interval)
        epoll, readers = self._epoll, self._readers
        epoll.register(timer.fd, select.EPOLLIN)
        while ticks < ticks_last:
            for fd, _ in epoll.poll():
                if fd != timer.fd:
                    readers[fd]()
                    continue
                for _ in range(timer.expirations()):
                    client = clients[ticks % len(clients)]
                    ticks += 1
                    lateness.append(time.monotonic_ns() - started_at - round(ticks * interval_ns))
                    client.send_frame()
                    now = time.monotonic()
                    if now >= client.due:
                        client.handle_timeout(now)
        epoll.unregister(timer.fd)
        timer.close()

    def count(self, seconds: float) -> Results:
        """Stream for the seconds that count, and return what came of it."""
        clients = self._clients
        round_trips, lateness = array("q"), array("q")
        for client in clients:
            client.count_from_here(round_trips)
        _say("begin")
        self.stream(seconds, lateness)
        _say("end")
        self.idle(SETTLE)
        sent = sum(client.counted_sent for client in clients)
        ordered = sorted(round_trips)
        on_time = sum(1 for each in ordered if each <= ON_TIME_NS)
        return Results(
            sent=sent,
            lost=sent - sum(client.counted_echoed for client in clients),
            unreadable=sum(client.unreadable for client in clients),
            rtt_p50_ms=_percentile_ms(ordered, 0.5),
            rtt_p99_ms=_percentile_ms(ordered, 0.99),
            rtt_max_ms=_percentile_ms(ordered, 1.0),
            on_time=on_time / sent,
            send_lateness_p99_ms=_percentile_ms(sorted(lateness), 0.99),
            setup_ms=1e3 * median(each.echoed_at - each.offered_at for each in clients),
            setup_answer_ms=1e3 * median(each.answered_at - each.offered_at for each in clients),
            setup_ice_ms=1e3 * median(each.checked_at - each.answered_at for each in clients),
            setup_dtls_ms=1e3 * median(each.connected_at - each.checked_at for each in clients),
            setup_echo_ms=1e3 * median(each.echoed_at - each.connected_at for each in clients),
        )

    def _watch(self, fd: int, reader: Callable[[], None]) -> None:
        self._readers[fd] = reader
        self._epoll.register(fd, select.EPOLLIN)

    def _run_until(self, client: Client, condition: Callable[[Client], bool]) -> None:
        give_up_at = time.monotonic() + SETUP_LIMIT
        while not condition(client):
            now = time.monotonic()
            if now > give_up_at:
                raise TimeoutError(f"no session: {client.peer.drops}")
            self._read_all(0.001)
            self._run_timers(now)

    def _read_all(self, timeout: float) -> None:
        for fd, _ in self._epoll.poll(timeout):
            self._readers[fd]()

    def _run_timers(self, now: float) -> None:
        for client in self._clients:
            if now >= client.due:
                client.handle_timeout(now)


def main(origin: str, sessions: int, seconds: float) -> None:
    load = Load(origin)
    load.open(WARM_UP_SESSIONS, 1)
    load.close()
    _tell("warm")
    load.open(sessions, round((WARM_UP + seconds) / FRAME_TIME) + 10)
    _tell("open")
    gc.freeze()
    gc.disable()
    load.stream(WARM_UP, array("q"))
    _say(msgspec.json.encode(load.count(seconds)).decode())
    load.close()


def _tell(line: str) -> None:
    """Say something, and wait until the parent has taken note."""
    _say(line)
    sys.stdin.readline()


def _say(line: str) -> None:
    print(line, flush=True)


def _percentile_ms(ordered: list[int], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6 if ordered else 0.0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
