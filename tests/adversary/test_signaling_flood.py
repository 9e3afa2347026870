"""Floods of the signaling port beside calls: bounded memory, and calls that notice nothing.

The flooder has a host of its own and many addresses there, so that it is the limits for all
together that hold it and not the one per address.
"""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest
import trio
from attrs import frozen

from edge.control.statistics import Punctuality
from edge.control.status import WorkerStatus
from tests.adversary.hosts import appliance_on, calling_from, transceivers_of
from tests.adversary.signaling_flood import KINDS
from tests.support.appliance import Appliance
from tests.support.caller import make_offer, new_credentials, peer_for_answer
from tests.support.netns import Namespace, network
from tests.support.peer import Peer
from tests.support.speech import speech
from tests.support.talker import Talker, opus_payloads, said
from tests.support.udp_call import running_media

CONNECTIONS = 10_000
SOURCES = 200
SECONDS = 3.0
LONG_SECONDS = 6.0
QUIET_SECONDS = 1.5
MANY = 3_000
"""What the flooder opens at least, however busy the machine is."""
MEMORY_KIB_MAX = 65_536
SHARE_MAX = 0.5
"""Of a core, for refusing the flood."""
WORDS = said(opus_payloads(speech(2.0, 16_000, 5), 16_000))

PATIENCE = 40.0
"""Of a client behind a flood."""
CONNECT_TIME = 0.5
"""After which it connects anew. The kernel would ask again for what there was no room for, but ever
later."""
WAITED_MAX = 0.05 * SECONDS


@frozen
class Scene:
    appliance: Appliance
    caller: Namespace
    attacker: Namespace
    origin: str
    sources: list[str]


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    with network("caller", "attacker") as (server, caller, attacker):
        sources = [attacker.address.replace(".2.2", f".2.{last}") for last in range(2, 2 + SOURCES)]
        commands = "".join(f"address add {each}/24 dev up0\n" for each in sources[1:])
        batch = ["ip", "-n", attacker.name, "-batch", "-"]
        await trio.run_process(batch, stdin=commands.encode())
        async with appliance_on(
            server,
            directory,
            relays=1,
            transceivers=1,
            routes={"echo": 'kind = "echo"', "paced": 'kind = "loopback"'},
            signal='default_route = "paced"',
        ) as appliance:
            yield Scene(appliance, caller, attacker, await appliance.origin(), sources)


async def flood(
    here: Scene, kind: str, connections: int, seconds: float, sources: int = SOURCES
) -> dict[str, str]:
    """Run the flooder to its end; return what it prints."""
    address, _, port = here.origin.rpartition(":")
    module = "tests.adversary.signaling_flood"
    arguments = (kind, address, port, str(connections), str(seconds), *here.sources[:sources])
    done = await trio.run_process(
        ["nice", "-n", "19", *here.attacker.python("-m", module, *arguments)], capture_stdout=True
    )
    text = done.stdout.decode().strip()
    print(f"{kind}: {text}")
    return dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", text))


async def transceiver(here: Scene) -> WorkerStatus:
    return (await here.appliance.workers("transceiver"))[0]


async def wait_all_echoed(peer: Peer) -> None:
    """Wait until whatever has been sent until now has come back: nothing was lost."""
    sent = peer.record.sent
    with trio.fail_after(10):
        while peer.record.echoed < sent:
            await trio.sleep(0.01)


def private_kib(pid: int | None) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(each) for each in re.findall(r"^Private_\w+:\s+(\d+)", text, re.MULTILINE))


def processor_time(pid: int | None) -> float:
    """Return the seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waiting_time(pid: int | None) -> float:
    """Return the seconds that a process has been ready to run and had no processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


async def punctuality(here: Scene) -> Punctuality:
    return transceivers_of(await here.appliance.status())[0].punctuality


def on_time_ratio(before: Punctuality, after: Punctuality) -> float:
    """Return the share of frames between the two that left within 5 ms of their time."""
    bounds = [bound for bound in after.late_up_to if bound != "more" and float(bound) <= 5]
    on_time = sum(after.late_up_to[each] - before.late_up_to[each] for each in bounds)
    frames = after.frames - before.frames + after.skipped - before.skipped
    return on_time / frames


