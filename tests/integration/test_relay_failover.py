"""Real appliances: a host with transceivers, and two that only relay and have one public address.

The kernel gives each client to one of the two; when that one is killed, to the other. On one
machine two share a port only if they are handed the sockets.
"""

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from attrs import define

from edge.control.statistics import RelayStatistics
from edge.control.status import Status
from tests.support.appliance import (
    Appliance,
    attended,
    start_edge,
    start_edge_with,
    wait_status,
    write_config,
)
from tests.support.caller import LiveCall, calling
from tests.support.peer import CHECK_INTERVAL
from tests.support.redis_server import RedisServer, free_port, redis_server
from tests.support.trunk import free_ports

SECRET = "0f" * 32
SLACK = 1.0
"""Seconds that a busy machine may add to a gap."""

FLEET = """
[fleet]
host = "{name}"
frame_port = {port}
relay_port = {relay_port}
control_port = {control_port}
[sites.here]
latitude = 50.1
longitude = 8.7
relays = ["{public}"]
[clusters.one]
id = 7
site = "here"
[hosts.voice]
site = "here"
cluster = "one"
number = 2
internal = "{net}.1"
[hosts.left]
site = "here"
internal = "{net}.2"
[hosts.right]
site = "here"
internal = "{net}.3"
[keys]
routing = [{{ id = 0, key = "000102030405060708090a0b0c0d0e0f" }}]
password = "{secret}"
fleet = [{{ id = 1, key = "{secret}" }}]
{redis}
"""


@define
class Hosts:
    voice: Appliance
    relays: dict[str, Appliance]

    async def carrier_of(self, call: LiveCall) -> str:
        """Return which relay host has the call's packets."""
        await call.wait_echo(20)
        for name, each in self.relays.items():
            if sum(one.packets for one in await each.relays()) >= 20:
                return name
        raise AssertionError("no relay has packets")


def kill(appliance: Appliance) -> None:
    """As if the host had lost its power."""
    appliance.process.kill()


@asynccontextmanager
async def hosts(directory: Path, redis: RedisServer | None) -> AsyncIterator[Hosts]:
    net = f"127.{60 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
    members = [f"{net}.{number}" for number in (1, 2, 3)]
    port = free_ports(members, 64 + 8)
    public = f"{net}.9:{free_port(f'{net}.9')}"
    table = ""
    if redis is not None:
        table = f'[redis]\naddresses = ["{redis.host}:{redis.port}"]\ncommand_timeout = 0.5'
    control_port, made = free_port(members[0]), {}
    async with AsyncExitStack() as running:
        for name, transceivers in (("voice", 1), ("left", 0), ("right", 0)):
            folder = directory / name
            folder.mkdir()
            words = {
                "name": name, "port": port, "relay_port": port + 64, "public": public, "net": net,
                "control_port": control_port, "secret": SECRET, "redis": table,
            }  # fmt: skip
            more = FLEET.format(**words)
            config = write_config(folder, relays=1, transceivers=transceivers, more=more)
            if transceivers:
                process = await start_edge("run", "--config", str(config))
            else:
                text = config.read_text()
                config.write_text(
                    text.replace('listen = ["127.0.0.1:0"]', f'listen = ["{public}"]', 1)
                )
                process = await start_relay(config, public)
            made[name] = await running.enter_async_context(attended(process, folder))
        yield Hosts(made["voice"], {"left": made["left"], "right": made["right"]})


async def start_relay(config: Path, public: str) -> trio.Process:
    host, _, port = public.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, int(port)))
        name = f"udp-0-{host}-{port}"
        return await start_edge_with(name, shared, "run", "--config", str(config))


def redis_up(status: Status) -> bool:
    known = [each.statistics for each in status.workers]
    relays = [each.redis for each in known if isinstance(each, RelayStatistics)]
    return all(each is not None and each.state == "up" for each in relays)


async def gap_when_a_relay_host_dies(
    call: LiveCall, fleet: Hosts, *, settled: float = 0.0
) -> tuple[float, Appliance]:
    """Kill the host that has the call; return the gap, and the host that is left."""
    carrier = await fleet.carrier_of(call)
    await trio.sleep(settled)
    survivor = next(each for name, each in fleet.relays.items() if name != carrier)
    call.peer.record.longest_gap = 0.0
    echoed = call.peer.record.echoed
    kill(fleet.relays[carrier])
    await call.wait_echo(echoed + 150, 15)
    return call.peer.record.longest_gap, survivor


async def test_with_redis_a_call_outlives_its_relay_host(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as redis:
        async with hosts(tmp_path, redis) as fleet:
            for each in fleet.relays.values():
                await wait_status(each, redis_up)
            async with calling(await fleet.voice.origin()) as call:
                gap, survivor = await gap_when_a_relay_host_dies(call, fleet)
                print(f"gap with Redis: {gap * 1000:.0f} ms")
                (found,) = await survivor.relays()
                assert found.redis is not None
                assert found.redis.events["redis-hit"] == 1
                assert gap < 0.5 * CHECK_INTERVAL


async def test_without_redis_it_waits_for_the_next_check(tmp_path: Path) -> None:
    async with (
        hosts(tmp_path, None) as fleet,
        calling(await fleet.voice.origin()) as call,
    ):
        gap, _ = await gap_when_a_relay_host_dies(call, fleet)
        print(f"gap without Redis: {gap * 1000:.0f} ms")
        assert gap <= CHECK_INTERVAL + SLACK


async def test_a_host_registers_itself_and_relays_hear_of_it(tmp_path: Path) -> None:
    def knows_hosts(status: Status) -> bool:
        known = [each.statistics for each in status.workers]
        relays = [each.redis for each in known if isinstance(each, RelayStatistics)]
        return all(each is not None and each.hosts == 1 for each in relays)

    with redis_server(tmp_path / "redis") as redis:
        async with hosts(tmp_path, redis) as fleet:
            status = await wait_status(
                fleet.voice, lambda found: bool(found.registration and found.registration.written)
            )
            assert status.registration is not None
            assert status.registration.refused == ""
            assert redis.ask("HKEYS", "edge:hosts") == [b"7.2"]
            assert 0 < int(str(redis.ask("TTL", "edge:hosts"))) <= 600
            for each in fleet.relays.values():
                assert (await wait_status(each, knows_hosts)).registration is None
            # Redis goes away and comes back empty: all is told again.
            os.kill(redis.pid, signal.SIGKILL)
            redis.kill()
            redis.start()
            with trio.fail_after(20):
                while redis.ask("HKEYS", "edge:hosts") != [b"7.2"]:
                    await trio.sleep(0.1)
            fleet.voice.terminate()
            await fleet.voice.process.wait()
            assert redis.ask("HKEYS", "edge:hosts") == []
