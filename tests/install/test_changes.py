"""Reloads and upgrades of an installed appliance, in order, under calls from outside."""

import json

import trio

from tests.install.builder import Package
from tests.install.caller import SIGNALING_PORT, calling, wait_callable, wait_echoed, watching
from tests.install.machine import Machine
from tests.install.service import (
    BAD_CONFIG,
    configure,
    good_config,
    loss,
    main_process,
    report,
    run,
    status,
    supervisor,
    systemctl,
    wait,
    workers,
)
from tests.support.caller import attribute, new_credentials, offer, signaling

WHAT_WAS_TOLD = "journalctl --sync && journalctl --unit edge --output cat --lines 20"


async def test_bad_configuration_is_refused_at_reload(host: Machine) -> None:
    processes = host.processes("edge")
    async with calling(host) as peer:
        configure(host, BAD_CONFIG)
        refused = await run(host, "systemctl", "reload", "edge", check=False)
        assert refused.returncode != 0
        assert "relay.workers" in host.journal()
        await wait_echoed(peer, 20)
    assert host.processes("edge") == processes
    assert host.property("ActiveState") == "active"
    configure(host, good_config(host))


async def test_reload_that_workers_refuse_fails(host: Machine) -> None:
    """A file without a mistake, and a certificate that is not there."""
    known = set(host.processes("edge"))
    without = 'tls_certificate = "/etc/edge/none.pem"\ntls_key = "/etc/edge/none.key"'
    configure(host, good_config(host).replace("[signal]", f"[signal]\n{without}"))
    refused = await run(host, "systemctl", "reload", "edge", check=False)
    assert refused.returncode != 0
    assert "nothing was changed: " in host.journal()
    assert host.property("ActiveState") == "active"
    assert known <= set(host.processes("edge"))
    configure(host, good_config(host))
    await systemctl(host, "reload")
    await wait_callable(host)


async def test_reload_keeps_calls(host: Machine) -> None:
    """One more relay, and transceivers with another limit: new ones for calls from now on."""
    former = set(workers(host, "transceiver").values())
    changed = good_config(host).replace("[relay]", "[relay]\nworkers = 3")
    changed = changed.replace("[transceiver]", "[transceiver]\nsessions_max = 500")
    async with calling(host) as peer:
        configure(host, changed)
        told = await run(host, "sh", "-c", f"systemctl reload edge && {WHAT_WAS_TOLD}")
        assert "supervisor: reload: done" in told.stdout, "it is done when the command returns"
        await wait_echoed(peer, 100)
        lost, gap = loss(peer)
        assert len(former & set(workers(host, "transceiver").values())) == 1, "that of the call"
    print(f"reload of relays and transceivers: {lost} frames lost, longest gap {gap * 1e3:.0f} ms")
    assert lost == 0
    await wait(host, lambda: not former & set(workers(host, "transceiver").values()))
    configure(host, good_config(host))
    await systemctl(host, "reload")


async def test_upgrade_keeps_calls(host: Machine, packages: tuple[Package, Package]) -> None:
    """The service is another program afterwards, under the same process id."""
    old, new = (each.version for each in packages)
    known = supervisor(host)
    host.put("/root/edge.deb", packages[1].path.read_bytes())
    assert status(host)["version"] == packages[0].program
    async with calling(host) as peer:
        await wait_echoed(peer, 25)
        began = trio.current_time()
        await run(host, "dpkg", "--install", "/root/edge.deb")
        took = trio.current_time() - began
        await wait(host, lambda: status(host)["version"] == packages[1].program)
        await wait_callable(host)
        await wait_echoed(peer, 50)
        lost, gap = loss(peer)
        # What runs goes on to have its code.
        assert set(host.run("ls", "/opt/edge/versions").stdout.split()) == {old, new}
        assert host.processes(f"/opt/edge/versions/{old}/")
    print(
        f"upgrade: {lost} frames of a call lost, longest gap {gap * 1e3:.0f} ms; "
        f"dpkg took {took:.1f} s"
    )
    assert lost == 0
    assert supervisor(host) == known
    assert host.property("NRestarts") == "0"
    await wait(host, lambda: not host.processes(f"/opt/edge/versions/{old}/"))
    host.run("systemctl", "start", "edge-sweep.service")
    assert host.run("ls", "/opt/edge/versions").stdout.split() == [new]


