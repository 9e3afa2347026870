"""The life of an installed appliance, in order: each test finds what the one before it left.

The package on a bare machine with a real systemd, and calls from outside it. What is measured goes
to the output; docs/reliability.md has figures.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import trio

from tests.install.caller import Watch, calling, wait_callable, wait_echoed, watching
from tests.install.machine import Machine
from tests.support.peer import Peer

EXPOSURE_MAX = 1.5
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
"""
GAP_MAX = 0.5
"""Seconds without sound that a call may have when a relay is lost."""


def test_package_installs_a_running_service(machine: Machine, packages: tuple[Path, Path]) -> None:
    machine.put("/root/edge.deb", packages[0].read_bytes())
    machine.run("dpkg", "--install", "/root/edge.deb")
    assert machine.run("systemctl", "is-enabled", "edge").stdout.strip() == "enabled"
    _wait_active(machine)
    assert "ready: 2 relay and 2 transceiver workers" in machine.journal()
    assert machine.run("edge", "version").stdout.startswith("edge ")
    assert machine.run("dpkg", "--verify", "edge").stdout == ""
    owner = ("stat", "--format", "%U:%G %a")
    assert machine.run(*owner, "/etc/edge/edge.toml").stdout.strip() == "root:edge 640"
    assert machine.run(*owner, "/var/lib/edge").stdout.strip() == "edge:edge 750"
    assert machine.run(*owner, "/run/edge").stdout.strip() == "edge:edge 750"
    assert (
        machine.run("ps", "-o", "user=", "-p", str(_supervisor(machine))).stdout.strip() == "edge"
    )


def test_unit_is_hardened(machine: Machine) -> None:
    unit = "/usr/lib/systemd/system/edge.service"
    machine.run("systemd-analyze", "verify", unit)
    analysis = (
        "systemd-analyze",
        "security",
        "--offline=yes",
        f"--threshold={EXPOSURE_MAX * 10:.0f}",
    )
    print(machine.run(*analysis, unit).stdout.splitlines()[-1])


async def test_bad_configuration_is_refused_at_reload(machine: Machine) -> None:
    _configure(machine, CONFIG.format(address=machine.address))
    machine.run("systemctl", "restart", "edge")
    _wait_active(machine)
    processes = machine.processes("edge")
    async with calling(machine) as peer:
        _configure(machine, "[relay]\nworkers = 0\n")
        refused = await _run(machine, "systemctl", "reload", "edge", check=False)
        assert refused.returncode != 0
        assert "relay.workers" in machine.journal()
        await wait_echoed(peer, 20)
    assert machine.processes("edge") == processes
    assert machine.property("ActiveState") == "active"
    _configure(machine, CONFIG.format(address=machine.address))


async def test_reload_keeps_calls(machine: Machine) -> None:
    async with calling(machine) as peer:
        _configure(
            machine,
            CONFIG.format(address=machine.address).replace("[relay]", "[relay]\nworkers = 3"),
        )
        await _run(machine, "systemctl", "reload", "edge")
        await wait_echoed(peer, 100)
        lost, gap = _loss(peer)
    print(f"reload, 2 to 3 relay workers: {lost} frames lost, longest gap {gap * 1e3:.0f} ms")
    assert lost == 0
    _configure(machine, CONFIG.format(address=machine.address))
    await _run(machine, "systemctl", "reload", "edge")


async def test_killed_relay_keeps_calls(machine: Machine) -> None:
    for victim in _workers(machine, "relay"):
        async with calling(machine) as peer:
            _kill(machine, victim)
            await wait_echoed(peer, 100)
            lost, gap = _loss(peer)
        print(f"kill -9 of a relay: {lost} frames lost, longest gap {gap * 1e3:.0f} ms")
        assert gap < GAP_MAX


async def test_killed_transceiver_takes_its_own_calls_only(machine: Machine) -> None:
    victims = _workers(machine, "transceiver")
    supervisor = _supervisor(machine)
    _kill(machine, victims[0])
    callable_after = await wait_callable(machine)
    print(f"kill -9 of a transceiver: next call connected after {callable_after * 1e3:.0f} ms")
    assert _supervisor(machine) == supervisor
    assert victims[1] in _workers(machine, "transceiver")


async def test_killed_supervisor_comes_back(machine: Machine) -> None:
    async with watching(machine) as watch:
        _kill(machine, _supervisor(machine))
        callable_after = await wait_callable(machine)
    _report("kill -9 of the supervisor", callable_after, watch)
    assert machine.property("NRestarts") != "0"
    assert watch.refused == 0


async def test_restart_closes_no_port(machine: Machine) -> None:
    async with watching(machine) as watch:
        await _run(machine, "systemctl", "restart", "edge")
        callable_after = await wait_callable(machine)
        assert watch.sent > 100
    _report("systemctl restart", callable_after, watch)
    assert watch.refused == 0


async def test_hanging_supervisor_leaves_its_stack(machine: Machine) -> None:
    _drop_in(machine, "watchdog", "[Service]\nWatchdogSec=2\n")
    await _run(machine, "systemctl", "restart", "edge")
    hung = _supervisor(machine)
    _kill(machine, hung, "STOP")
    with trio.fail_after(15):
        while _supervisor(machine) == hung or machine.property("ActiveState") != "active":
            await trio.sleep(0.1)
    await wait_callable(machine)
    journal = machine.journal()
    assert "Watchdog timeout" in journal
    assert "most recent call first" in journal
    machine.run("rm", "/etc/systemd/system/edge.service.d/watchdog.conf")
    machine.run("systemctl", "daemon-reload")


