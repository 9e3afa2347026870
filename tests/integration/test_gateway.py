"""Who is let in to the control channel between hosts, over real connections."""

import contextlib
import os
import socket
import struct
from pathlib import Path

import pytest
import trio

from edge.errors import FleetError
from edge.fleet.map import FleetKey
from edge.fleet.seal import KeyRing
from edge.fleet.secure import SecureEnd
from edge.fleet.states import HostState, encode_state
from edge.transceiver import gateway
from edge.transceiver.remote import HANDSHAKE_TIME, VANISHED_AFTER, shake_hands, watch
from tests.support.fleets import KEY, NEXT_KEY, FleetHost, fleet_hosts
from tests.support.hosts import wait_for
from tests.support.netns import network, run_command

STATE = HostState(1, 2, 1)
DROP_TCP = (
    "add table inet firewall;"
    "add chain inet firewall input { type filter hook input priority 0; };"
    "add rule inet firewall input meta l4proto tcp drop"
)


async def connect(host: FleetHost, source: str) -> trio.SocketStream:
    connection = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    await connection.bind((source, 0))
    await connection.connect(host.fleet.control_address(host.fleet.here))
    return trio.SocketStream(connection)


def secure_end(host: FleetHost, caller: FleetHost, key: FleetKey = KEY) -> SecureEnd:
    """Return the end of who calls the host in the name of another one."""
    here, there = caller.fleet.here.internal, host.fleet.here.internal
    return SecureEnd(KeyRing((key,)), here, there, calls=True, entropy=os.urandom)


async def call(host: FleetHost, caller: FleetHost, key: FleetKey) -> trio.SocketStream:
    """Connect as one host of the fleet to another one."""
    stream = await connect(host, caller.fleet.here.internal)
    end = secure_end(host, caller, key)
    try:
        await shake_hands(stream, end)
        await stream.send_all(end.frame(encode_state(STATE)))
    except BaseException:
        await stream.aclose()
        raise
    return stream


async def wait_closed(stream: trio.SocketStream) -> bytes:
    """Return what arrives until the other end closes."""
    received = b""
    with trio.fail_after(HANDSHAKE_TIME + 3):
        try:
            while data := await stream.receive_some(4096):
                received += data
        except trio.BrokenResourceError:
            pass
    return received


async def wait_drop(host: FleetHost, reason: str, count: int = 1) -> None:
    await wait_for(lambda: host.workers[0].drops[f"control-{reason}"] == count)


async def test_strangers_hear_nothing(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, _):
        async with await connect(host, "127.0.0.1") as stream:
            assert await wait_closed(stream) == b""
        await wait_drop(host, "not-a-member")


