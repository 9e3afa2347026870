"""A drain with a deadline: what clients of the real appliance are told of it, and when."""

import os
import signal
from pathlib import Path

import trio
from trio_websocket import WebSocketConnection

from edge.client import open_call
from edge.control.status import Status
from edge.signal.messages import Bye, ByeReason, GoingAway, Staying
from tests.integration.test_commands import appliance_with_calls, edge
from tests.integration.test_fleet_hosts import calls_of_both, pair_of_hosts
from tests.integration.test_generations import AFTER, BEFORE, states
from tests.integration.test_reload import assert_nothing_lost, reload
from tests.integration.test_resume import receive, resuming, send
from tests.integration.test_supervision import children_of
from tests.support.appliance import running_appliance, wait_status, write_config
from tests.support.caller import LiveCall, calling, make_offer, new_credentials, signaling

SLACK = 20.0
"""Seconds that a busy machine may take for a command."""


def told(call: LiveCall) -> list[str]:
    """Return what a call was told of its end, in order."""
    known = ("going_away", "staying", "bye")
    return [each["type"] for each in call.messages if each["type"] in known]


async def deadline_of(call: LiveCall, number: int) -> float:
    """Wait until a call is told when it ends, for the first time (1) or another."""

    def deadlines() -> list[float]:
        return [each["deadline"] for each in call.messages if each["type"] == "going_away"]

    await call.wait(lambda: len(deadlines()) >= number)
    return deadlines()[number - 1]


async def next_deadline(websocket: WebSocketConnection) -> float:
    """Return the deadline of the next message that is no state."""
    while (message := await receive(websocket))["type"] == "state":
        pass
    assert message["type"] == "going_away"
    return float(message["deadline"])


async def order(directory: Path, *words: str) -> None:
    status, _, errors = await edge(directory, *words)
    assert status == 0, errors


async def test_a_deadline_another_one_and_none(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 3) as (appliance, calls):
        origin = await appliance.origin()
        await order(tmp_path, "drain")
        await order(tmp_path, "drain", "--deadline", "600")
        for call in calls:
            assert 600 - SLACK < await deadline_of(call, 1) <= 600
        await order(tmp_path, "drain", "--deadline", "60")
        for call in calls:
            assert 60 - SLACK < await deadline_of(call, 2) <= 60
        await calls[0].cut_signaling()
        async with resuming(origin, calls[0]):
            assert 60 - 2 * SLACK < await deadline_of(calls[0], 3) < 60
            await order(tmp_path, "undrain")
            for call in calls:
                await call.wait_message(type="staying")
        assert [told(call)[-2:] for call in calls] == 3 * [["going_away", "staying"]]
        assert [len(told(call)) for call in calls] == [4, 3, 3], "a drain alone is no news"
        await order(tmp_path, "drain", "--deadline", "300")
        await order(tmp_path, "drain")
        await calls[1].wait(lambda: told(calls[1])[3:] == ["going_away", "staying"])
        await assert_nothing_lost(calls)


async def test_what_is_told_comes_true(tmp_path: Path) -> None:
    async with appliance_with_calls(tmp_path, 1) as (appliance, (call,)):
        began = trio.current_time()
        await order(tmp_path, "drain", "--deadline", "3")
        assert 0 < await deadline_of(call, 1) <= 3
        await call.wait_message(type="bye", reason="going-away")
        assert trio.current_time() - began >= 3
        assert told(call) == ["going_away", "bye"]

        def is_over(status: Status) -> bool:
            return status.drain is not None and status.drain.deadline is None

        await wait_status(appliance, is_over)
        await order(tmp_path, "undrain")
        async with calling(await appliance.origin()) as late:
            await late.wait_echo(5)
            assert told(late) == []


async def test_a_client_that_uses_the_library_hears_it(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        open_call(f"ws://{await appliance.origin()}/v1/session") as call,
    ):
        await call.offer(make_offer(new_credentials()))
        await order(tmp_path, "drain", "--deadline", "100")
        await order(tmp_path, "undrain")
        with trio.fail_after(10):
            event = await call.next_event()
            assert isinstance(event, GoingAway)
            assert 100 - SLACK < event.deadline <= 100
            assert await call.next_event() == Staying()
            await order(tmp_path, "drain", "--deadline", "0")
            end = await call.wait_ended()
        assert isinstance(end, Bye)
        assert end.reason is ByeReason.GOING_AWAY


async def test_of_a_handover_and_a_drain_the_earlier_end_is_told(tmp_path: Path) -> None:
    limit = "handover_limit = 300"
    async with (
        running_appliance(tmp_path, routes=BEFORE, supervisor=limit) as appliance,
        calling(await appliance.origin()) as call,
    ):
        origin = await appliance.origin()
        await call.wait_echo(10)
        await order(tmp_path, "drain", "--deadline", "600")
        assert 600 - SLACK < await deadline_of(call, 1) <= 600
        write_config(tmp_path, routes=AFTER, supervisor=limit)
        await reload(appliance, "reload: done")
        assert "leaving" in (await states(appliance)).values()
        handover = await deadline_of(call, 2)
        assert 300 - SLACK < handover <= 300
        await call.cut_signaling()
        async with signaling(origin) as websocket:
            await send(websocket, type="resume", session=call.session, secret=call.secret)
            assert (await receive(websocket))["type"] == "resumed"
            assert 300 - 2 * SLACK < await next_deadline(websocket) < handover
            await order(tmp_path, "drain", "--deadline", "100")
            assert 100 - SLACK < await next_deadline(websocket) <= 100
            await order(tmp_path, "undrain")
            assert 300 - 4 * SLACK < await next_deadline(websocket) < handover, "it has to leave"
        async with calling(origin) as late:
            await late.wait_echo(5)
            await order(tmp_path, "drain", "--deadline", "100")
            assert 100 - SLACK < await deadline_of(late, 1) <= 100, "its worker is a new one"
            assert told(late) == ["going_away"]


async def test_a_drain_that_begins_while_workers_start_counts_for_them(tmp_path: Path) -> None:
    async with running_appliance(tmp_path, routes=BEFORE) as appliance:
        pid = appliance.process.pid
        before = children_of(pid)
        write_config(tmp_path, routes=AFTER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reload, appliance, "reload: done")
            with trio.fail_after(10):
                while not (new := children_of(pid) - before):
                    await trio.sleep(0.001)
            for each in new:  # so that they are not ready yet
                os.kill(each, signal.SIGSTOP)
            await order(tmp_path, "drain", "--deadline", "100")
            assert set(await states(appliance)) == {0, 1}, "the new ones have not taken over"
            for each in new:
                os.kill(each, signal.SIGCONT)
        assert set(await states(appliance)) == {2, 3}
        async with signaling(await appliance.origin()) as websocket:
            await send(websocket, type="offer", sdp=make_offer(new_credentials()))
            assert (await receive(websocket))["code"] == "busy"


async def test_a_client_whose_session_is_on_another_host_is_told(tmp_path: Path) -> None:
    async with pair_of_hosts(tmp_path) as (pair, first, _), calls_of_both(first) as (own, (call,)):
        await order(pair.folders[1], "drain", "--deadline", "100")
        assert 100 - SLACK < await deadline_of(call, 1) <= 100
        await call.cut_signaling()
        async with resuming(await first.origin(), call):
            assert 100 - 2 * SLACK < await deadline_of(call, 2) < 100
            await order(pair.folders[1], "undrain")
            await call.wait_message(type="staying")
        assert told(own) == []
