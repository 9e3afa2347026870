"""Calls that are set up while somebody sends DTLS of his own in their name."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.adversary.attacks import dtls_packets
from tests.adversary.hosts import running, session_from
from tests.adversary.scene import Scene, scene

CALLS = 6
ROUND_TIME = 0.005
"""Seven packets each: 1,400 per second."""


async def set_up(here: Scene, setup: str, address: Callable[[int], tuple[str, int]]) -> float:
    """Make a call under fire; return the time from its start to the first echo."""
    async with session_from(here.victim, here.origin, setup=setup) as call:
        port = call.udp.getsockname()[1]

        async def fire() -> None:
            while True:
                for packet in dtls_packets():
                    here.spoofer.send(packet, address(port), here.udp)
                await trio.sleep(ROUND_TIME)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fire)
            await trio.sleep(4 * ROUND_TIME)
            async with running(call):
                started = trio.current_time()
                await call.wait_echo()
                took = trio.current_time() - started
            nursery.cancel_scope.cancel()
        return took


@pytest.mark.parametrize("setup", ["actpass", "active"])
async def test_dtls_from_elsewhere_does_not_touch_a_handshake(tmp_path: Path, setup: str) -> None:
    """In either role: the source was never validated for the session."""
    async with scene(tmp_path) as here:
        ports = itertools.count(1024)
        times = [
            await set_up(here, setup, lambda _: (here.victim.address, next(ports)))
            for _ in range(CALLS)
        ]
        print(f"set up in {[round(1000 * time) for time in times]} ms")


async def test_spoofed_dtls_does_not_break_the_handshake_of_a_dtls_client(tmp_path: Path) -> None:
    """The appliance is the DTLS client of everybody who leaves it the choice, as browsers do."""
    async with scene(tmp_path) as here:
        times = [
            await set_up(here, "actpass", lambda port: (here.victim.address, port))
            for _ in range(CALLS)
        ]
        print(f"set up in {[round(1000 * time) for time in times]} ms")
