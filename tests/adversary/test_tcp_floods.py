"""What strangers can do at the TCP door of the relays while calls are going on."""

import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import frozen

from edge.control.statistics import StreamCounts
from edge.control.status import Status
from edge.streams.settings import StreamLimits
from tests.adversary.attacks import forged_check
from tests.adversary.flooding import finish, on_time_share, private_memory_kib, write_packets
from tests.adversary.hosts import relays_of
from tests.support.appliance import Appliance, running_appliance, wait_status
from tests.support.caller import LiveCall, calling
from tests.support.tcp_client import PacketStream, calling_over_tcp

CONNECTIONS = 2_000
SOURCES = 20
LIMITS = StreamLimits()
GROWTH_KIB_MAX = 20 * 1024
RELAYS = 2
FLOODER = [sys.executable, "-m", "tests.adversary.tcp_flood"]
SLOW_TIME_MAX = 30.0


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2) + packet


def counts_of(status: Status) -> list[StreamCounts]:
    return [relay.tcp for relay in relays_of(status)]


@frozen
class Stage:
    """An appliance with a call over UDP and one over TCP."""

    appliance: Appliance
    udp: LiveCall
    tcp: LiveCall
    directory: Path
    port: str
    memory: dict[str, int]
    """The workers' private memory at the start, in KiB."""

    async def counts(self) -> list[StreamCounts]:
        return counts_of(await self.appliance.status())

    @asynccontextmanager
    async def held(
        self, count: int, sources: int, pieces: Sequence[bytes]
    ) -> AsyncIterator[list[StreamCounts]]:
        """Hold connections on which such pieces were sent; yield the counts when all came in."""
        each = iter(pieces)
        file = write_packets(self.directory / "pieces", len(pieces), lambda: next(each))
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                [*FLOODER, "hold", self.port, str(count), str(sources), str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                with trio.fail_after(30):
                    assert (await process.stdout.receive_some()).startswith(b"held")
                    status = await wait_status(
                        self.appliance, lambda status: _came_in(status) >= count
                    )
                yield counts_of(status)
                await process.stdin.aclose()
                await process.wait()
            finally:
                process.kill()
                nursery.cancel_scope.cancel()

    async def wait_settled(self) -> list[StreamCounts]:
        """Wait until no connection is half open."""
        return counts_of(
            await wait_status(
                self.appliance,
                lambda status: not any(each.half_open for each in counts_of(status)),
            )
        )

    async def assert_unmoved(self) -> None:
        """The calls have lost nothing, a new one comes up, and memory is what it was."""
        after = await self.appliance.status()
        grown = private_memory_kib(after)
        growth = {worker: grown[worker] - size for worker, size in self.memory.items()}
        for call, name in ((self.udp, "UDP"), (self.tcp, "TCP")):
            print(f"on time over {name}: {on_time_share([call]):.4f}")
        for each in counts_of(after):
            print(each)
        print(f"private memory gained, KiB: {growth}")
        async with calling_over_tcp(await self.appliance.origin(), frames=10) as call:
            await call.wait_echo(10)
            assert call.peer.record.first_echo_at is not None
            print(f"a new call over TCP: {call.peer.record.first_echo_at - call.offered_at:.2f} s")
        assert max(growth.values()) < GROWTH_KIB_MAX
        assert await finish([self.udp, self.tcp]) == 0


def _came_in(status: Status) -> int:
    return sum(each.accepted + sum(each.refused.values()) for each in counts_of(status)) - 1


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with running_appliance(
        tmp_path, relays=RELAYS, relay='tcp_listen = ["127.0.0.1:0"]'
    ) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as udp, calling_over_tcp(origin) as tcp:
            for call in (udp, tcp):
                await call.wait_echo(25)
            on_time_share([udp, tcp])
            status = await appliance.status()
            port = status.tcp[0].rpartition(":")[2]
            yield Stage(appliance, udp, tcp, tmp_path, port, private_memory_kib(status))


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"\x00", id="half a length"),
        pytest.param(b"\x00\x64\x00\x01", id="the start of a check"),
    ],
)
async def test_half_open_connections(stage: Stage, piece: bytes) -> None:
    async with stage.held(CONNECTIONS, SOURCES, [piece]) as counts:
        assert all(each.half_open <= LIMITS.half_open for each in counts)
        assert sum(each.closed["displaced"] for each in counts) > CONNECTIONS / 2
        await stage.assert_unmoved()
        assert all(each.closed["no-check"] for each in await stage.wait_settled())


