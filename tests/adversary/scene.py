"""An appliance, a victim and an attacker who can write any source address, each on its own host."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

from attrs import frozen

from edge.control.status import Status
from tests.adversary.hosts import (
    appliance_on,
    calling_from,
    owner_of,
    relays_of,
    transceivers_of,
)
from tests.support.appliance import Appliance
from tests.support.caller import LiveCall
from tests.support.netns import Namespace, Spoofer, network

SESSIONS_MAX = 40


@frozen
class Scene:
    appliance: Appliance
    victim: Namespace
    attacker: Namespace
    spoofer: Spoofer
    origin: str
    udp: tuple[str, int]


@asynccontextmanager
async def scene(directory: Path, relays: int = 2) -> AsyncIterator[Scene]:
    with (
        network("victim", "attacker") as (server, victim, attacker),
        closing(Spoofer(attacker)) as spoofer,
    ):
        async with appliance_on(server, directory, relays=relays) as appliance:
            origin, udp = await appliance.origin(), await appliance.udp()
            yield Scene(appliance, victim, attacker, spoofer, origin, udp)


async def attacker_sessions(stack: AsyncExitStack, scene: Scene) -> tuple[LiveCall, LiveCall]:
    """Open calls of the attacker's until he has one on each of the two transceivers."""
    found: dict[int, LiveCall] = {}
    for _ in range(SESSIONS_MAX):
        call = await stack.enter_async_context(
            calling_from(scene.attacker, scene.origin, frames=10)
        )
        await call.wait_echo(10)
        found.setdefault(owner_of(call), call)
        if len(found) == 2:
            return found[0], found[1]
    raise AssertionError("all sessions went to one transceiver")


def conflicts(status: Status) -> int:
    """Return how often relays refused to re-point a confirmed flow."""
    return sum(table.conflicts for relay in relays_of(status) for table in relay.flows)


def drops(status: Status) -> Counter[str]:
    """Return what transceivers dropped, by reason."""
    total: Counter[str] = Counter()
    for transceiver in transceivers_of(status):
        total.update(transceiver.drops)
    return total
