"""Clients outside the machine: calls over the link, and a watch over its public port."""

import errno
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
            with trio.move_on_after(2.0):
                try:
                    async with calling(machine):
                        return trio.current_time() - started
                except (OSError, ExceptionGroup):
                    await trio.sleep(0.02)


@define
class Watch:
    """What the kernel said about a UDP port that somebody sends to all the time."""

    sent: int = 0
    refused: int = 0
    """Probes that came to a port that nobody had open."""
    closed_longest: float = 0.0


@asynccontextmanager
async def watching(machine: Machine) -> AsyncIterator[Watch]:
    """Send to the public port every 2 ms, and note when it is closed: ICMP tells."""
    watch = Watch()
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        await udp.connect((machine.address, UDP_PORT))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_probe, udp, watch)
            yield watch
            nursery.cancel_scope.cancel()


async def _probe(udp: trio.socket.SocketType, watch: Watch) -> None:
    closed_since: float | None = None
    while True:
        now = trio.current_time()
        try:
            await udp.send(PROBE)
        except OSError as exc:
            if exc.errno != errno.ECONNREFUSED:
                raise
            watch.refused += 1
            closed_since = now if closed_since is None else closed_since
            watch.closed_longest = max(watch.closed_longest, now - closed_since)
        else:
            watch.sent += 1
            closed_since = None
        await trio.sleep(PROBE_INTERVAL)
