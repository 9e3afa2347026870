"""Backends that do their worst, each beside calls that have done nothing to deserve it.

All calls are one transceiver's. The bad backend is a process of its own. What is asked of the
others: every packet back, on time; STUN and RTCP answered; the worker's memory bounded.
"""

import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from attrs import frozen

from edge.control.statistics import Punctuality, TransceiverStatistics
from edge.control.status import WorkerStatus
from edge.rtp.rtcp import RtcpPacket, SenderReport
from tests.support.appliance import Appliance, running_appliance
from tests.support.caller import LiveCall, calling
from tests.support.fake_backend_process import (
    BackendProcess,
    flooding_process,
    garbage_process,
    listening_process,
    never_reading_process,
)
from tests.support.native_backend import example_backend
from tests.support.speech import speech
from tests.support.talker import Conversation, opus_payloads, said, talking

RATE_HZ = 24_000
WORDS = said(opus_payloads(speech(4.0, RATE_HZ, 5), RATE_HZ))
CALLS = 3
"""Of each kind, echo and backend."""
BAD_CALLS = 2
GROWTH_MAX_BYTES = 30 << 20
ON_TIME_MIN = 0.99


@frozen
class Scene:
    """Calls that must not notice anything: ``echoes`` and ``talks``. And those who do."""

    appliance: Appliance
    echoes: list[LiveCall]
    talks: list[Conversation]
    bad: list[Conversation]

    async def settle(self) -> None:
        for echo in self.echoes:
            await echo.wait_echo(50)
        for talk in self.talks:
            await talk.wait_heard(50)

    async def worker(self) -> tuple[WorkerStatus, TransceiverStatistics]:
        (status,) = await self.appliance.workers("transceiver")
        assert isinstance(status.statistics, TransceiverStatistics)
        return status, status.statistics

    async def waited(self) -> float:
        """Return for how long the worker could have run and had no CPU, in seconds."""
        status, _ = await self.worker()
        assert status.pid is not None
        return waited_for_cpu(status.pid)

    async def memory_bytes(self) -> int:
        status, _ = await self.worker()
        assert status.pid is not None
        return resident_bytes(status.pid)


def waited_for_cpu(pid: int) -> float:
    _, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(waited_ns) / 1e9


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


@asynccontextmanager
async def scene(directory: Path, backend: BackendProcess) -> AsyncIterator[Scene]:
    """Start the calls, good and bad, and wait until the good ones are heard."""
    async with example_backend() as url:
        routes = {
            "default": 'kind = "echo"',
            "good": f'kind = "websocket"\nurl = "{url}"\nrate_hz = {RATE_HZ}',
            "bad": f'kind = "websocket"\nurl = "{backend.url}"\nrate_hz = {RATE_HZ}\n'
            "queue_max = 2.0",
        }
        async with (
            running_appliance(directory, transceivers=1, relays=1, routes=routes) as appliance,
            trio.open_nursery() as nursery,
        ):
            origin = await appliance.origin()
            echoes: list[LiveCall] = [
                await nursery.start(_keep, calling(origin)) for _ in range(CALLS)
            ]
            talks, bad = [
                [
                    await nursery.start(_keep, talking(origin, WORDS, route=route, repeat=True))
                    for _ in range(count)
                ]
                for route, count in (("good", CALLS), ("bad", BAD_CALLS))
            ]
            here = Scene(appliance, echoes, talks, bad)
            await here.settle()
            yield here
            nursery.cancel_scope.cancel()


async def _keep(
    call: AbstractAsyncContextManager[LiveCall | Conversation],
    *,
    task_status: trio.TaskStatus[LiveCall | Conversation],
) -> None:
    """Hold a call in a task of its own."""
    async with call as started:
        task_status.started(started)
        await trio.sleep_forever()


def _on_time(figures: Punctuality) -> int:
    return sum(figures.late_up_to[bound] for bound in ("1", "2", "5"))


