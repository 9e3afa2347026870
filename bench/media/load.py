"""The load client: one process, one epoll, more and more callers.

``python -m bench.media.load ORIGIN echo|voice`` obeys lines of its parent, each answered by one:
``open N`` opens callers until there are N, one after the other, each until it hears something;
``count SECONDS`` says what happened in so many seconds, as JSON; ``quit`` hangs up. All callers
send all the time. A frame's time has 80 parts, and a caller always sends in the same one.
"""

import gc
import os
import select
import sys
import time
from collections.abc import Callable

import msgspec

from bench.echo.timer import IntervalTimer
from bench.media.caller import Caller, EchoCaller

FRAME_TIME = 0.02
PARTS = 80
SETUP_LIMIT = 10.0


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    sessions: int
    sent: int
    heard: int
    unreadable: int
    late: int
    """Of the echoes looked at, those that took more than 5 ms."""
    looked_at: int
    echo_p99_ms: float
    send_lateness_p99_ms: float
    """How late our own timer was."""


class Load:
    """All callers."""

    def __init__(self, origin: str, make: Callable[[str], Caller]) -> None:
        self._origin, self._make = origin, make
        self._callers: list[Caller] = []
        self._talking: list[list[Caller]] = [[] for _ in range(PARTS)]
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timer = IntervalTimer(FRAME_TIME / PARTS)
        self._started_at = time.monotonic()
        self._ticks = 0
        self._lateness: list[float] = []
        self._lines: list[str] = []
        self._watch(self._timer.fd, self._tick)
        self._watch(sys.stdin.fileno(), self._read_line)

    def run(self) -> None:
        """Obey until ``quit``."""
        while True:
            self._run_until(lambda: bool(self._lines), float("inf"))
            verb, *arguments = self._lines.pop(0).split()
            if verb == "open":
                self._open(int(arguments[0]))
                gc.collect()
                gc.freeze()
                _say("open")
            elif verb == "count":
                _say(msgspec.json.encode(self._count(float(arguments[0]))).decode())
            else:
                return

    def close(self) -> None:
        """Hang up, without waiting for answers."""
        for caller in self._callers:
            caller.websocket.send({"type": "bye"})

    def _open(self, count: int) -> None:
        while len(self._callers) < count:
            caller = self._make(self._origin)
            number = len(self._callers)
            self._callers.append(caller)
            self._watch(caller.socket.fileno(), caller.receive)
            self._watch(caller.websocket.fileno(), caller.websocket.read)
            self._run_until(lambda one=caller: one.connected_at > 0, SETUP_LIMIT)  # type: ignore[misc]
            self._talking[number * 37 % PARTS].append(caller)
            self._run_until(lambda one=caller: one.heard > 0, SETUP_LIMIT)  # type: ignore[misc]

    def _count(self, seconds: float) -> Counted:
        callers = self._callers
        sent = sum(each.sent for each in callers)
        heard = sum(each.heard for each in callers)
        for each in callers:
            del each.answers[:]
        self._lateness.clear()
        until = time.monotonic() + seconds
        self._run_until(lambda: time.monotonic() >= until, float("inf"))
        answers = sorted(answer for each in callers for answer in each.answers)
        return Counted(
            sessions=len(callers),
            sent=sum(each.sent for each in callers) - sent,
            heard=sum(each.heard for each in callers) - heard,
            unreadable=sum(each.unreadable for each in callers),
            late=sum(1 for answer in answers if answer > 5_000_000),
            looked_at=len(answers),
            echo_p99_ms=answers[len(answers) * 99 // 100] / 1e6 if answers else 0.0,
            send_lateness_p99_ms=1e3 * sorted(self._lateness)[len(self._lateness) * 99 // 100],
        )

    def _run_until(self, condition: Callable[[], bool], limit: float) -> None:
        give_up_at = time.monotonic() + limit
        epoll, readers = self._epoll, self._readers
        while not condition():
            if time.monotonic() > give_up_at:
                last = self._callers[-1]
                raise TimeoutError(f"caller {len(self._callers)} hears nothing: {last.peer.drops}")
            for fd, _ in epoll.poll():
                readers[fd]()

    def _tick(self) -> None:
        """Let those whose turn it is send, and the peers do what is due."""
        expired = self._timer.expirations()
        for _ in range(expired):
            part = self._talking[self._ticks % PARTS]
            self._ticks += 1
            due = self._started_at + self._ticks * FRAME_TIME / PARTS
            for caller in part:
                caller.send_frame()
            if part:
                self._lateness.append(time.monotonic() - due)
        now = time.monotonic()
        for part in (self._callers,) if self._ticks % (PARTS // 4) < expired else ():
            for caller in part:
                if now >= caller.due:
                    caller.handle_timeout(now)

    def _read_line(self) -> None:
        data = os.read(sys.stdin.fileno(), 4096).decode()
        self._lines += data.splitlines() or ["quit"]

    def _watch(self, fd: int, reader: Callable[[], None]) -> None:
        self._readers[fd] = reader
        self._epoll.register(fd, select.EPOLLIN)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    load = Load(sys.argv[1], EchoCaller if sys.argv[2] == "echo" else Caller)
    load.run()
    load.close()
