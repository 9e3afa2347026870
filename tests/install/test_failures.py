"""What an installed appliance makes of the end of its processes, and of those that hang.

Each test leaves the service running. What is measured goes to the output.
"""

import os

import pytest
import trio

from tests.install.caller import calling, wait_callable, wait_echoed, watching
from tests.install.machine import Machine
from tests.install.service import (
    UNIT,
    add_drop_in,
    configure,
    good_config,
    kill,
    loss,
    remove_drop_ins,
    report,
    run,
    supervisor,
    systemctl,
    wait,
    wait_running,
    workers,
)

GAP_MAX = 0.5
"""Seconds without sound that a call may have when a relay is lost."""
STACK = "most recent call first"


async def test_killed_relay_keeps_calls(host: Machine) -> None:
    for victim in workers(host, "relay").values():
        async with calling(host) as peer:
            kill(host, victim)
            await wait_echoed(peer, 100)
            lost, gap = loss(peer)
        print(f"kill -9 of a relay: {lost} frames lost, longest gap {gap * 1e3:.0f} ms")
        assert gap < GAP_MAX


async def test_killed_transceiver_takes_its_own_calls_only(host: Machine) -> None:
    before, known = workers(host, "transceiver"), supervisor(host)
    victim, *others = before
    kill(host, before[victim])
    callable_after = await wait_callable(host)
    print(f"kill -9 of a transceiver: next call connected after {callable_after * 1e3:.0f} ms")
    assert supervisor(host) == known
    after = workers(host, "transceiver")
    assert all(after[each] == before[each] for each in others)


@pytest.mark.parametrize("kind", ["relay", "transceiver"])
async def test_hanging_worker_is_replaced_and_leaves_its_stack(host: Machine, kind: str) -> None:
    known = supervisor(host)
    name, hung = next(iter(workers(host, kind).items()))
    began = trio.current_time()
    kill(host, hung, "STOP")
    await wait(host, lambda: workers(host, kind).get(name) not in {None, hung})
    print(f"{kind} hangs: replaced after {trio.current_time() - began:.1f} s")
    await wait_callable(host)
    assert f"worker {name} does not answer" in host.journal(WORKER=name, PRIORITY="3")
    assert STACK in host.journal(_PID=str(hung))
    assert supervisor(host) == known


async def test_killed_supervisor_comes_back(host: Machine) -> None:
    killed = supervisor(host)
    async with watching(host) as watch:
        kill(host, killed)
        await wait_running(host, instead_of=killed)
    report("kill -9 of the supervisor", watch)
    assert host.property("NRestarts") != "0"
    assert watch.lost == 0
    kill(host, supervisor(host))
    print(f"kill -9 of the supervisor: call connected {await wait_callable(host):.3f} s later")


async def test_hanging_supervisor_leaves_its_stack(host: Machine) -> None:
    add_drop_in(host, "watchdog", "[Service]\nWatchdogSec=2\n")
    await systemctl(host, "restart")
    hung = supervisor(host)
    async with watching(host) as watch:
        kill(host, hung, "STOP")
        await wait_running(host, instead_of=hung)
    report("the supervisor hangs", watch)
    assert watch.lost == 0
    await wait_callable(host)
    journal = host.journal()
    assert "Watchdog timeout" in journal
    assert STACK in host.journal(_PID=str(hung))
    remove_drop_ins(host)


async def test_restart_loses_no_packet(host: Machine) -> None:
    async with watching(host) as watch:
        await systemctl(host, "restart")
    report("systemctl restart", watch)
    assert watch.lost == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(systemctl, host, "restart")
        await trio.sleep(0.1)
        print(f"systemctl restart: call connected {await wait_callable(host):.3f} s later")


async def test_start_that_fails_for_once_is_tried_again(host: Machine) -> None:
    """The workers are not ready in time; later, without an operator's order, they are."""
    add_drop_in(host, "limit", "[Unit]\nStartLimitIntervalSec=0\n")
    slow = good_config(host).replace("[supervisor]", "[supervisor]\nboot_timeout = 0.05")
    configure(host, slow)
    known = supervisor(host)
    assert (await run(host, "systemctl", "restart", UNIT, check=False)).returncode != 0
    await wait(host, lambda: host.property("ExecMainStatus") == str(os.EX_TEMPFAIL))
    configure(host, good_config(host))
    await wait_running(host, instead_of=known)
    await wait_callable(host)
    remove_drop_ins(host)
