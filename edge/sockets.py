"""Every socket of the appliance, opened by the supervisor before any worker exists.

Workers get duplicates, so that a worker's death closes nothing: packets and connections wait in the
kernel for its successor.
"""

import contextlib
import socket
from collections.abc import Iterator

from attrs import frozen

from edge.config import Config, ListenAddress
from edge.errors import BootError
from edge.udp import open_udp_socket

TCP_BACKLOG = 1024


@frozen
class Sockets:
    """The outer index is the worker, the inner one the listen address."""

    public: tuple[tuple[socket.socket, ...], ...]
    """Each relay worker's own SO_REUSEPORT socket per address."""
    relay_internal: tuple[socket.socket, ...]
    transceiver_internal: tuple[socket.socket, ...]
    listeners: tuple[tuple[socket.socket, ...], ...]
    """Each transceiver worker's own SO_REUSEPORT signaling listener per address."""

    def close(self) -> None:
        for one in self:
            one.close()

    def close_listeners(self) -> None:
        """Leave the listeners to the workers: once a worker ends, nothing waits in its queue."""
        for group in self.listeners:
            for one in group:
                one.close()

    def __iter__(self) -> Iterator[socket.socket]:
        for group in (*self.public, *self.listeners):
            yield from group
        yield from self.relay_internal
        yield from self.transceiver_internal


def open_sockets(config: Config) -> Sockets:
    """Open everything that the configuration asks for.

    Raises:
        BootError: an address cannot be bound; the message names it. Nothing stays open.

    """
    relay, transceiver = config.relay, config.transceiver
    with contextlib.ExitStack() as undo:

        def udp(host: str, port: int, *, reuse_port: bool) -> socket.socket:
            opened = open_udp_socket(
                host, port, receive_buffer_bytes=relay.receive_buffer_bytes, reuse_port=reuse_port
            )
            return undo.enter_context(opened)

        def public(listen: ListenAddress) -> list[socket.socket]:
            first = udp(listen.host, listen.port, reuse_port=True)
            port = port_of(first)
            others = (udp(listen.host, port, reuse_port=True) for _ in range(relay.workers - 1))
            return [first, *others]

        def signaling(listen: ListenAddress) -> list[socket.socket]:
            first = undo.enter_context(_listen(listen.host, listen.port))
            port = port_of(first)
            others = (
                undo.enter_context(_listen(listen.host, port))
                for _ in range(transceiver.workers - 1)
            )
            return [first, *others]

        def internal(count: int) -> tuple[socket.socket, ...]:
            return tuple(
                udp(transceiver.internal_address, 0, reuse_port=False) for _ in range(count)
            )

        sockets = Sockets(
            public=tuple(zip(*map(public, relay.listen), strict=True)),
            relay_internal=internal(relay.workers),
            transceiver_internal=internal(transceiver.workers),
            listeners=tuple(zip(*map(signaling, config.signal.listen), strict=True)),
        )
        undo.pop_all()
        return sockets


def port_of(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


def name_of(bound: socket.socket) -> str:
    """Return ``host:port`` of a bound socket, an IPv6 host in brackets."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(
        family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(TCP_BACKLOG)
    except OSError as exc:
        listener.close()
        raise BootError(f"cannot listen on TCP {host} port {port}: {exc.strerror}") from exc
    return listener
