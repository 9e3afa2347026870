"""Reloads that give workers new settings: new ones take over, the former ones keep their calls."""

import contextlib
from pathlib import Path

import trio

from tests.integration.test_reload import assert_nothing_lost, reload
from tests.integration.test_resume import receive, send
from tests.support.appliance import Appliance, running_appliance, wait_status, write_config
from tests.support.caller import calling, new_credentials, offer, signaling
from tests.support.tcp_client import calling_over_tcp

ECHO = 'kind = "echo"'
BEFORE = {"default": ECHO, "old": ECHO}
AFTER = {"default": ECHO, "new": ECHO}


def slot_of(session: str) -> int:
    return int(session.split(".")[1])


async def states(appliance: Appliance, kind: str = "transceiver") -> dict[int, str]:
    return {one.index: one.state for one in await appliance.workers(kind)}


async def test_new_settings_are_for_new_calls_and_a_running_one_notices_nothing(
    tmp_path: Path,
) -> None:
    limit = "handover_limit = 600"
    async with (
        running_appliance(tmp_path, routes=BEFORE, supervisor=limit) as appliance,
        contextlib.AsyncExitStack() as stack,
    ):
        origin = await appliance.origin()
        calls = [await stack.enter_async_context(calling(origin, route="old")) for _ in range(4)]
        for call in calls:
            await call.wait_echo(10)
        owners = {slot_of(call.session) for call in calls}
        assert owners == {0, 1}
        write_config(
            tmp_path,
            routes=AFTER,
            supervisor=limit,
            transceivers=3,
            transceiver="sessions_max = 7",
            more="[access]\naddress_sessions_max = 40",
        )
        await reload(appliance, "reload: done")
        assert await states(appliance) == {
            0: "leaving",
            1: "leaving",
            2: "running",
            3: "running",
            4: "running",
        }
        for call in calls:
            told = await call.wait_message(type="going_away")
            assert 590 < told["deadline"] <= 600
        late = await stack.enter_async_context(calling(origin, route="new"))
        await late.wait_echo(10)
        assert slot_of(late.session) in {2, 3, 4}
        async with signaling(origin) as websocket:
            refused = await offer(websocket, new_credentials(), route="old")
            assert refused["code"] == "unknown-route"
        status = await wait_status(
            appliance, lambda status: all(one.statistics is not None for one in status.workers)
        )
        limits = [
            one.statistics.placement.sessions_max
            for one in status.workers
            if one.statistics is not None and one.kind == "transceiver" and one.index > 1
            if hasattr(one.statistics, "placement")
        ]
        assert limits == [7, 7, 7]
        await calls[0].restart_ice()
        await calls[0].wait_echo(calls[0].peer.record.echoed + 25)
        await assert_nothing_lost([*calls, late])


async def test_a_call_of_a_former_generation_ends_at_the_limit(tmp_path: Path) -> None:
    limit = "handover_limit = 2"
    async with running_appliance(tmp_path, routes=BEFORE, supervisor=limit) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo(10)
            write_config(tmp_path, routes=AFTER, supervisor=limit)
            await reload(appliance, "reload: done")
            began = trio.current_time()
            told = await call.wait_message(type="going_away")
            assert 0 < told["deadline"] <= 2
            await call.wait_message(type="bye", reason="going-away")
            assert trio.current_time() - began > 1
        with trio.fail_after(10):
            while await states(appliance) != {2: "running", 3: "running"}:
                await trio.sleep(0.05)
        write_config(tmp_path, routes=BEFORE, supervisor=limit)
        await reload(appliance, "reload: done")
        assert {0, 1} <= (await states(appliance)).keys(), "the slots are free again"


async def test_a_call_of_a_former_generation_is_resumed_and_ended_through_a_new_worker(
    tmp_path: Path,
) -> None:
    async with running_appliance(tmp_path, routes=BEFORE) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo(10)
            write_config(tmp_path, routes=AFTER)
            await reload(appliance, "reload: done")
            await call.cut_signaling()
            async with signaling(origin) as websocket:
                await send(websocket, type="resume", session=call.session, secret=call.secret)
                assert (await receive(websocket))["type"] == "resumed"
                while (message := await receive(websocket))["type"] == "state":
                    pass
                assert message["type"] == "going_away"
                assert 3590 < message["deadline"] <= 3600
                await assert_nothing_lost([call])
                await send(websocket, type="bye")
                assert (await receive(websocket))["type"] == "bye"
        with trio.fail_after(10):
            while 0 in (now := await states(appliance)) and 1 in now:
                await trio.sleep(0.05)


async def test_workers_that_cannot_start_take_nothing_over(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        async with calling(await appliance.origin()) as call:
            await call.wait_echo(10)
            write_config(
                tmp_path,
                signal=f'tls_certificate = "{tmp_path}/none.pem"\ntls_key = "{tmp_path}/none.key"',
            )
            line = await reload(appliance, "reload: nothing was changed")
            assert "none.pem" in line or "none.key" in line
            assert await states(appliance) == {0: "running", 1: "running"}
            await assert_nothing_lost([call])
        async with calling(await appliance.origin()) as again:
            await again.wait_echo(10)


async def test_relays_are_replaced_without_a_lost_packet(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, contextlib.AsyncExitStack() as stack:
        origin = await appliance.origin()
        calls = [await stack.enter_async_context(calling(origin)) for _ in range(8)]
        for call in calls:
            await call.wait_echo(10)
        for flows in (5000, 6000, 7000):
            before = {one.pid for one in await appliance.workers("relay")}
            write_config(tmp_path, relay=f"flows_max = {flows}\ncoalesce_us = 100")
            await reload(appliance, "reload: done")
            assert not before & {one.pid for one in await appliance.workers("relay")}
        assert await states(appliance) == {0: "running", 1: "running"}
        await assert_nothing_lost(calls)


async def test_a_relay_that_is_replaced_keeps_its_tcp_connections(tmp_path: Path) -> None:
    tcp = 'tcp_listen = ["127.0.0.1:0"]\n'
    async with running_appliance(tmp_path, relay=tcp, relays=1) as appliance:
        origin = await appliance.origin()
        async with calling_over_tcp(origin) as call:
            await call.wait_echo(10)
            write_config(tmp_path, relay=f"{tcp}flows_max = 5000", relays=1)
            await reload(appliance, "reload: done")
            assert await states(appliance, "relay") == {0: "leaving", 1: "running"}
            async with calling_over_tcp(origin) as late, calling(origin) as udp:
                await late.wait_echo(10)
                await udp.wait_echo(10)
            await assert_nothing_lost([call])
        with trio.fail_after(10):
            while await states(appliance, "relay") != {1: "running"}:
                await trio.sleep(0.05)


async def test_the_log_level_is_live(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance:
        before = {one.pid for one in (await appliance.status()).workers}
        write_config(tmp_path, more='[log]\nlevel = "warning"')
        appliance.process.send_signal(1)
        with trio.fail_after(10):
            while (seen := await calls_logged(appliance)) > 0:
                assert seen == 1, "a call says more than one line"
        assert {one.pid for one in (await appliance.status()).workers} == before


async def calls_logged(appliance: Appliance) -> int:
    """Make a call; return 1 if a worker has said something of it."""
    seen = len(appliance.lines)
    async with calling(await appliance.origin()) as call:
        await call.wait_echo(3)
    return int(any("transceiver-" in line for line in appliance.lines[seen:]))
