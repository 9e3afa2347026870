"""Reloads and upgrades of an installed appliance, in order, under calls from outside."""

import trio

from tests.install.builder import Package
from tests.install.caller import calling, wait_callable, wait_echoed, watching
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
    configure(host, good_config(host))
    await wait_callable(host)


def _mapped(machine: Machine, unit: str) -> str:
    return machine.run("cat", f"/proc/{main_process(machine, unit)}/maps").stdout
