"""Reloads and upgrades of an installed appliance, in order, under calls from outside."""

import trio

from tests.install.caller import calling, wait_callable, wait_echoed
from tests.install.conftest import Package
from tests.install.machine import Machine
from tests.install.service import (
    BAD_CONFIG,
    configure,
    good_config,
    loss,
    main_process,
    run,
    supervisor,
    systemctl,
    wait,
)


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


async def test_reload_keeps_calls(host: Machine) -> None:
    async with calling(host) as peer:
        configure(host, good_config(host).replace("[relay]", "[relay]\nworkers = 3"))
        await systemctl(host, "reload")
        await wait_echoed(peer, 100)
        lost, gap = loss(peer)
    print(f"reload, 2 to 3 relay workers: {lost} frames lost, longest gap {gap * 1e3:.0f} ms")
    assert lost == 0
    configure(host, good_config(host))
    await systemctl(host, "reload")


async def test_upgrade_lets_calls_end(host: Machine, packages: tuple[Package, Package]) -> None:
    host.put("/root/edge.deb", packages[1].path.read_bytes())
    old, new = (each.version for each in packages)
    async with trio.open_nursery() as nursery:
        async with calling(host) as peer:
            nursery.start_soon(run, host, "dpkg", "--install", "/root/edge.deb")
            await wait(host, lambda: host.property("ActiveState") == "deactivating")
            # What runs goes on to have its code, what starts next has the new one.
            versions = host.run("ls", "/opt/edge/versions").stdout.split()
            assert versions == sorted([old, new])
            assert host.run("readlink", "/opt/edge/current").stdout.strip().endswith(new)
            await wait_echoed(peer, 50)
            lost, gap = loss(peer)
        callable_after = await wait_callable(host)
    print(
        f"upgrade: {lost} frames of a call lost, longest gap {gap * 1e3:.0f} ms; "
        f"next call connected {callable_after:.3f} s after its end"
    )
    assert lost == 0
    assert host.run("ls", "/opt/edge/versions").stdout.split() == [new]
    assert host.processes(f"/opt/edge/versions/{new}/")


async def test_version_in_use_is_not_swept(
    host: Machine, packages: tuple[Package, Package]
) -> None:
    """An older package over a newer one, while a program of the newer one is running."""
    older, newer = (each.version for each in packages)
    left = f"/opt/edge/versions/{newer}/bin/python -c 'import time, msgspec; time.sleep(3600)'"
    host.run("systemd-run", "--quiet", "--unit", "left", "sh", "-c", f"exec {left}")
    host.put("/root/edge.deb", packages[0].path.read_bytes())
    await wait(host, lambda: "msgspec" in _mapped(host, "left"))
    await run(host, "dpkg", "--install", "/root/edge.deb")
    assert host.run("ls", "/opt/edge/versions").stdout.split() == sorted([older, newer])
    host.run("systemctl", "stop", "left")
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
