"""A network of hosts far from each other: namespaces joined by an emulator with delay and loss.

Every host is a network namespace with one TUN interface. A process of ours holds the other ends,
and passes IP packets on by a table of who has which address, after the delay of the link between
the two, unless the link loses them. So an address can move from one host to another within a
moment, as routes do when a host dies, and nothing of the kernel but TUN is needed. All of it
disappears with the context manager. Needs root.
"""

import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from attrs import define, frozen

from tests.support.netns import Namespace, run_command

DEVICE = "net0"
EMULATOR = Path(__file__).with_name("internet_process.py")

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN_WITHOUT_HEADER = 0x1001
_IFREQ = struct.Struct("16sH22x")
_networks = count()


@frozen
class Link:
    """The way between two hosts, the same in both directions."""

    delay: float = 0.0
    """Seconds, one way."""
    loss: float = 0.0
    """Share of packets."""


@define
class Internet:
    """The running network. Changes are in force when the method returns."""

    hosts: dict[str, Namespace]
    _process: subprocess.Popen[str]

    def route(self, address: str, host: str | None) -> None:
        """Have packets to an address go to a host, or to nobody."""
        number = None if host is None else list(self.hosts).index(host)
        self._order({"route": address, "host": number})

    def link(self, one: str, other: str, link: Link) -> None:
        """Change the way between two hosts."""
        names = list(self.hosts)
        ends = [names.index(one), names.index(other)]
        self._order({"ends": ends, "delay": link.delay, "loss": link.loss})

    def give(self, host: str, address: str) -> None:
        """Let a host have one more address. Packets come once it is routed there."""
        name = self.hosts[host].name
        run_command("ip", "-n", name, "address", "add", f"{address}/32", "dev", DEVICE)

    def _order(self, order: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            pytest.fail("the network emulator has ended")


@contextmanager
def internet(
    hosts: dict[str, Sequence[str]], links: dict[tuple[str, str], Link]
) -> Iterator[Internet]:
    """Build hosts that have these addresses, the first one as their own. Links default to none."""
    if os.geteuid() != 0:
        pytest.fail("this test builds network namespaces: run it as root")
    prefix = f"edge-{os.getpid()}-{next(_networks)}"
    with ExitStack() as undo:
        built: dict[str, Namespace] = {}
        ends: list[int] = []
        for name, addresses in hosts.items():
            host = built[name] = Namespace(f"{prefix}-{name}", addresses[0])
            run_command("ip", "netns", "add", host.name)
            undo.callback(run_command, "ip", "netns", "del", host.name)
            end = _plug_in(host)
            undo.callback(os.close, end)
            ends.append(end)
        process = subprocess.Popen(
            [sys.executable, str(EMULATOR), *map(str, ends)],
            pass_fds=ends,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        undo.callback(_end, process)
        network = Internet(built, process)
        for name, addresses in hosts.items():
            for address in addresses:
                network.give(name, address)
                network.route(address, name)
            run_command("ip", "-n", built[name].name, "route", "add", "default", "dev", DEVICE)
        for (one, other), link in links.items():
            network.link(one, other, link)
        yield network


def _plug_in(host: Namespace) -> int:
    """Make the host's interface; return the descriptor of its other end."""
    with host.entered():
        end = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(end, _TUNSETIFF, _IFREQ.pack(DEVICE.encode(), _IFF_TUN_WITHOUT_HEADER))
    run_command("ip", "-n", host.name, "link", "set", "lo", "up")
    run_command("ip", "-n", host.name, "link", "set", DEVICE, "up")
    return end


def _end(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.kill()
    process.wait()
