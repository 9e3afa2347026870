"""Calls over TCP through the running appliance."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest
import trio

from edge.control.statistics import StreamCounts
from edge.control.status import Status
from tests.adversary.hosts import relays_of
from tests.support.appliance import Appliance, running_appliance, wait_status
from tests.support.caller import calling
from tests.support.tcp_client import calling_over_tcp, connect

TCP = 'tcp_listen = ["{host}:0"]'


async def tcp_counts(appliance: Appliance) -> list[StreamCounts]:
    return [relay.tcp for relay in await appliance.relays()]


def has_relays(count: int, status: Status) -> bool:
    return sum(one.state == "running" for one in status.workers if one.kind == "relay") == count


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("setup", ["actpass", "active"])
async def test_a_call_hears_its_echo(tmp_path: Path, host: str, setup: str) -> None:
    bracketed = f"[{host}]" if ":" in host else host
    async with running_appliance(
        tmp_path, host=bracketed, relay=TCP.format(host=bracketed)
    ) as appliance:
        async with calling_over_tcp(await appliance.origin(), setup=setup, frames=100) as call:
            await call.wait_echo(100)
            assert call.peer.record.sequence_numbers == sorted(call.peer.record.sequence_numbers)
            assert call.peer.mapped is not None
            assert call.peer.mapped.host == host
            delays = sorted(call.peer.record.round_trips)
            print(f"echo: median {delays[50] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
            counts = await tcp_counts(appliance)
            assert sum(each.connections for each in counts) == 1
        await wait_status(
            appliance,
            lambda status: not any(relay.tcp.connections for relay in relays_of(status)),
        )
        assert not any(
            each.closed.keys() - {"released", "client"} for each in await tcp_counts(appliance)
        )


async def test_many_calls_over_both(tmp_path: Path) -> None:
    async with running_appliance(tmp_path, relay=TCP.format(host="127.0.0.1")) as appliance:
        origin = await appliance.origin()
        async with trio.open_nursery() as nursery:

            async def call_once(over_tcp: bool) -> None:
                way = calling_over_tcp if over_tcp else calling
                async with way(origin, frames=50) as call:
                    await call.wait_echo(50)

            for number in range(20):
                nursery.start_soon(call_once, number % 2 == 0)


async def test_a_relay_that_dies_costs_a_new_connection_and_no_call(tmp_path: Path) -> None:
    """The client connects again, as ICE does, and goes on with its keys."""
    async with (
        running_appliance(tmp_path, relays=1, relay=TCP.format(host="127.0.0.1")) as appliance,
        calling_over_tcp(await appliance.origin()) as call,
    ):
        await call.wait_echo(20)
        [worker] = await appliance.workers("relay")
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await appliance.wait_line("worker relay-0 is back")
        old, call.udp = call.udp, await connect(call.peer.server)  # type: ignore[assignment]
        old.close()
        echoed = call.peer.record.echoed
        call.peer.check(trio.current_time())
        await call.wait_echo(echoed + 50)


async def test_a_client_moves_between_tcp_connections_and_udp(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, relay=TCP.format(host="127.0.0.1")) as appliance,
        calling_over_tcp(await appliance.origin()) as call,
    ):
        await call.wait_echo(20)
        for _ in range(3):
            old, call.udp = call.udp, await connect(call.peer.server)  # type: ignore[assignment]
            old.close()
            echoed = call.peer.record.echoed
            call.peer.check(trio.current_time())
            await call.wait_echo(echoed + 30)
        assert call.peer.record.longest_gap < 1.5


async def test_relays_come_and_go(tmp_path: Path) -> None:
    async with running_appliance(
        tmp_path, relays=1, relay=TCP.format(host="127.0.0.1")
    ) as appliance:
        origin = await appliance.origin()
        config = tmp_path / "edge.toml"
        for workers in (3, 1):
            text = config.read_text()
            config.write_text(text.replace(f"workers = {4 - workers}", f"workers = {workers}", 1))
            appliance.lines.clear()
            appliance.process.send_signal(signal.SIGHUP)
            await appliance.wait_line("reload: done")
            await wait_status(appliance, partial(has_relays, workers))
            for _ in range(8):
                async with calling_over_tcp(origin, frames=5) as call:
                    await call.wait_echo(5)