async def test_a_member_that_speaks_something_else_is_refused(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        for data, reason in (
            (b"GET / HTTP/1.1\r\n\r\n", "malformed"),
            (b"edge\x07", "unknown-version"),
            (b"edge\x01\x63" + bytes(32), "unknown-key"),
        ):
            async with await connect(host, peer.fleet.here.internal) as stream:
                await stream.send_all(data)
                assert await wait_closed(stream) == b""
            await wait_drop(host, reason)


async def test_who_says_nothing_is_closed(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        async with await connect(host, peer.fleet.here.internal) as stream:
            assert await wait_closed(stream) == b""
        await wait_drop(host, "no-handshake")


async def test_a_key_that_opens_is_taken_and_another_is_not(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2, keys=(KEY, NEXT_KEY)) as (host, peer):
        for key in (KEY, NEXT_KEY):
            async with await call(host, peer, key):
                await wait_for(lambda: host.knows(peer.name) == STATE)
        forger = FleetKey(KEY.id, bytes(32))
        here, there = peer.fleet.here.internal, host.fleet.here.internal
        end = SecureEnd(KeyRing((forger,)), here, there, calls=True, entropy=os.urandom)
        async with await connect(host, here) as stream:
            await stream.send_all(end.next_bytes())
            answer = await stream.receive_some(4096)
            assert len(answer) == 38 + 4 + 16, "a hello and a proof"
            await stream.send_all((16).to_bytes(4) + bytes(16))
            assert await wait_closed(stream) == b""
        await wait_drop(host, "forged")


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        kept = []
        for _ in range(gateway.CONNECTIONS_PER_MEMBER_MAX + 4):
            with contextlib.suppress(trio.BrokenResourceError, FleetError):
                kept.append(await call(host, peer, KEY))
        assert len(kept) <= gateway.CONNECTIONS_PER_MEMBER_MAX
        assert len(kept) >= gateway.CONNECTIONS_PER_MEMBER_MAX - 2
        assert host.workers[0].drops["control-too-many-connections"] >= 4
        for each in kept:
            await each.aclose()
        await trio.sleep(0.1)
        async with await call(host, peer, KEY):
            pass


async def test_garbage_in_a_record_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        end = secure_end(host, peer)
        async with await connect(host, peer.fleet.here.internal) as stream:
            await shake_hands(stream, end)
            for garbage in (b"\xc1", b"\x81\xa4type\xa7unknown", b"x"):
                await stream.send_all(end.frame(garbage))
            await stream.send_all(end.frame(encode_state(STATE)))
            await wait_for(lambda: host.knows(peer.name) == STATE)
        assert host.workers[0].drops["control-unknown-message"] == 3


@pytest.mark.parametrize("source", ["a stranger", "a member"])
async def test_a_connection_that_is_reset_at_once_ends_nothing(tmp_path: Path, source: str) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        for _ in range(5):
            with socket.socket() as one:
                here = "127.0.0.1" if source == "a stranger" else peer.fleet.here.internal
                one.bind((here, 0))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.connect(host.fleet.control_address(host.fleet.here))
        await wait_drop(host, "no-handshake", 5)
        async with await call(host, peer, KEY):
            await wait_for(lambda: host.knows(peer.name) == STATE)


async def test_a_key_that_is_removed_ends_its_connections_only(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        worker = host.workers[0]
        worker.use_fleet_keys(KEY, NEXT_KEY)
        async with await call(host, peer, KEY) as old, await call(host, peer, NEXT_KEY) as new:
            worker.use_fleet_keys(NEXT_KEY, KEY)
            with trio.move_on_after(0.2):
                await old.receive_some(1)
                raise AssertionError("a key that opens is good")
            worker.use_fleet_keys(NEXT_KEY)
            await wait_closed(old)
            with trio.move_on_after(0.2):
                await new.receive_some(1)
                raise AssertionError("its key is there")
        assert worker.drops["control-key-removed"] >= 1
        with pytest.raises((FleetError, trio.BrokenResourceError)):
            await call(host, peer, KEY)


async def test_another_key_of_the_same_number_is_another_key(tmp_path: Path) -> None:
    async with (
        fleet_hosts(tmp_path, 1, 2) as (host, peer),
        await call(host, peer, KEY) as stream,
    ):
        host.workers[0].use_fleet_keys(FleetKey(KEY.id, NEXT_KEY.key))
        await wait_closed(stream)


async def test_a_key_that_is_removed_during_the_handshake_opens_nothing(tmp_path: Path) -> None:
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        end = secure_end(host, peer)
        async with await connect(host, peer.fleet.here.internal) as stream:
            await stream.send_all(end.next_bytes())
            assert end.feed(await stream.receive_some(4096)) == []
            host.workers[0].use_fleet_keys(NEXT_KEY)
            await stream.send_all(end.next_bytes())
            await wait_closed(stream)
        assert host.workers[0].drops["control-unknown-key"] >= 1


async def test_connections_of_members_are_taken_at_a_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop that takes them carries media as well."""
    monkeypatch.setattr(gateway, "ACCEPTS_PER_SECOND", 50.0)
    monkeypatch.setattr(gateway, "ACCEPTS_AT_ONCE", 5)
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        began = trio.current_time()
        for _ in range(30):
            with socket.socket() as one:
                one.bind((peer.fleet.here.internal, 0))
                one.connect(host.fleet.control_address(host.fleet.here))
        await wait_drop(host, "closed", 30)
        assert trio.current_time() - began > 0.4


async def test_members_do_not_wait_long_behind_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "ACCEPTS_PER_SECOND", 2.0)
    async with fleet_hosts(tmp_path, 1, 2) as (host, peer):
        for _ in range(60):
            with socket.socket() as one:
                one.connect(host.fleet.control_address(host.fleet.here))
        async with await call(host, peer, KEY):
            pass
        await wait_drop(host, "not-a-member", 60)


@pytest.mark.parametrize("waiting", [b"", b"unanswered"])
async def test_a_host_that_vanishes_is_found_out(waiting: bytes) -> None:
    """Nobody closes the connection: packets just stop to arrive."""
    with network("far") as (server, far):
        listener = server.open(socket.AF_INET, socket.SOCK_STREAM)
        with listener, far.open(socket.AF_INET, socket.SOCK_STREAM) as connection:
            listener.bind((server.address, 0))
            listener.listen()
            connection.connect(listener.getsockname())
            with listener.accept()[0]:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
                watch(stream)
                run_command("ip", "netns", "exec", server.name, "nft", DROP_TCP)
                began = trio.current_time()
                with trio.fail_after(10), contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(waiting)
                    assert await stream.receive_some(1) == b""
                taken = trio.current_time() - began
                print(f"found out after {taken:.1f} s")
                assert taken < VANISHED_AFTER + 1.5