@asynccontextmanager
async def echoing(here: Scene) -> AsyncIterator[Peer]:
    """Open a call by WHIP on the route of the echo, and start its client."""
    local = new_credentials()

    def post() -> str | None:
        with (
            here.caller.entered(),
            closing(HTTPConnection(here.origin, timeout=CONNECT_TIME)) as connection,
        ):
            headers = {"Content-Type": "application/sdp"}
            try:
                connection.connect()
            except TimeoutError:
                return None
            connection.sock.settimeout(PATIENCE)
            connection.request("POST", "/v1/whip/echo", make_offer(local).encode(), headers)
            try:
                response = connection.getresponse()
            except RemoteDisconnected:
                return None  # it had to make room for what is left of a flood
            text = response.read().decode()
            assert response.status in {201, 503}, text
            return text if response.status == 201 else None

    with trio.fail_after(PATIENCE):
        while (answer := await trio.to_thread.run_sync(post)) is None:
            await trio.sleep(0.2)  # late with its frames, the worker takes no call for a while
    peer = peer_for_answer(answer, local)
    async with running_media(peer, here.caller.udp()):
        await wait_echo(peer, 20)
        yield peer


async def wait_echo(peer: Peer, more: int) -> None:
    wanted = peer.record.echoed + more
    with trio.fail_after(10):
        while peer.record.echoed < wanted:
            await trio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_go_on_beside_a_flood(tmp_path: Path, kind: str) -> None:
    async with (
        scene(tmp_path) as here,
        calling_from(here.caller, here.origin, kind=Talker, slots=WORDS, repeat=True),
        echoing(here) as echo,
    ):
        pid = (await transceiver(here)).pid
        first = await punctuality(here)
        busy = -processor_time(pid)
        await trio.sleep(QUIET_SECONDS)
        busy += processor_time(pid)
        before, memory = await punctuality(here), private_kib(pid)
        echo.record.longest_gap = 0.0
        grown = 0

        async def watch_memory() -> None:
            nonlocal grown
            while True:
                grown = max(grown, private_kib(pid) - memory)
                await trio.sleep(0.2)

        busier, waited = -processor_time(pid), -waiting_time(pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_memory)
            counts = await flood(here, kind, CONNECTIONS, SECONDS)
            nursery.cancel_scope.cancel()
        busier += processor_time(pid)
        waited += waiting_time(pid)
        after = await punctuality(here)
        share = busier / SECONDS - busy / QUIET_SECONDS
        quiet, beside = on_time_ratio(first, before), on_time_ratio(before, after)
        print(
            f"{kind}: on time {quiet:.3f} before, {beside:.3f} beside; longest gap "
            f"{1000 * echo.record.longest_gap:.0f} ms; {grown} KiB, {100 * share:.0f} % of a core; "
            f"without a processor {1000 * waited:.0f} ms"
        )
        assert int(counts["opened"]) >= MANY
        await wait_all_echoed(echo)
        assert grown < MEMORY_KIB_MAX
        assert share < SHARE_MAX
        if waited < WAITED_MAX:  # or the machine has too much to do for anybody to tell
            assert beside > quiet - 0.05
        async with echoing(here):
            pass


async def test_one_address_gets_its_share_and_no_more(tmp_path: Path) -> None:
    async with scene(tmp_path) as here, trio.open_nursery() as nursery:
        counts: dict[str, str] = {}

        async def flood_alone() -> None:
            counts.update(await flood(here, "fragments", 500, LONG_SECONDS, sources=1))

        nursery.start_soon(flood_alone)
        await trio.sleep(LONG_SECONDS / 3)
        async with echoing(here):
            pass
        assert not counts, "the flood has not ended before"
        while not counts:
            await trio.sleep(0.1)
        statuses = dict(each.split(":") for each in counts["answers"].split())
        assert int(statuses["503"]) > 64
