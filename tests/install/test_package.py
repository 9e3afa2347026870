"""The life of an installed appliance, in order: each test finds what the one before it left.

What is measured goes to the output; docs/reliability.md has figures.
"""

import os

from tests.install.builder import Package
from tests.install.caller import wait_callable
from tests.install.machine import Machine
from tests.install.service import (
    UNIT,
    configure,
    good_config,
    remove_drop_ins,
    run,
    supervisor,
    systemctl,
    wait_active,
)

EXPOSURE_MAX = 1.5


def test_package_installs_a_running_service(
    machine: Machine, packages: tuple[Package, Package]
) -> None:
    """The second of the README's two commands; the first has built the package."""
    machine.put(f"/root/dist/{packages[0].path.name}", packages[0].path.read_bytes())
    machine.run("sh", "-c", "cd /root && apt-get install --yes ./dist/edge_*.deb")
    assert machine.run("systemctl", "is-enabled", "edge").stdout.strip() == "enabled"
    wait_active(machine)
    assert "ready: 2 relay and 2 transceiver workers" in machine.journal()
    assert machine.run("edge", "version").stdout.startswith("edge ")
    assert machine.run("dpkg", "--verify", "edge").stdout == ""
    owner = ("stat", "--format", "%U:%G %a")
    assert machine.run(*owner, "/etc/edge/edge.toml").stdout.strip() == "root:edge 640"
    assert machine.run(*owner, "/var/lib/edge").stdout.strip() == "edge:edge 750"
    assert machine.run(*owner, "/run/edge").stdout.strip() == "edge:edge 750"
    user = machine.run("ps", "-o", "user=", "-p", str(supervisor(machine))).stdout.strip()
    assert user == "edge"


def test_unit_is_hardened(machine: Machine) -> None:
    unit = f"/usr/lib/systemd/system/{UNIT}"
    verified = machine.run("systemd-analyze", "verify", unit)
    assert verified.stdout + verified.stderr == ""
    threshold = f"--threshold={EXPOSURE_MAX * 10:.0f}"
    analysis = machine.run("systemd-analyze", "security", "--offline=yes", threshold, unit)
    print(analysis.stdout.splitlines()[-1])


async def test_low_ports_by_the_drop_in(machine: Machine) -> None:
    configure(machine, good_config(machine).replace(":8080", ":443"))
    machine.run("mkdir", "--parents", "/etc/systemd/system/edge.service.d")
    machine.run("cp", "/usr/share/doc/edge/low-ports.conf", "/etc/systemd/system/edge.service.d/")
    machine.run("systemctl", "daemon-reload")
    await systemctl(machine, "restart")
    assert ":443" in machine.run("ss", "--listening", "--tcp", "--numeric").stdout
    remove_drop_ins(machine)
    configure(machine, good_config(machine))
    await systemctl(machine, "restart")


async def test_machine_that_cannot_serve_stays_down(machine: Machine) -> None:
    """A privileged port without the capability: status 78, and down until an operator acts."""
    configure(machine, good_config(machine).replace(":8080", ":443"))
    refused = await run(machine, "systemctl", "restart", UNIT, check=False)
    assert refused.returncode != 0
    assert machine.property("ExecMainStatus") == str(os.EX_CONFIG)
    assert machine.property("ActiveState") == "failed"
    assert "port 443: Permission denied" in machine.journal(WORKER="supervisor", PRIORITY="3")
    configure(machine, good_config(machine))
    await systemctl(machine, "restart")


async def test_service_is_there_after_a_reboot(machine: Machine) -> None:
    machine.power_off()
    machine.boot()
    callable_after = await wait_callable(machine)
    print(f"reboot: call connected {callable_after * 1e3:.0f} ms after the machine was up")
    assert machine.run("systemctl", "is-system-running").stdout.strip() == "running"


def test_removal_keeps_the_configuration(machine: Machine) -> None:
    machine.run("apt-get", "remove", "--yes", "edge")
    assert machine.processes("/opt/edge") == []
    assert machine.run("test", "-e", "/opt/edge", check=False).returncode != 0
    assert "0.0.0.0:3478" in machine.run("cat", "/etc/edge/edge.toml").stdout


def test_purge_leaves_the_user_and_nothing_else(machine: Machine) -> None:
    machine.run("apt-get", "purge", "--yes", "edge")
    machine.run("rm", "-r", "/root/dist")
    left = machine.run("find", "/", "-xdev", "-name", "*edge*", "-not", "-path", "/proc/*").stdout
    assert left == ""
    assert machine.run("systemctl", "list-unit-files", "edge*", check=False).returncode != 0
    assert machine.run("id", "--name", "--user", "edge").stdout.strip() == "edge"
