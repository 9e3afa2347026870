"""Clients outside the machine: calls over the link, and a watch over its public port."""

import errno
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define

from tests.install.machine import Machine
from tests.support.caller import new_credentials, offer, peer_for_answer, signaling
from tests.support.peer import Peer
from tests.support.udp_call import running_media

SIGNALING_PORT = 8080
UDP_PORT = 3478
PROBE_INTERVAL = 0.002
ATTEMPT_TIME = 0.5
SETTLE_TIME = 5.0
"""How long packets that wait in the kernel may wait for a processor."""
PROBE = bytes.fromhex("0001000000000000") + b"nobody's check"
"""Something that the appliance drops without a word."""


@asynccontextmanager
async def calling(machine: Machine) -> AsyncIterator[Peer]:
    """Make a call over the link. It is connected, and has heard its echo, when this yields."""
    local = new_credentials()
    async with signaling(f"{machine.address}:{SIGNALING_PORT}") as websocket:
        answer = await offer(websocket, local)
        assert answer["type"] == "answer", answer
        peer = peer_for_answer(answer["sdp"], local)
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((machine.host_address, 0))
        async with running_media(peer, bound):
            await wait_echoed(peer, 1)
            yield peer


async def wait_echoed(peer: Peer, more: int, timeout: float = 10.0) -> None:
    """Wait until so many more frames have come back."""
    wanted = peer.record.echoed + more
    with trio.fail_after(timeout):
        while peer.record.echoed < wanted:
            await trio.sleep(0.01)


async def wait_callable(machine: Machine, timeout: float = 30.0) -> float:
    """Wait until a new call hears its echo; return how long that took."""
    started = trio.current_time()
    with trio.fail_after(timeout):
        while True:
            with trio.move_on_after(ATTEMPT_TIME):
                try:
                    async with calling(machine):
                        return trio.current_time() - started
                except (OSError, ExceptionGroup):
                    await trio.sleep(0.02)


@define
class Watch:
    """What became of packets that somebody sends to the public UDP port all the time."""

    sent: int = 0
    lost: int = 0
    """Those that no process read: the port was closed, or its queue full or thrown away."""
    closed_longest: float = 0.0
    """Seconds in a row in which the kernel said that nobody had the port open."""


@asynccontextmanager
async def watching(machine: Machine) -> AsyncIterator[Watch]:
    """Send to the public port every 2 ms. There may be no calls and no other UDP meanwhile."""
    machine.run("sysctl", "--quiet", "--write", "net.ipv4.icmp_ratelimit=0")
    watch = Watch()
    read_before = _datagrams_read(machine)
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        await udp.connect((machine.address, UDP_PORT))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_probe, udp, watch)
            yield watch
            nursery.cancel_scope.cancel()
        with trio.move_on_after(SETTLE_TIME):
            while watch.sent > _datagrams_read(machine) - read_before:
                await trio.sleep(0.1)
    watch.lost = watch.sent - (_datagrams_read(machine) - read_before)


async def _probe(udp: trio.socket.SocketType, watch: Watch) -> None:
    """An ICMP message is the error of the send after the one that caused it."""
    closed_from = closed_until = -math.inf
    while True:
        now = trio.current_time()
        try:
            await udp.send(PROBE)
            watch.sent += 1
        except OSError as exc:
            if exc.errno != errno.ECONNREFUSED:
                raise
            if now - closed_until > 10 * PROBE_INTERVAL:
                closed_from = now
            closed_until = now
            watch.closed_longest = max(watch.closed_longest, closed_until - closed_from)
        await trio.sleep(PROBE_INTERVAL)


def _datagrams_read(machine: Machine) -> int:
    """Return how many datagrams processes in there have read since it was booted."""
    names, values = (
        line.split()
        for line in machine.run("cat", "/proc/net/snmp").stdout.splitlines()
        if line.startswith("Udp:")
    )
    return int(values[names.index("InDatagrams")])
