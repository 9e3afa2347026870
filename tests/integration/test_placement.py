"""Which worker of the appliance owns a call, and what becomes of calls whose workers are killed."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from trio_websocket import WebSocketConnection

from edge.control.statistics import TransceiverStatistics
from edge.control.status import Status, WorkerStatus
from tests.support.appliance import Appliance, running_appliance, wait_status
from tests.support.caller import LiveCall, calling, make_offer, new_credentials, offer, signaling
from tests.support.speech import speech
from tests.support.talker import opus_payloads, said, talking

CALLS = 18
RATE_HZ = 24_000
ON_TIME_MIN = 0.98
LATE = 0.96


def owner_of(call: LiveCall) -> int:
    return int(call.session.split(".")[1])


def accepts(pid: int, websocket: WebSocketConnection) -> bool:
    """Tell whether a process has the server's end of a connection."""
    stream = websocket._stream
    assert isinstance(stream, trio.SocketStream)
    ends = [
        f":{port:04X}" for _, port in (stream.socket.getpeername(), stream.socket.getsockname())
    ]
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    (inode,) = (row[9] for row in rows if [row[1][8:], row[2][8:]] == ends)
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(descriptor.readlink()) == f"socket:[{inode}]":
                return True
    return False


async def pids(appliance: Appliance) -> list[int]:
    found = [worker.pid for worker in await appliance.workers("transceiver")]
    return [pid for pid in found if pid is not None]


async def acceptor_of(appliance: Appliance, websocket: WebSocketConnection) -> int:
    """Return the worker that has a connection's other end."""
    for index, pid in enumerate(await pids(appliance)):
        if await trio.to_thread.run_sync(accepts, pid, websocket):
            return index
    raise AssertionError("nobody has it")


async def call_elsewhere(
    appliance: Appliance, calls: contextlib.AsyncExitStack, **options: Any
) -> tuple[LiveCall, int]:
    """Return a call whose signaling and media are at different workers, and the former."""
    while True:
        call = await calls.enter_async_context(calling(await appliance.origin(), **options))
        accepting = await acceptor_of(appliance, call.websocket)
        if accepting != owner_of(call):
            return call, accepting


@asynccontextmanager
async def resuming(origin: str, call: LiveCall) -> AsyncIterator[None]:
    """Resume a call on another connection."""
    async with signaling(origin) as websocket:
        resume = {"type": "resume", "session": call.session, "secret": call.secret}
        call.websocket = websocket
        await call.send(resume)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run_signaling)
            await call.wait_message(type="resumed", session=call.session)
            yield
            nursery.cancel_scope.cancel()


async def test_calls_spread_evenly_whichever_worker_the_kernel_chooses(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, transceivers=3) as appliance,
        contextlib.AsyncExitStack() as calls,
    ):
        origin = await appliance.origin()
        opened = [await calls.enter_async_context(calling(origin)) for _ in range(CALLS)]
        assert Counter(map(owner_of, opened)) == {0: 6, 1: 6, 2: 6}
        for call in opened:
            await call.wait_echo(10)
        accepted = Counter([await acceptor_of(appliance, call.websocket) for call in opened])
        print(f"signaling accepted by {dict(accepted)}")
        await wait_status(
            appliance, lambda status: sum(_sessions(each) for each in status.workers) == CALLS
        )
        placed = [one.placement for one in await appliance.transceivers()]
        elsewhere = sum(each.opened_elsewhere for each in placed)
        assert [each.opened_here + each.opened_elsewhere for each in placed] == [
            accepted[worker] for worker in range(3)
        ]
        assert [each.opened_here + each.opened_for_others for each in placed] == [6, 6, 6]
        assert elsewhere == sum(each.remote for each in placed) > 0


async def test_a_killed_worker_that_only_signals_costs_no_call(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, transceivers=3, signal="grace = 20.0") as appliance,
        contextlib.AsyncExitStack() as calls,
    ):
        origin = await appliance.origin()
        call, accepting = await call_elsewhere(appliance, calls)
        await call.wait_echo(10)
        call.peer.record.longest_gap = 0.0
        os.kill((await pids(appliance))[accepting], signal.SIGKILL)
        await call.wait(lambda: call.websocket.closed is not None)
        await call.wait_echo(call.peer.record.echoed + 50)
        for _ in range(4):  # on whichever worker the kernel chooses
            async with resuming(origin, call):
                await call.restart_ice()
                await call.wait_echo(call.peer.record.echoed + 10)
        async with resuming(origin, call):
            print(f"longest gap: {call.peer.record.longest_gap:.3f} s")
            assert call.peer.record.longest_gap < 1.0
            await call.send({"type": "bye"})
            await call.wait_message(type="bye", reason="hang-up")


