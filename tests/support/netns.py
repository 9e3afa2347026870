"""Hosts on a network of their own: Linux network namespaces joined by veth pairs.

One namespace is the server. It has a public address, and a link to each of the others; packets
between those links are not filtered by source, so that whoever sits on one link can send in the
name of whoever sits on another. All of it disappears with the context manager. Needs root.

A socket stays in the namespace that it was made in, whoever uses it. So clients need no processes
of their own there: ``Namespace.open`` makes sockets for code that runs here.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address

import pytest
from attrs import frozen

PUBLIC_ADDRESS = "10.123.0.1"
"""The server's, reachable over every link."""
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")


@frozen
class Namespace:
    """One host. ``address`` is its own on its link, or the server's public one."""

    name: str
    address: str

    def python(self, *arguments: str) -> list[str]:
        """Return the command that runs this interpreter in there."""
        return ["ip", "netns", "exec", self.name, sys.executable, *arguments]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread make sockets and start processes there."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(here)
        finally:
            os.close(there)
            os.close(here)

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Make a socket that belongs there."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def drop_udp(self) -> None:
        """Drop all UDP that comes in over a link, as firewalls do: nobody is told."""
        run_command("ip", "netns", "exec", self.name, "nft", _DROP_UDP)

    def udp(self, port: int = 0) -> socket.socket:
        """Make a UDP socket bound to the host's own address."""
        udp = self.open(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        udp.bind((self.address, port))
        return udp


class Spoofer:
    """Sends UDP packets from a host in anybody's name, over a raw socket."""

    def __init__(self, host: Namespace) -> None:
        self._raw = host.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.sent = 0

    def send(self, payload: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
        """Send one packet. The kernel fills in the IP header's checksum; UDP's is left out."""
        size = _UDP.size + len(payload)
        head = _IP.pack(
            0x45,
            0,
            _IP.size + size,
            0,
            0,
            64,
            socket.IPPROTO_UDP,
            0,
            IPv4Address(source[0]).packed,
            IPv4Address(destination[0]).packed,
        )
        head += _UDP.pack(source[1], destination[1], size, 0)
        self._raw.sendto(head + payload, (destination[0], 0))
        self.sent += 1

    def close(self) -> None:
        self._raw.close()


@contextmanager
def network(*hosts: str) -> Iterator[tuple[Namespace, ...]]:
    """Build the server's namespace and one for each of ``hosts``; yield them in this order."""
    if os.geteuid() != 0:
        pytest.fail("this test builds network namespaces: run it as root")
    prefix = f"edge-{os.getpid()}"
    server = Namespace(f"{prefix}-server", PUBLIC_ADDRESS)
    others = [
        Namespace(f"{prefix}-{host}", f"10.123.{link}.2") for link, host in enumerate(hosts, 1)
    ]
    with ExitStack() as undo:
        for one in (server, *others):
            _ip("netns", "add", one.name)
            undo.callback(_ip, "netns", "del", one.name)
            _ip("-n", one.name, "link", "set", "lo", "up")
        _ip("-n", server.name, "address", "add", f"{PUBLIC_ADDRESS}/32", "dev", "lo")
        for link, one in enumerate(others, 1):
            _join(server, one, link)
        run_command("ip", "netns", "exec", server.name, "sh", "-c", _UNFILTERED)
        yield (server, *others)


_DROP_UDP = (
    "add table inet firewall;"
    "add chain inet firewall input { type filter hook input priority 0; };"
    'add rule inet firewall input iifname != "lo" meta l4proto udp drop'
)


def renumber(server: Namespace, host: Namespace) -> Namespace:
    """Give a host another address, in another network, and take the one that it has away."""
    link = int(host.address.split(".")[2])
    moved = Namespace(host.name, f"10.123.{100 + link}.2")
    router = f"10.123.{100 + link}.1"
    _ip("-n", server.name, "address", "add", f"{router}/24", "dev", f"link{link}")
    _ip("-n", host.name, "address", "add", f"{moved.address}/24", "dev", "up0")
    _ip("-n", host.name, "route", "replace", "default", "via", router)
    _ip("-n", host.name, "address", "del", f"{host.address}/24", "dev", "up0")
    return moved


_UNFILTERED = "for each in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$each; done"


def _join(server: Namespace, host: Namespace, link: int) -> None:
    """Put a link between the two: .1 is the server's end, .2 the host's."""
    near, far = f"link{link}", "up0"
    peer = ("peer", "name", far, "netns", host.name)
    _ip("-n", server.name, "link", "add", near, "type", "veth", *peer)
    _ip("-n", server.name, "address", "add", f"10.123.{link}.1/24", "dev", near)
    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", far)
    _ip("-n", server.name, "link", "set", near, "up")
    _ip("-n", host.name, "link", "set", far, "up")
    _ip("-n", host.name, "route", "add", "default", "via", f"10.123.{link}.1")


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _ip(*arguments: str) -> None:
    run_command("ip", *arguments)


def run_command(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
