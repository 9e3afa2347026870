"""The emulator behind tests/support/internet.py: a process that passes IP packets between TUN ends.

Arguments are the descriptors of the ends, host by host. Orders are lines of JSON on standard input,
each answered by ``done``: ``{"route": address, "host": number or null}``, and ``{"ends": [number,
number], "delay": seconds, "loss": share}``. It ends with its standard input.
"""

import heapq
import json
import os
import random
import select
import sys
import time
from ipaddress import ip_address
from itertools import count

PACKET_BYTES_MAX = 65_536
PACKETS_PER_TURN = 64
QUEUE_MAX = 20_000
SEED = 20_261_122


class Emulator:
    """Who has which address, how far hosts are apart, and the packets on their way."""

    def __init__(self, ends: list[int]) -> None:
        self._ends = ends
        self._routes: dict[bytes, int] = {}
        self._links: dict[tuple[int, int], tuple[float, float]] = {}
        self._travelling: list[tuple[float, int, int, bytes]] = []
        self._order = count()
        self._random = random.Random(SEED)

    def obey(self, line: str) -> None:
        """Change a route or a link."""
        order = json.loads(line)
        if "route" in order:
            address = ip_address(order["route"]).packed
            if order["host"] is None:
                self._routes.pop(address, None)
            else:
                self._routes[address] = order["host"]
        else:
            one, other = order["ends"]
            self._links[one, other] = self._links[other, one] = order["delay"], order["loss"]

    def take(self, host: int) -> None:
        """Take what a host has sent."""
        for _ in range(PACKETS_PER_TURN):
            try:
                packet = os.read(self._ends[host], PACKET_BYTES_MAX)
            except OSError:
                return
            destination = packet[24:40] if packet[0] >> 4 == 6 else packet[16:20]
            target = self._routes.get(destination)
            if target is None or len(self._travelling) >= QUEUE_MAX:
                continue
            delay, loss = self._links.get((host, target), (0.0, 0.0))
            if self._random.random() >= loss:
                due = time.monotonic() + delay
                heapq.heappush(self._travelling, (due, next(self._order), target, packet))

    def deliver(self) -> float | None:
        """Hand over what has arrived; return the seconds until the next packet does."""
        while self._travelling:
            wait = self._travelling[0][0] - time.monotonic()
            if wait > 0:
                return wait
            _, _, target, packet = heapq.heappop(self._travelling)
            try:
                os.write(self._ends[target], packet)
            except OSError:  # its queue is full, or the host is gone
                continue
        return None


def main() -> None:
    ends = [int(argument) for argument in sys.argv[1:]]
    emulator = Emulator(ends)
    hosts = {end: host for host, end in enumerate(ends)}
    poller = select.epoll()
    for end in (*ends, sys.stdin.fileno()):
        poller.register(end, select.EPOLLIN)
    while True:
        for ready, _ in poller.poll(emulator.deliver()):
            if ready in hosts:
                emulator.take(hosts[ready])
                continue
            line = sys.stdin.readline()
            if not line:
                return
            emulator.obey(line)
            print("done", flush=True)


if __name__ == "__main__":
    main()
