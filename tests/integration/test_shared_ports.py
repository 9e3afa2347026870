"""A port is one appliance's: whoever comes second is refused, and names the address."""

import socket
from pathlib import Path

import pytest
import trio

from edge.config import Config, decode_config
from edge.errors import BootError
from edge.process import EX_CONFIG
from edge.sdnotify import ServiceManager
from edge.sockets import Sockets, port_of
from tests.support.appliance import Appliance, running_appliance, start_edge, write_config

NO_SIGNAL_PORT = '[signal]\nlisten = ["127.0.0.1:0"]\n'
TCP = 'tcp_listen = ["127.0.0.1:0"]'


async def refused(directory: Path, old: str, new: str) -> str:
    """Start an appliance that is to be refused, one address of its file changed; return why."""
    path = _write_changed(directory, old, new)
    process = await start_edge("run", "--config", str(path))
    assert process.stderr is not None
    said = b""
    with trio.fail_after(30):
        try:
            async for chunk in process.stderr:
                said += chunk
                assert b"ready: " not in said, said.decode()
            await process.wait()
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == EX_CONFIG, said.decode()
    return said.decode()


def _write_changed(directory: Path, old: str, new: str) -> Path:
    directory.mkdir()
    path = write_config(directory, relay=TCP)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return tmp_path / "second"


async def taken(appliance: Appliance, kind: str) -> str:
    status = await appliance.status()
    return {"udp": status.udp, "tcp": status.tcp, "signaling": status.signaling}[kind][0]


@pytest.mark.parametrize(
    ("kind", "line", "named"),
    [
        ("udp", '\nlisten = ["127.0.0.1:0"]\nworkers', "UDP"),
        ("tcp", 'tcp_listen = ["127.0.0.1:0"]', "TCP"),
        ("signaling", '[signal]\nlisten = ["127.0.0.1:0"]', "TCP"),
    ],
)
async def test_a_second_appliance_on_a_port_is_refused(
    tmp_path: Path, second: Path, kind: str, line: str, named: str
) -> None:
    async with running_appliance(tmp_path, relay=TCP) as appliance:
        host, _, port = (await taken(appliance, kind)).rpartition(":")
        said = await refused(second, line, line.replace("127.0.0.1:0", f"{host}:{port}"))
        assert f"{named} {host} port {port}: Address already in use" in said


async def test_a_wildcard_address_is_refused_where_it_covers_a_port(
    tmp_path: Path, second: Path
) -> None:
    async with running_appliance(tmp_path, relay=TCP) as appliance:
        _, port = await appliance.udp()
        line = '\nlisten = ["127.0.0.1:0"]\n'
        wild = f'\nlisten = ["0.0.0.0:{port}"]\npublic_addresses = ["127.0.0.1"]\n'
        said = await refused(second, line, wild)
        assert f"UDP 0.0.0.0 port {port}: Address already in use" in said


def config_on(udp: int, tcp: int, workers: int = 2) -> Config:
    text = f"""
[relay]
listen = ["127.0.0.1:{udp}"]
workers = {workers}
[signal]
listen = ["127.0.0.1:{tcp}"]
"""
    return decode_config(text, "a test")


def test_workers_of_one_appliance_share_its_ports() -> None:
    first = Sockets(config_on(0, 0), ServiceManager(None, {}, None))
    try:
        assert len({port_of(group[0]) for group in first.public}) == 1
        assert len({port_of(group[0]) for group in first.listeners}) == 1
        first.add_relay()
        first.bind_relay()
        assert len({port_of(group[0]) for group in first.public}) == 1
        first.open_listeners(5)
        assert len({port_of(group[0]) for group in first.listeners}) == 1
    finally:
        first.close()


def test_every_worker_gets_its_share() -> None:
    one = Sockets(config_on(0, 0), ServiceManager(None, {}, None))
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    try:
        for sender in senders:
            sender.sendto(b"x", one.public[0][0].getsockname())
        got = [group[0].recv(1, socket.MSG_DONTWAIT) for group in one.public]
        assert got == [b"x", b"x"]
    finally:
        one.close()
        for sender in senders:
            sender.close()


def test_sockets_that_were_kept_are_no_other_appliance() -> None:
    """Those of some places only: what the service manager was told of the others was lost."""
    former = Sockets(config_on(0, 0), ServiceManager(None, {}, None))
    udp, tcp = port_of(former.public[1][0]), port_of(former.listeners[1][0])
    kept = {
        f"udp-1-127.0.0.1-{udp}": former.public[1][0].detach(),
        f"signal-1-127.0.0.1-{tcp}": former.listeners[1][0].detach(),
    }
    former.close()
    again = Sockets(config_on(udp, tcp), ServiceManager(None, kept, None))
    try:
        assert {port_of(group[0]) for group in again.public} == {udp}
        with pytest.raises(BootError, match=f"UDP 127.0.0.1 port {udp}: Address already in use"):
            Sockets(config_on(udp, 0), ServiceManager(None, {}, None))
        with pytest.raises(BootError, match=f"TCP 127.0.0.1 port {tcp}: Address already in use"):
            Sockets(config_on(0, tcp), ServiceManager(None, {}, None))
    finally:
        again.close()


def test_what_was_kept_of_another_address_is_in_nobodys_way() -> None:
    """The file was changed before a restart: the new address covers the former one."""
    former = Sockets(config_on(0, 0), ServiceManager(None, {}, None))
    udp = port_of(former.public[0][0])
    kept = {f"udp-0-127.0.0.1-{udp}": former.public[0][0].detach()}
    former.close()
    manager = ServiceManager(None, kept, None)
    text = f'[relay]\nlisten = ["0.0.0.0:{udp}"]\npublic_addresses = ["127.0.0.1"]\n'
    again = Sockets(decode_config(text + NO_SIGNAL_PORT, "a test"), manager)
    manager.forget_untaken()
    try:
        assert {port_of(group[0]) for group in again.public} == {udp}
    finally:
        again.close()
