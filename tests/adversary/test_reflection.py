"""Who spoofs a bystander's address makes the appliance send there no more than he sent himself."""

import socket
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from tests.adversary.attacks import dtls_packets, forged_check, own_check
from tests.adversary.hosts import calling_from
from tests.adversary.scene import scene

CHECKS = 200
PACE = 0.002


def take_bytes(ear: socket.socket) -> int:
    """Return how many bytes lie in a socket, and take them."""
    total = 0
    while True:
        try:
            total += len(ear.recv(2048))
        except BlockingIOError:
            return total


async def test_a_bystander_gets_nothing_from_strangers_and_no_more_than_was_sent_from_a_caller(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as here, AsyncExitStack() as stack:
        bystander = stack.enter_context(here.victim.udp())
        address = bystander.getsockname()
        call = await stack.enter_async_context(calling_from(here.attacker, here.origin, frames=10))
        await call.wait_echo(10)

        async def spoof(packet: bytes) -> int:
            here.spoofer.send(packet, address, here.udp)
            await trio.sleep(PACE)
            return len(packet)

        for packet in (forged_check(call.ufrag), forged_check("A" * 24), *dtls_packets()):
            await spoof(packet)
        await trio.sleep(0.2)
        assert take_bytes(bystander) == 0

        sent = sum([await spoof(own_check(call)) for _ in range(CHECKS)])
        await trio.sleep(0.2)
        got = take_bytes(bystander)
        print(f"reflected by the checks of a caller: {got} bytes for {sent}")
        assert 0 < got <= sent
