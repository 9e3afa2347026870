"""Floods against the running appliance, and what they do to its memory and to the calls on it."""

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import trio
from attrs import frozen
from msgspec import Struct

from edge.control.status import Status
from tests.adversary.hosts import relays_of
from tests.support.appliance import Appliance
from tests.support.caller import LiveCall, calling

SOURCE = Path(__file__).with_name("flood.c")
ON_TIME = 0.02
"""Seconds from frame to echo within which a call sounds as it should."""
QUIET_TIME = 1.0
FLOOD_TIME_MAX = 60.0


class Flood(Struct, frozen=True):
    """What the flooder reports."""

    sent: int
    bytes: int
    replies: int
    reply_bytes: int
    seconds: float


@frozen
class Outcome:
    flood: Flood
    before: Status
    after: Status
    kernel_drops: int
    """Packets and frames that found a receive buffer of the appliance full."""
    growth_kib: dict[str, int]
    """By worker: private memory gained."""
    lost: int
    """Frames of legitimate calls that did not come back."""

    def refused(self) -> Counter[str]:
        """Return what the relays dropped meanwhile, by reason."""
        return relay_drops(self.after) - relay_drops(self.before)


def compile_flooder(directory: Path) -> Path:
    program = directory / "flood"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(SOURCE)]
    subprocess.run(command, check=True)
    return program


def write_packets(path: Path, count: int, make: Callable[[], bytes]) -> Path:
    """Write the file that the flooder takes packets from."""
    packets = (make() for _ in range(count))
    path.write_bytes(b"".join(len(packet).to_bytes(2) + packet for packet in packets))
    return path


async def flood(appliance: Appliance, calls: Sequence[LiveCall], command: Sequence[str]) -> Outcome:
    """Run the flooder beside calls; see what it did when all has settled.

    ``command``: program, kind, and what comes after the port (see flood.c).
    """
    host, port = await appliance.udp()
    program, kind, *rest = command
    await trio.sleep(QUIET_TIME)
    quiet = on_time_share(calls)
    before = await appliance.status()
    memory, drops = private_memory_kib(before), kernel_drops(appliance.process.pid)
    arguments = [program, kind, host, str(port), *rest]
    with trio.fail_after(FLOOD_TIME_MAX):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_meanwhile, appliance)
            done = await trio.run_process(arguments, capture_stdout=True)
    flooded = on_time_share(calls)
    after = await settled(appliance)
    grown = private_memory_kib(after)
    outcome = Outcome(
        msgspec.json.decode(done.stdout, type=Flood),
        before,
        after,
        kernel_drops(appliance.process.pid) - drops,
        {worker: grown[worker] - memory[worker] for worker in memory},
        await finish(calls),
    )
    print(f"{kind}: {outcome.flood}")
    print(f"refused {dict(outcome.refused())}, dropped by the kernel {outcome.kernel_drops}")
    print(f"private memory gained, KiB: {outcome.growth_kib}")
    print(f"on time: {quiet:.4f} before, {flooded:.4f} meanwhile; frames lost: {outcome.lost}")
    return outcome


async def call_meanwhile(appliance: Appliance) -> None:
    """Open one more call, a second into the flood."""
    origin = await appliance.origin()
    await trio.sleep(1.0)
    started = trio.current_time()
    async with calling(origin, frames=10) as call:
        await call.wait_echo(timeout=20.0)
        print(f"a new call took {1000 * (trio.current_time() - started):.0f} ms to its first echo")


async def settled(appliance: Appliance) -> Status:
    """Wait until the relays have worked off what lay in their buffers.

    What calls send goes on: fewer than 2,000 packets per second.
    """
    status = await appliance.status()
    while True:
        seen = packets_in(status)
        await trio.sleep(0.5)
        status = await appliance.status()
        if packets_in(status) - seen < 1_000:
            return status


async def finish(calls: Sequence[LiveCall]) -> int:
    """Let calls send for another half second; return how many frames never came back."""
    for call in calls:
        call.peer.frames = call.peer.record.sent + 25
    with trio.move_on_after(10):
        for call in calls:
            assert call.peer.frames is not None
            await call.wait_echo(call.peer.frames, timeout=20)
    return sum(call.peer.record.sent - call.peer.record.echoed for call in calls)


def on_time_share(calls: Sequence[LiveCall]) -> float:
    """Return the share of frames since the last time that were echoed soon enough."""
    times = [time for call in calls for time in call.peer.record.round_trips]
    for call in calls:
        call.peer.record.round_trips.clear()
    return sum(time <= ON_TIME for time in times) / max(1, len(times))


def packets_in(status: Status) -> int:
    return sum(relay.packets for relay in relays_of(status))


def relay_drops(status: Status) -> Counter[str]:
    total: Counter[str] = Counter()
    for relay in relays_of(status):
        total.update(relay.drops)
    return total


def private_memory_kib(status: Status) -> dict[str, int]:
    """Return each worker's resident memory without the flow table, shared and of fixed size."""
    sizes: dict[str, int] = {}
    for worker in status.workers:
        lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
        size = next(line for line in lines if line.startswith("RssAnon:"))
        sizes[f"{worker.kind}-{worker.index}"] = int(size.split()[1])
    return sizes


def kernel_drops(supervisor: int) -> int:
    """Return the drops of all IPv4 UDP sockets of an appliance: its supervisor holds them all."""
    inodes: set[str] = set()
    for each in Path(f"/proc/{supervisor}/fd").iterdir():
        with suppress(FileNotFoundError):  # an operator's connection that has just been closed
            inodes.add(str(each.readlink()).removeprefix("socket:[").rstrip("]"))
    lines = (line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:])
    return sum(int(fields[-1]) for fields in lines if fields[9] in inodes)
