"""A client whose address changes in mid-call, on a network of its own."""

from pathlib import Path

import msgspec
import trio

from tests.adversary.hosts import appliance_on, calling_from, signaling_from
from tests.support.caller import LiveCall
from tests.support.netns import Namespace, network, renumber
from tests.support.peer import CHECK_INTERVAL

SLACK = 1.0
"""Seconds that a busy machine may add to a gap: far less than another check."""


async def change_network(call: LiveCall, server: Namespace, client: Namespace) -> Namespace:
    """Renumber the client's host, and have the client go on with its next check from there."""
    call.peer.record.longest_gap = 0.0
    moved = await trio.to_thread.run_sync(renumber, server, client)
    old, call.udp = call.udp, trio.socket.from_stdlib_socket(moved.udp())
    old.close()
    return moved


async def test_without_signaling_the_gap_is_at_most_a_check_interval(tmp_path: Path) -> None:
    with network("client") as (server, client):
        async with (
            appliance_on(server, tmp_path) as appliance,
            calling_from(client, await appliance.origin()) as call,
        ):
            await call.wait_echo(100)
            await change_network(call, server, client)
            await call.wait_echo(call.peer.record.echoed + 100)
            assert call.peer.mapped is not None
            assert call.peer.mapped.host == "10.123.101.2"
            gap = call.peer.record.longest_gap
            print(f"gap after a change of address: {gap * 1000:.0f} ms")
            assert gap <= CHECK_INTERVAL + SLACK
            assert len(call.peer.record.ssrcs) == 1


async def test_with_signaling_the_gap_is_that_of_signaling(tmp_path: Path) -> None:
    """The client resumes its session from its new network, and restarts ICE there."""
    with network("client") as (server, client):
        async with (
            appliance_on(server, tmp_path, signal="grace = 20.0") as appliance,
            calling_from(client, await appliance.origin()) as call,
        ):
            origin = await appliance.origin()
            await call.wait_echo(100)
            moved = await change_network(call, server, client)
            async with signaling_from(moved, origin) as websocket:
                resume = {"type": "resume", "session": call.session, "secret": call.secret}
                await websocket.send_message(msgspec.json.encode(resume).decode())
                call.websocket = websocket
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call.run_signaling)
                    await call.wait_message(type="resumed")
                    await call.restart_ice()
                    await call.wait_echo(call.peer.record.echoed + 100)
                    await call.send({"type": "bye"})
                    await call.wait_message(type="bye")
                    nursery.cancel_scope.cancel()
            gap = call.peer.record.longest_gap
            print(f"gap after a change of address, with an ICE restart: {gap * 1000:.0f} ms")
            assert gap <= 1.0
            assert "restarts=1" in await appliance.wait_line(f"session {call.session} ended")