async def test_upgrade_keeps_calls(machine: Machine, packages: tuple[Path, Path]) -> None:
    machine.put("/root/edge.deb", packages[1].read_bytes())
    old, new = _versions(packages)
    async with calling(machine) as peer, watching(machine) as watch:
        await _run(machine, "dpkg", "--install", "/root/edge.deb")
        assert old in machine.run("ls", "/opt/edge/versions").stdout
        await wait_echoed(peer, 100)
        lost, gap = _loss(peer)
        async with calling(machine):
            pass
    print(f"upgrade under a call: {lost} frames lost, longest gap {gap * 1e3:.0f} ms")
    assert watch.refused == 0
    assert lost == 0
    with trio.fail_after(15):
        while machine.processes(f"/opt/edge/versions/{old}/"):
            await trio.sleep(0.2)
    machine.run("systemctl", "start", "edge-sweep.service")
    assert machine.run("ls", "/opt/edge/versions").stdout.split() == [new]
    assert machine.processes(f"/opt/edge/versions/{new}/")


async def test_low_ports_by_the_drop_in(machine: Machine) -> None:
    low = CONFIG.format(address=machine.address).replace(":8080", ":443")
    _configure(machine, low)
    machine.run("cp", "/usr/share/doc/edge/low-ports.conf", "/etc/systemd/system/edge.service.d/")
    machine.run("systemctl", "daemon-reload")
    await _run(machine, "systemctl", "restart", "edge")
    assert ":443" in machine.run("ss", "--listening", "--tcp", "--numeric").stdout
    machine.run("rm", "-r", "/etc/systemd/system/edge.service.d")
    machine.run("systemctl", "daemon-reload")
    _configure(machine, CONFIG.format(address=machine.address))
    await _run(machine, "systemctl", "restart", "edge")


async def test_machine_that_cannot_serve_stays_down(machine: Machine) -> None:
    """A privileged port without the capability: status 78, and down until an operator acts."""
    _configure(machine, CONFIG.format(address=machine.address).replace(":8080", ":443"))
    assert (await _run(machine, "systemctl", "restart", "edge", check=False)).returncode != 0
    assert machine.property("ExecMainStatus") == str(os.EX_CONFIG)
    assert machine.property("ActiveState") == "failed"
    _configure(machine, CONFIG.format(address=machine.address))
    await _run(machine, "systemctl", "restart", "edge")


async def test_service_is_there_after_a_reboot(machine: Machine) -> None:
    machine.power_off()
    machine.boot()
    callable_after = await wait_callable(machine)
    print(f"reboot: call connected {callable_after * 1e3:.0f} ms after the machine was up")
    assert machine.run("systemctl", "is-system-running").stdout.strip() == "running"


def test_removal_keeps_the_configuration(machine: Machine) -> None:
    machine.run("dpkg", "--remove", "edge")
    assert machine.processes("/opt/edge") == []
    assert machine.run("test", "-e", "/opt/edge", check=False).returncode != 0
    assert "0.0.0.0:3478" in machine.run("cat", "/etc/edge/edge.toml").stdout


def test_purge_leaves_the_user_and_nothing_else(machine: Machine) -> None:
    machine.run("dpkg", "--purge", "edge")
    machine.run("rm", "/root/edge.deb")
    left = machine.run("find", "/", "-xdev", "-name", "*edge*", "-not", "-path", "/proc/*").stdout
    assert left == ""
    assert machine.run("systemctl", "list-unit-files", "edge*", "--no-legend").stdout == ""
    assert machine.run("id", "--name", "--user", "edge").stdout.strip() == "edge"


def _configure(machine: Machine, text: str) -> None:
    machine.write("/etc/edge/edge.toml", text)


def _drop_in(machine: Machine, name: str, text: str) -> None:
    machine.write(f"/etc/systemd/system/edge.service.d/{name}.conf", text)
    machine.run("systemctl", "daemon-reload")


def _wait_active(machine: Machine, timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while machine.property("ActiveState") != "active":
        if time.monotonic() > deadline:
            pytest.fail(machine.journal())
        time.sleep(0.05)


def _kill(machine: Machine, process: int, number: str = "KILL") -> None:
    assert process > 1
    machine.run("kill", f"-{number}", str(process))


async def _run(
    machine: Machine, *command: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command without holding up the calls that go on here."""
    return await trio.to_thread.run_sync(lambda: machine.run(*command, check=check))


def _supervisor(machine: Machine) -> int:
    """Return the main process, or 0 while there is none."""
    return int(machine.property("MainPID"))


def _workers(machine: Machine, kind: str) -> list[int]:
    """Return the processes of the workers of a kind, by index."""
    where = ("env", "STATE_DIRECTORY=/var/lib/edge", "RUNTIME_DIRECTORY=/run/edge")
    status = json.loads(machine.run(*where, "edge", "status", "--json").stdout)
    return [one["pid"] for one in status["workers"] if one["kind"] == kind]


def _loss(peer: Peer) -> tuple[int, float]:
    """Return how many frames did not come back, but for the one on its way, and the longest gap."""
    return max(0, peer.record.sent - peer.record.echoed - 1), peer.record.longest_gap


def _report(what: str, callable_after: float, watch: Watch) -> None:
    print(
        f"{what}: call connected after {callable_after * 1e3:.0f} ms; "
        f"port closed for {watch.refused} of {watch.sent} probes, "
        f"{watch.closed_longest * 1e3:.0f} ms at most"
    )


def _versions(packages: tuple[Path, Path]) -> tuple[str, str]:
    old, new = (one.name.split("_")[1] for one in packages)
    return old, new