async def test_version_in_use_is_not_swept(
    host: Machine, packages: tuple[Package, Package]
) -> None:
    """An older package over a newer one, while a program of the newer one is running."""
    older, newer = (each.version for each in packages)
    left = f"/opt/edge/versions/{newer}/bin/python -c 'import time, msgspec; time.sleep(3600)'"
    host.run("systemd-run", "--quiet", "--unit", "left", "sh", "-c", f"exec {left}")
    host.put("/root/edge.deb", packages[0].path.read_bytes())
    await wait(host, lambda: "msgspec" in _mapped(host, "left"))
    async with watching(host) as watch:
        await run(host, "dpkg", "--install", "/root/edge.deb")
    report("upgrade", watch)
    assert watch.lost <= 0, "fewer: some datagrams of workers among themselves were read, too"
    assert set(host.run("ls", "/opt/edge/versions").stdout.split()) == {older, newer}
    host.run("systemctl", "stop", "left")
    await wait(host, lambda: not host.processes(f"/opt/edge/versions/{newer}/"))
    host.run("systemctl", "start", "edge-sweep.service")
    assert host.run("ls", "/opt/edge/versions").stdout.split() == [older]
    await wait_callable(host)


async def test_upgrade_with_a_bad_configuration_leaves_the_service(
    host: Machine, packages: tuple[Package, Package]
) -> None:
    known = supervisor(host)
    configure(host, BAD_CONFIG)
    host.put("/root/edge.deb", packages[1].path.read_bytes())
    refused = await run(host, "dpkg", "--install", "--force-confold", "/root/edge.deb")
    assert "relay.workers" in refused.stderr
    assert supervisor(host) == known
    assert status(host)["version"] == packages[0].program
    configure(host, good_config(host))
    await wait_callable(host)
    await run(host, "edge", "upgrade")
    await wait(host, lambda: _version(host) == packages[1].program)


async def test_upgrade_that_is_refused_leaves_the_service_and_its_calls(
    host: Machine, packages: tuple[Package, Package]
) -> None:
    """What is configured needs a restart: dpkg says so, and when it is mended all goes on."""
    older, newer = packages
    known = supervisor(host)
    waiting = good_config(host).replace("[relay]", "[relay]\nreceive_buffer_bytes = 1000000")
    host.put("/root/edge.deb", older.path.read_bytes())
    install = ("dpkg", "--install", "--force-confold", "/root/edge.deb")
    async with calling(host) as peer:
        await wait_echoed(peer, 10)
        configure(host, waiting)
        refused = await run(host, *install)
        assert f"version {older.version} is installed, but does not run: " in refused.stderr
        assert "needs a restart: relay.receive_buffer_bytes" in refused.stderr
        assert '"edge upgrade"' in refused.stderr
        assert '"systemctl restart edge" ends them' in refused.stderr
        await wait_echoed(peer, 100)
        assert status(host)["version"] == newer.program
        assert f"INSTALLED  edge {older.program}" in host.run("edge", "status").stdout
        host.run("systemctl", "start", "edge-sweep.service")
        versions = set(host.run("ls", "/opt/edge/versions").stdout.split())
        assert versions == {older.version, newer.version}
        configure(host, good_config(host))
        await run(host, *install)
        await wait(host, lambda: _version(host) == older.program)
        await wait_echoed(peer, 25)
        lost, _ = loss(peer)
    assert lost == 0
    assert supervisor(host) == known
    assert host.property("NRestarts") == "0"


async def test_upgrade_restarts_a_service_that_nobody_can_ask(
    host: Machine, packages: tuple[Package, Package]
) -> None:
    known = supervisor(host)
    host.run("rm", "/run/edge/control.sock")
    host.put("/root/edge.deb", packages[1].path.read_bytes())
    await run(host, "dpkg", "--install", "--force-confold", "/root/edge.deb")
    assert supervisor(host) != known
    assert status(host)["version"] == packages[1].program
    await wait_callable(host)


async def test_ufrags_are_inspected_with_the_services_keys(host: Machine) -> None:
    """By root, and by the service's own user; neither makes any of its own."""
    async with signaling(f"{host.address}:{SIGNALING_PORT}") as websocket:
        answer = await offer(websocket, new_credentials())
        ufrag = attribute(answer["sdp"], "ice-ufrag")
    for user in ("root", "edge"):
        said = await run(host, "runuser", "-u", user, "--", "edge", "ufrag", "inspect", ufrag)
        assert "transceiver  " in said.stdout
    found = host.run("find", "/root", "/var/lib/edge", "-name", "keys.toml").stdout.split()
    assert found == ["/var/lib/edge/keys.toml"]


def _version(machine: Machine) -> str:
    """Return the version that runs, or nothing while nobody answers."""
    found = machine.run("edge", "status", "--json", check=False).stdout
    return str(json.loads(found)["version"]) if found else ""


def _mapped(machine: Machine, unit: str) -> str:
    return machine.run("cat", f"/proc/{main_process(machine, unit)}/maps").stdout