async def check_neighbours(
    here: Scene, seconds: float, trouble: Callable[[], Awaitable[None]] = trio.sleep_forever
) -> None:
    """Judge what the others and the worker make of ``seconds`` of trouble."""
    echoes, talks = here.echoes, here.talks
    memory, before = await here.memory_bytes(), (await here.worker())[1].punctuality
    waited, began = await here.waited(), trio.current_time()
    firsts = [len(talk.talker.packets) for talk in talks]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trouble)
        while trio.current_time() < began + seconds:
            for echo in echoes:  # beside the regular ones
                echo.peer.mapped = None
                echo.peer.check(trio.current_time())
            for echo in echoes:
                await echo.wait(lambda echo=echo: echo.peer.mapped is not None, 3.0)  # type: ignore[misc]
            await trio.sleep(0.5)
        growth = await here.memory_bytes() - memory
        nursery.cancel_scope.cancel()
    waiting = (await here.waited() - waited) / (trio.current_time() - began)
    await trio.sleep(0.3)  # until the status has it

    after = (await here.worker())[1].punctuality
    skipped = after.skipped - before.skipped
    due = after.frames - before.frames + skipped
    on_time = (_on_time(after) - _on_time(before)) / due
    gap = 1e3 * max(echo.peer.record.longest_gap for echo in echoes)
    print(f"on time {on_time:.2%} of {due}, {skipped} skipped, longest gap of an echo {gap:.0f} ms")
    print(f"memory {growth / (1 << 20):+.1f} MiB, waited for a CPU {waiting:.1%} of the time")
    for echo in echoes:
        sent = echo.peer.record.sent
        await echo.wait_echo(sent, 3.0)
        assert any(_lossless(packet) for packet in echo.peer.record.rtcp)
    for talk, first in zip(talks, firsts, strict=True):
        packets = talk.talker.packets[first:]
        numbers = [packet.sequence_number for packet in packets]
        assert [(number - numbers[0]) & 0xFFFF for number in numbers] == list(range(len(packets)))
        ticks = (packets[-1].timestamp - packets[0].timestamp) & 0xFFFF_FFFF
        assert ticks / 48_000 > seconds - 0.5
        assert not [each for each in talk.call.messages if each["type"] == "bye"]
    assert growth < GROWTH_MAX_BYTES
    assert on_time >= ON_TIME_MIN - 3 * waiting, "and that is not for want of a CPU"


def _lossless(packet: RtcpPacket) -> bool:
    return isinstance(packet, SenderReport) and all(not each.packets_lost for each in packet.blocks)


async def wait_open(here: Scene) -> None:
    for call in here.bad:
        await call.wait_state("backend")
        await call.wait_state("media")


async def test_a_backend_that_is_stopped(tmp_path: Path) -> None:
    """The kernel takes some sound, the link two seconds; of the rest the oldest is dropped."""
    async with listening_process() as backend, scene(tmp_path, backend) as here:
        await wait_open(here)
        await trio.sleep(0.5)
        backend.process.send_signal(signal.SIGSTOP)
        await check_neighbours(here, 10.0)
        backend.lines()
        assert any("does not keep up" in line for line in here.appliance.lines)
        backend.process.send_signal(signal.SIGCONT)
        present = [trio.current_time() - (call.talker.started_at or 0.0) for call in here.bad]
        heard: defaultdict[str, list[float]] = defaultdict(list)

        def caught_up() -> bool:
            for line in backend.lines():
                connection, media_time = line.split()
                heard[connection].append(float(media_time))
            return len(heard) == BAD_CALLS and all(
                times[-1] > min(present) for times in heard.values()
            )

        await here.echoes[0].wait(caught_up, 15.0)
        await here.appliance.wait_line("keeps up again")
        for times in heard.values():
            jumps = [after - before for before, after in pairwise(times)]
            print(f"heard {times[0]:.1f} to {times[-1]:.1f} s, jumped by {max(jumps):.1f} s")
            assert min(jumps) > 0, "in order"
            assert max(jumps) > 2, "the oldest was dropped"
        assert here.echoes[0].peer.record.echoed > 500


@pytest.mark.parametrize(
    ("pattern", "total_bytes"),
    [
        pytest.param(
            b"\x82\x7e\x05\x08\x12\x00\x00\x00\x00\x00\x00\x01" + bytes(1280), 100 << 20, id="sound"
        ),
        pytest.param(b"\x82\x00", 4 << 20, id="empty messages"),
        pytest.param(b"\x81\x10" + b'{"type": "what"}', 20 << 20, id="events"),
    ],
)
async def test_a_backend_that_floods(tmp_path: Path, pattern: bytes, total_bytes: int) -> None:
    async with (
        flooding_process(pattern, total_bytes) as backend,
        scene(tmp_path, backend) as here,
    ):
        await check_neighbours(here, 3.0)


async def test_a_backend_that_never_reads(tmp_path: Path) -> None:
    async with never_reading_process() as backend, scene(tmp_path, backend) as here:
        await wait_open(here)
        await check_neighbours(here, 3.0)
        assert not [each for one in here.bad for each in one.call.messages if each["type"] == "bye"]
        await here.bad[0].call.send({"type": "bye"})
        assert await here.bad[0].wait_bye(3.0) == "hang-up"


async def test_a_backend_that_talks_garbage(tmp_path: Path) -> None:
    async with (
        garbage_process() as backend,
        scene(tmp_path, backend) as here,
    ):
        for call in here.bad:
            assert await call.wait_bye() == "backend-lost"
        origin = await here.appliance.origin()

        async def call_again() -> None:
            while True:
                async with talking(origin, WORDS, route="bad") as call:
                    assert await call.wait_bye() == "backend-lost"
                await trio.sleep(0.1)  # a session's memory is given back when its timers are over

        await check_neighbours(here, 3.0, call_again)
