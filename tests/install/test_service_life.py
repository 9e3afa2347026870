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
    killed = _supervisor(machine)
    async with watching(machine) as watch:
        _kill(machine, killed)
        await _wait_running(machine, instead_of=killed)
    _report("kill -9 of the supervisor", watch)
    assert machine.property("NRestarts") != "0"
    assert watch.lost == 0
    _kill(machine, _supervisor(machine))
    print(f"kill -9 of the supervisor: call connected {await wait_callable(machine):.3f} s later")


async def test_restart_loses_no_packet(machine: Machine) -> None:
    async with watching(machine) as watch:
        await _run(machine, "systemctl", "restart", "edge")
    _report("systemctl restart", watch)
    assert watch.lost == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, machine, "systemctl", "restart", "edge")
        await trio.sleep(0.1)
        print(f"systemctl restart: call connected {await wait_callable(machine):.3f} s later")


async def test_hanging_supervisor_leaves_its_stack(machine: Machine) -> None:
    _drop_in(machine, "watchdog", "[Service]\nWatchdogSec=2\n")
    await _run(machine, "systemctl", "restart", "edge")
    hung = _supervisor(machine)
    _kill(machine, hung, "STOP")
    await _wait_running(machine, instead_of=hung)
    await wait_callable(machine)
    journal = machine.journal()
    assert "Watchdog timeout" in journal
    assert "most recent call first" in journal
    machine.run("rm", "/etc/systemd/system/edge.service.d/watchdog.conf")
    machine.run("systemctl", "daemon-reload")


async def test_upgrade_lets_calls_end(machine: Machine, packages: tuple[Path, Path]) -> None:
    machine.put("/root/edge.deb", packages[1].read_bytes())
    old, new = _versions(packages)
    async with trio.open_nursery() as nursery:
        async with calling(machine) as peer:
            nursery.start_soon(_run, machine, "dpkg", "--install", "/root/edge.deb")
            with trio.fail_after(15):
                while machine.property("ActiveState") != "deactivating":
                    await trio.sleep(0.05)
            # What runs goes on to have its code, what starts next has the new one.
            versions = machine.run("ls", "/opt/edge/versions").stdout.split()
            assert versions == sorted([old, new])
            assert machine.run("readlink", "/opt/edge/current").stdout.strip().endswith(new)
            await wait_echoed(peer, 50)
            lost, gap = _loss(peer)
        callable_after = await wait_callable(machine)
    print(
        f"upgrade: {lost} frames of a call lost, longest gap {gap * 1e3:.0f} ms; "
        f"next call connected {callable_after:.3f} s after its end"
    )
    assert lost == 0
    assert machine.run("ls", "/opt/edge/versions").stdout.split() == [new]
    assert machine.processes(f"/opt/edge/versions/{new}/")


async def test_version_in_use_is_not_swept(machine: Machine, packages: tuple[Path, Path]) -> None:
    """An older package over a newer one, while a program of the newer one is running."""
    older, newer = _versions(packages)
    left = f"/opt/edge/versions/{newer}/bin/python -c 'import time, msgspec; time.sleep(3600)'"
    machine.run("systemd-run", "--quiet", "--unit", "left", "sh", "-c", f"exec {left}")
    machine.put("/root/edge.deb", packages[0].read_bytes())
    with trio.fail_after(15):
        while "msgspec" not in machine.run("cat", f"/proc/{_main(machine, 'left')}/maps").stdout:
            await trio.sleep(0.05)
    await _run(machine, "dpkg", "--install", "/root/edge.deb")
    assert machine.run("ls", "/opt/edge/versions").stdout.split() == sorted([older, newer])
    machine.run("systemctl", "stop", "left")
    machine.run("systemctl", "start", "edge-sweep.service")
    assert machine.run("ls", "/opt/edge/versions").stdout.split() == [older]
    await wait_callable(machine)


async def test_upgrade_with_a_bad_configuration_leaves_the_service(
    machine: Machine, packages: tuple[Path, Path]
) -> None:
    supervisor = _supervisor(machine)
    _configure(machine, "[relay]\nworkers = 0\n")
    machine.put("/root/edge.deb", packages[1].read_bytes())
    refused = await _run(machine, "dpkg", "--install", "--force-confold", "/root/edge.deb")
    assert "relay.workers" in refused.stderr
    assert _supervisor(machine) == supervisor
    _configure(machine, CONFIG.format(address=machine.address))
    await wait_callable(machine)


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
    assert machine.run("systemctl", "list-unit-files", "edge*", check=False).returncode != 0
    assert machine.run("id", "--name", "--user", "edge").stdout.strip() == "edge"


async def _wait_running(machine: Machine, instead_of: int) -> None:
    """Wait until another supervisor and all its workers are ready."""
    with trio.fail_after(15):
        while machine.property("SubState") != "running" or _supervisor(machine) in {0, instead_of}:
            await trio.sleep(0.05)


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
    return _main(machine, "edge")


def _main(machine: Machine, unit: str) -> int:
    """Return its main process, or 0 while there is none."""
    return int(machine.property("MainPID", unit))


def _workers(machine: Machine, kind: str) -> list[int]:
    """Return the processes of the workers of a kind, by index."""
    where = ("env", "STATE_DIRECTORY=/var/lib/edge", "RUNTIME_DIRECTORY=/run/edge")
    status = json.loads(machine.run(*where, "edge", "status", "--json").stdout)
    return [one["pid"] for one in status["workers"] if one["kind"] == kind]


def _versions(packages: tuple[Path, Path]) -> tuple[str, str]:
    old, new = (one.name.split("_")[1] for one in packages)
    return old, new


def _loss(peer: Peer) -> tuple[int, float]:
    """Return how many frames did not come back, but for the one on its way, and the longest gap."""
    return max(0, peer.record.sent - peer.record.echoed - 1), peer.record.longest_gap


def _report(what: str, watch: Watch) -> None:
    print(
        f"{what}: {watch.lost} of {watch.sent} packets lost, "
        f"port closed for {watch.closed_longest * 1e3:.0f} ms at most"
    )
