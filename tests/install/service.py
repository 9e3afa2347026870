"""The installed appliance as its operator has it: the file, systemctl, the journal, processes."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.install.caller import Watch
from tests.install.machine import Machine
from tests.support.peer import Peer

CONFIG = """
[relay]
listen = ["0.0.0.0:3478"]
public_addresses = ["{address}"]

[signal]
listen = ["0.0.0.0:8080"]

[access]
open = "on"

[transceiver]
on_time_min = 0.0

[supervisor]
drain_limit = 2.0
heartbeat_limit = 2.0
"""
BAD_CONFIG = "[relay]\nworkers = 0\n"
UNIT = "edge.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
SETTLE_TIME = 15.0


def good_config(machine: Machine) -> str:
    """Return a configuration that strangers from outside may call with."""
    return CONFIG.format(address=machine.address)


def configure(machine: Machine, text: str) -> None:
    machine.write("/etc/edge/edge.toml", text)


def add_drop_in(machine: Machine, name: str, text: str) -> None:
    machine.write(f"{DROP_INS}/{name}.conf", text)
    machine.run("systemctl", "daemon-reload")


def remove_drop_ins(machine: Machine) -> None:
    machine.run("rm", "-r", DROP_INS)
    machine.run("systemctl", "daemon-reload")


async def run(
    machine: Machine, *command: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command without holding up the calls that go on here."""
    return await trio.to_thread.run_sync(lambda: machine.run(*command, check=check))


async def systemctl(machine: Machine, verb: str) -> None:
    await run(machine, "systemctl", verb, UNIT)


def wait_until(machine: Machine, good: Callable[[], bool], timeout: float = SETTLE_TIME) -> None:
    """Wait for what is looked up in the machine; without it, fail with the journal."""
    deadline = time.monotonic() + timeout
    while not good():
        if time.monotonic() > deadline:
            pytest.fail(machine.journal())
        time.sleep(0.05)


async def wait(machine: Machine, good: Callable[[], bool], timeout: float = SETTLE_TIME) -> None:
    """Wait like ``wait_until``, while calls go on here."""
    await trio.to_thread.run_sync(wait_until, machine, good, timeout)


def wait_active(machine: Machine) -> None:
    wait_until(machine, lambda: machine.property("ActiveState") == "active")


async def wait_running(machine: Machine, instead_of: int) -> None:
    """Wait until another supervisor and all its workers are ready."""
    await wait(
        machine,
        lambda: (
            machine.property("SubState") == "running" and supervisor(machine) not in {0, instead_of}
        ),
    )


def supervisor(machine: Machine) -> int:
    return main_process(machine, UNIT)


def main_process(machine: Machine, unit: str) -> int:
    """Return the main process of a unit, or 0 while there is none."""
    return int(machine.property("MainPID", unit))


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run("edge", "status", "--json").stdout)
    return found


def workers(machine: Machine, kind: str) -> dict[str, int]:
    """Return the processes of the workers of a kind, by name."""
    found = [one for one in status(machine)["workers"] if one["kind"] == kind]
    return {f"{kind}-{one['index']}": one["pid"] for one in found}


def kill(machine: Machine, process: int, number: str = "KILL") -> None:
    assert process > 1
    machine.run("kill", f"-{number}", str(process))


def loss(peer: Peer) -> tuple[int, float]:
    """Return how many frames did not come back, but for the one on its way, and the longest gap."""
    return max(0, peer.record.sent - peer.record.echoed - 1), peer.record.longest_gap


def report(what: str, watch: Watch) -> None:
    print(
        f"{what}: {watch.lost} of {watch.sent} packets lost, "
        f"port closed for {watch.closed_longest * 1e3:.0f} ms at most"
    )