async def test_the_client_is_told_when_the_owner_of_its_call_is_killed(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, transceivers=3, supervisor="drain_limit = 0.0") as appliance,
        contextlib.AsyncExitStack() as calls,
    ):
        call, _ = await call_elsewhere(appliance, calls)
        await call.wait_echo()
        os.kill((await pids(appliance))[owner_of(call)], signal.SIGKILL)
        await call.wait_message(type="bye", reason="internal", timeout=2.0)
        await appliance.wait_line(f"worker transceiver-{owner_of(call)} is back")
        await call.send({"type": "offer", "sdp": make_offer(new_credentials())})
        await call.wait_message(type="answer")  # the connection is good for another one
        async with signaling(await appliance.origin()) as websocket:
            resume = {"type": "resume", "session": call.session, "secret": call.secret}
            await websocket.send_message(msgspec.json.encode(resume).decode())
            assert msgspec.json.decode(await websocket.get_message())["code"] == "unknown-session"


async def test_a_worker_that_only_signals_stays_until_its_calls_are_over(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, transceivers=3, supervisor="drain_limit = 60.0") as appliance,
        contextlib.AsyncExitStack() as calls,
    ):
        call, _ = await call_elsewhere(appliance, calls)
        await call.wait_echo(10)
        async with calling(await appliance.origin()) as another:
            await another.wait_echo()
            appliance.terminate()
            await appliance.wait_line("waiting up to 60 s")
        await call.wait_echo(call.peer.record.echoed + 100)
        assert call.websocket.closed is None
        await call.send({"type": "bye"})
        await call.wait_message(type="bye", reason="hang-up")


async def test_a_full_host_refuses_and_its_calls_stay_good(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, transceiver="sessions_max = 2") as appliance,
        contextlib.AsyncExitStack() as calls,
    ):
        origin = await appliance.origin()
        opened = [await calls.enter_async_context(calling(origin)) for _ in range(4)]
        for call in opened:
            await call.wait_echo(10)
            call.peer.record.longest_gap = 0.0
        for _ in range(20):
            async with signaling(origin) as websocket:
                refusal = await offer(websocket, new_credentials())
                assert (refusal["type"], refusal["code"]) == ("error", "busy")
                assert refusal["retry_after"] > 0
        for call in opened:
            await call.wait_echo(call.peer.record.echoed + 25)
            assert call.peer.record.longest_gap < 1.0
        await opened[0].send({"type": "bye"})
        await opened[0].wait_message(type="bye")
        async with calling(origin) as call:
            await call.wait_echo()
            assert owner_of(call) == owner_of(opened[0])
        refused = sum(one.placement.refused for one in await appliance.transceivers())
        assert refused == 20


@asynccontextmanager
async def stuttering(pids: list[int]) -> AsyncIterator[None]:
    """Stop processes for a moment, again and again."""

    async def stutter() -> None:
        while True:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            await trio.sleep(0.1)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            await trio.sleep(0.2)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stutter)
            yield
            nursery.cancel_scope.cancel()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def wait_ratio(appliance: Appliance, worker: int, good: Callable[[float], bool]) -> None:
    """Wait until a worker's on-time ratio is as it should be."""

    def is_good(status: Status) -> bool:
        statistics = [
            each.statistics
            for each in status.workers
            if isinstance(each.statistics, TransceiverStatistics)
        ]
        return good(statistics[worker].placement.on_time_ratio)

    await wait_status(appliance, is_good)


async def test_late_workers_take_no_new_calls(tmp_path: Path) -> None:
    """That another program takes the time away is no excuse."""
    slots = said(opus_payloads(speech(1.0, RATE_HZ, 9), RATE_HZ))
    async with (
        running_appliance(
            tmp_path, routes={"default": 'kind = "loopback"'}, on_time_min=ON_TIME_MIN
        ) as appliance,
        contextlib.AsyncExitStack() as calls,
    ):
        origin = await appliance.origin()
        for _ in range(6):
            await calls.enter_async_context(talking(origin, slots, repeat=True))
        workers = await pids(appliance)
        async with stuttering(workers[:1]):
            await wait_ratio(appliance, 0, lambda ratio: ratio < LATE)
            for _ in range(10):
                async with signaling(origin) as websocket:
                    answer = await offer(websocket, new_credentials())
                    if answer["type"] == "answer":
                        assert answer["session"].startswith("1.1.")
                    else:
                        assert answer["code"] == "busy", "the other one is late by itself"
        async with stuttering(workers):
            for worker in (0, 1):
                await wait_ratio(appliance, worker, lambda ratio: ratio < LATE)
            async with signaling(origin) as websocket:
                refusal = await offer(websocket, new_credentials())
                assert (refusal["type"], refusal["code"]) == ("error", "busy")


def _sessions(worker: WorkerStatus) -> int:
    return getattr(worker.statistics, "sessions", 0)
