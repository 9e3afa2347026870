"""Whole appliances of one fleet: a cluster of one host, and hosts that only relay."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge.control.statistics import RelayStatistics
from edge.control.status import Status
from edge.machine import Address
from tests.support.appliance import Appliance, running_appliance, wait_status, write_config
from tests.support.caller import LiveCall, calling
from tests.support.trunk import FLEET_KEY, NEXT_KEY, wait_for

FLEET = """
[fleet]
host = "{host}"
[sites.here]
latitude = 0.0
longitude = 0.0
[clusters.one]
id = 7
site = "here"
[hosts.owner]
site = "here"
cluster = "one"
number = 2
internal = "{network}.1"
[hosts.relay]
site = "here"
internal = "{network}.2"
[keys]
routing = [{{ id = 0, key = "000102030405060708090a0b0c0d0e0f" }}]
password = "{password}"
fleet = [{fleet}]
"""
KEY, NEXT = (f'{{ id = {each.id}, key = "{each.key.hex()}" }}' for each in (FLEET_KEY, NEXT_KEY))
_PID = os.getpid()
NETWORK = f"127.{150 + _PID % 100}.{_PID // 100 % 250}"
"""Internal addresses that no other test at the same time has."""


def fleet(host: str, keys: str = KEY) -> str:
    return FLEET.format(host=host, network=NETWORK, password="0f" * 32, fleet=keys)


@asynccontextmanager
async def two_hosts(directory: Path) -> AsyncIterator[tuple[Appliance, Appliance]]:
    """Run the host with the sessions, and the one that only relays."""
    for name in ("owner", "relay"):
        (directory / name).mkdir()
    async with (
        running_appliance(
            directory / "owner", relays=1, transceivers=2, more=fleet("owner")
        ) as owner,
        running_appliance(
            directory / "relay", relays=2, transceivers=0, more=fleet("relay")
        ) as relay,
    ):
        yield owner, relay


def delivered(status: Status) -> int:
    """Return how many packets of transceivers elsewhere a host's relays have sent out."""
    found = [one.statistics for one in status.workers]
    trunks = [each.trunk for each in found if isinstance(each, RelayStatistics)]
    return sum(each.delivered for each in trunks if each is not None)


async def go_over(call: LiveCall, relay: Appliance) -> None:
    """Have a client go on over another relay, as one does that was told of both."""
    call.peer.server = Address(*await relay.udp())
    call.peer.restart(call.peer._local, call.peer._remote, 0.0)
    await call.wait_echo(call.peer.record.echoed + 100)


async def test_a_call_goes_over_to_the_relay_of_another_host(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (owner, relay):
        async with calling(await owner.origin()) as call:
            assert call.session.startswith("7.")
            await call.wait_echo(20)
            await go_over(call, relay)
            assert len(call.peer.record.ssrcs) == 1
            await wait_status(relay, lambda status: delivered(status) >= 100)
        await owner.wait_line(f"session {call.session} ended: .*peer-closed")


async def test_the_fleets_keys_rotate_by_reload_under_a_call(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (owner, relay):
        async with calling(await owner.origin()) as call:
            await call.wait_echo(20)
            await go_over(call, relay)
            record = call.peer.record
            before = record.sequence_numbers[-1]
            for keys in (f"{KEY}, {NEXT}", f"{NEXT}, {KEY}", NEXT):
                for appliance, name, workers in (
                    (owner, "owner", {"relays": 1, "transceivers": 2}),
                    (relay, "relay", {"relays": 2, "transceivers": 0}),
                ):
                    appliance.lines.clear()
                    write_config(tmp_path / name, **workers, more=fleet(name, keys))  # type: ignore[arg-type]
                    appliance.process.send_signal(signal.SIGHUP)
                    await appliance.wait_line("reload")
                    echoed = record.echoed
                    await wait_for(lambda: record.echoed >= echoed + 25)  # noqa: B023 - at once
            after = record.sequence_numbers[-1]
            received = {one for one in record.sequence_numbers if before < one <= after}
            assert len(received) == after - before, "nothing was lost"
        for transceiver in await owner.transceivers():
            assert not {one for one in transceiver.drops if one.startswith("frame")}
        for each in await relay.relays():
            assert not {one for one in each.drops if one.startswith("frame")}