async def test_one_address_gets_no_more_than_its_share(stage: Stage) -> None:
    async with stage.held(CONNECTIONS, 1, [b""]) as counts:
        assert all(each.half_open <= LIMITS.per_source for each in counts)
        assert all(each.refused["source-limit"] > CONNECTIONS / RELAYS / 2 for each in counts)
        await stage.assert_unmoved()


async def test_connections_with_a_captured_ufrag(stage: Stage) -> None:
    """They get to the transceiver, which confirms nothing, and then make room."""
    pieces = [framed(forged_check(stage.udp.ufrag)) for _ in range(100)]
    async with stage.held(CONNECTIONS, SOURCES, pieces) as counts:
        assert all(each.half_open <= LIMITS.half_open for each in counts)
        await stage.assert_unmoved()
        assert all(each.closed["not-confirmed"] for each in await stage.wait_settled())


async def test_connections_that_come_and_go(stage: Stage) -> None:
    command = [*FLOODER, "churn", stage.port, "3", str(SOURCES)]
    done = await trio.run_process(command, capture_stdout=True)
    print(done.stdout.decode())
    await stage.assert_unmoved()
    await stage.wait_settled()


async def test_garbage(stage: Stage) -> None:
    """Random bytes, good lengths with bad content, nothing but empty packets."""
    seeded = random.Random(5)
    pieces: list[bytes] = []
    for _ in range(100):
        pieces += [
            seeded.randbytes(seeded.randrange(1, 5000)),
            framed(seeded.randbytes(seeded.randrange(1500))),
            framed(b"\x00\x01" + seeded.randbytes(seeded.randrange(200))),
            b"\x00\x00" * 2000 + b"\xff\xff",
        ]
    async with stage.held(CONNECTIONS, SOURCES, pieces):
        counts = await stage.wait_settled()
        assert all(each.closed["not-a-check"] and each.closed["too-long"] for each in counts)
        await stage.assert_unmoved()


async def test_a_client_that_reads_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a call, sends, and lets its echo pile up: others do not notice."""
    async with calling_over_tcp(await stage.appliance.origin()) as call:
        await call.wait_echo(5)
        stuck = id(call.udp)
        receive = PacketStream.recv

        async def read(self: PacketStream, size: int) -> bytes:
            if id(self) == stuck:
                await trio.sleep_forever()
            return await receive(self, size)

        monkeypatch.setattr(PacketStream, "recv", read)
        start = trio.current_time()
        counts: list[StreamCounts] = []
        with trio.fail_after(SLOW_TIME_MAX):
            while not any("slow" in each.closed for each in counts):
                for _ in range(20):
                    call.peer.send_frame(trio.current_time())
                await call.flush()
                await trio.sleep(0.02)
                counts = await stage.counts()
        print(f"closed after {trio.current_time() - start:.1f} s")
    drops = [relay.drops for relay in relays_of(await stage.appliance.status())]
    dropped = sum(each.get("tcp-stale", 0) + each.get("tcp-backlog-full", 0) for each in drops)
    print(f"{dropped} packets were dropped for it")
    assert dropped > 100
    await stage.assert_unmoved()


def test_this_process_may_hold_that_many() -> None:
    assert os.sysconf("SC_OPEN_MAX") > CONNECTIONS + 200
