"""An attacker who spoofs a caller's address, with valid sessions of his own: the call goes on.

In network namespaces, so that spoofed packets travel as they would from another host.
"""

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.adversary.attacks import Attack, capture, own_check
from tests.adversary.hosts import (
    calling_from,
    move,
    owner_of,
    relays_of,
    running,
    session_from,
)
from tests.adversary.scene import Scene, attacker_sessions, conflicts, drops, scene
from tests.support.appliance import Appliance, wait_status
from tests.support.caller import LiveCall

ATTACK_TIME = 2.0
IN_HAND_MAX = 64
"""Packets that a killed relay worker may have had in hand: one batch."""

COUNTED = {
    "bad-integrity": ("forged-check",),
    "replayed": ("replayed-check",),
    "authentication": ("own-media", "forged-media", "forged-rtcp"),
    "replay": ("replayed-media",),
    "unbound-address": ("diverted-media",),
}
"""Drop reasons of the transceiver, and the kinds of attack that they count."""


async def assert_nothing_lost(call: LiveCall) -> None:
    """Everything sent so far and for half a second from now comes back, once and in order."""
    record = call.peer.record
    call.peer.frames = record.sent + 25
    await call.wait_echo(call.peer.frames)
    assert record.echoed == record.sent == call.peer.frames
    first = record.sequence_numbers[0]
    assert record.sequence_numbers == [first + step & 0xFFFF for step in range(record.sent)]


async def kill_relays(appliance: Appliance, call: LiveCall, relays: int) -> None:
    """Kill the relay workers while they have none of the call's packets in hand."""
    pids = [worker.pid for worker in await appliance.workers("relay")]
    await call.wait_echo(call.peer.record.echoed + 1)
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    for index in range(relays):
        await appliance.wait_line(f"worker relay-{index} is back")


@pytest.mark.parametrize("relays", [1, 2])
async def test_a_call_loses_nothing_whatever_is_sent_in_its_name(
    tmp_path: Path, relays: int
) -> None:
    """Nor when the relays are killed meanwhile and their successors know flows by memory alone."""
    async with scene(tmp_path, relays) as here, AsyncExitStack() as stack:
        appliance = here.appliance
        sessions = await attacker_sessions(stack, here)
        ear = stack.enter_context(here.attacker.udp())
        async with calling_from(here.victim, here.origin) as call:
            captured = capture(call)
            await call.wait_echo(10)
            call.peer.check(trio.current_time())
            await call.wait(lambda: bool(captured.checks))
            mapped = call.peer.mapped
            assert mapped is not None
            own_addresses = [ear.getsockname(), (here.attacker.address, 9)]
            attack = Attack(
                here.spoofer, here.udp, call, mapped[:2], captured, sessions, own_addresses
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attack.run)
                await trio.sleep(ATTACK_TIME)
                before = await appliance.status()
                await kill_relays(appliance, call, relays)
                await trio.sleep(ATTACK_TIME)
                nursery.cancel_scope.cancel()
            await assert_nothing_lost(call)
            after = await appliance.status()
            assert call.peer.mapped == mapped
        with pytest.raises(BlockingIOError):
            ear.recv(2048)
        print(f"attack: {dict(attack.sent)}")
        print(f"longest gap in the call: {call.peer.record.longest_gap * 1000:.0f} ms")

        assert conflicts(before) > 0
        assert conflicts(after) > 0, "successors refuse, too"
        assert any(table.taken_over for relay in relays_of(after) for table in relay.flows)
        await call.websocket.aclose()
        ended = drops(await wait_status(appliance, lambda status: drops(status)["replayed"] > 0))
        assert ended["address-conflict"] == 1, "by the session beside the victim's"
        for reason, kinds in COUNTED.items():
            sent = sum(attack.sent[kind] for kind in kinds)
            assert sent - IN_HAND_MAX * relays <= ended[reason] <= sent, reason


async def claim_first(here: Scene, call: LiveCall, claimant: LiveCall) -> None:
    """Send a check of the claimant's from the address that a call is going to use."""
    address = (here.victim.address, call.udp.getsockname()[1])
    here.spoofer.send(own_check(claimant), address, here.udp)
    await trio.sleep(0.2)


async def test_an_address_claimed_beforehand_is_lost_and_every_other_one_works(
    tmp_path: Path,
) -> None:
    """The claimant learns nothing, and the caller gets through from another port."""
    async with scene(tmp_path) as here, AsyncExitStack() as stack:
        sessions = await attacker_sessions(stack, here)
        for near in (True, False):
            async with session_from(here.victim, here.origin) as call:
                claimant = sessions[owner_of(call) if near else 1 - owner_of(call)]
                await claim_first(here, call, claimant)
                heard = len(claimant.events), claimant.peer.record.echoed
                async with running(call):
                    await call.wait_message(type="state", layer="ice", state="connected")
                    with trio.move_on_after(1.0):
                        await call.wait_echo()
                    assert call.peer.record.echoed == 0
                    assert call.events == []
                    move(call, here.victim)
                    await call.wait_echo(10)
                    await assert_nothing_lost(call)
                assert (len(claimant.events), claimant.peer.record.echoed) == heard
        status = await here.appliance.status()
        assert drops(status)["address-conflict"] == 1
        assert conflicts(status) > 0


@pytest.mark.parametrize("near", [True, False], ids=["same transceiver", "another one"])
async def test_a_claimed_address_is_free_when_the_claimant_leaves(
    tmp_path: Path, near: bool
) -> None:
    async with scene(tmp_path) as here, AsyncExitStack() as stack:
        call = await stack.enter_async_context(session_from(here.victim, here.origin))
        owner = owner_of(call)
        claimant = (await attacker_sessions(stack, here))[owner if near else 1 - owner]
        await claim_first(here, call, claimant)
        await stack.enter_async_context(running(call))
        await call.wait_message(type="state", layer="ice", state="connected")
        await claimant.send({"type": "bye"})
        await call.wait_echo(10)
        await assert_nothing_lost(call)
