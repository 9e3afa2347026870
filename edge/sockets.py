"""Every socket of the appliance, opened by the supervisor before any worker exists.

Workers get duplicates, so that a worker's death closes nothing: packets and connections wait in the
kernel for its successor. The service manager keeps the public ones while the supervisor itself is
away, under names that say which worker and address they are for.
"""

import contextlib
import socket
from collections.abc import Iterator, Sequence

from edge.config import Config
from edge.config.values import ListenAddress
from edge.errors import BootError
from edge.sdnotify import ServiceManager
from edge.udp import bind_udp_socket, leave_group, make_udp_socket, open_udp_socket

TCP_BACKLOG = 1024


class Sockets:
    """All sockets. In lists of lists the outer index is the worker, the inner one the address."""

    def __init__(self, config: Config, manager: ServiceManager) -> None:
        """Open what the configuration asks for, or take it from the service manager.

        Raises:
            BootError: an address cannot be bound; the message names it. Nothing stays open.

        """
        self._config = config
        self._manager = manager
        self.public: list[list[socket.socket]] = []
        """Each relay worker's own SO_REUSEPORT socket per address."""
        self.relay_listeners: list[list[socket.socket]] = []
        """Each relay worker's own SO_REUSEPORT listener per address for ICE over TCP."""
        self.relay_internal: list[socket.socket] = []
        self.transceiver_internal: list[socket.socket] = []
        self.listeners: list[list[socket.socket]] = []
        """Each transceiver worker's own SO_REUSEPORT signaling listener per address."""
        try:
            for _ in range(config.relay.workers):
                self.add_relay()
                self.bind_relay()
            for _ in range(config.transceiver.workers):
                self.transceiver_internal.append(self._internal())
                self._add_listeners("signal", self.listeners, config.signal.listen)
            manager.forget_untaken()
        except BootError:
            self.close()
            raise

    def add_relay(self) -> None:
        """Make the sockets of one more relay worker. Its public UDP ones are not bound yet.

        Those who come to its TCP listeners wait there until it is ready.
        """
        relay = self._config.relay
        worker = len(self.public)
        self.public.append([self._public(worker, listen) for listen in relay.listen])
        self.relay_internal.append(self._internal())
        self._add_listeners("tcp", self.relay_listeners, relay.tcp_listen)

    def bind_relay(self) -> None:
        """Let the latest relay worker have its share of the packets.

        Raises:
            BootError: an address cannot be bound.

        """
        worker = len(self.public) - 1
        for index, listen in enumerate(self._config.relay.listen):
            one = self.public[worker][index]
            if port_of(one) == 0:
                port = listen.port if worker == 0 else port_of(self.public[0][index])
                bind_udp_socket(one, listen.host, port)
                self._manager.keep(_kept_name("udp", worker, listen), one.fileno())

    def quiet_relay(self) -> None:
        """Give the latest relay worker nothing new; it can still read what is queued."""
        worker = len(self.public) - 1
        for listen in self._config.relay.listen:
            self._manager.forget(_kept_name("udp", worker, listen))
        for listen in self._config.relay.tcp_listen:
            self._manager.forget(_kept_name("tcp", worker, listen))
        for one in self.public[-1]:
            leave_group(one)
        for one in self.relay_listeners[-1]:
            one.shutdown(socket.SHUT_RDWR)

    def remove_relay(self) -> None:
        """Close the sockets of the latest relay worker."""
        gone = (*self.public.pop(), *self.relay_listeners.pop(), self.relay_internal.pop())
        for one in gone:
            one.close()

    def close_listeners(self) -> None:
        """Leave the listeners to the workers: once a worker ends, nothing waits in its queue."""
        for group in self.listeners:
            for one in group:
                one.close()

    def close(self) -> None:
        for one in self._all():
            one.close()

    def _all(self) -> Iterator[socket.socket]:
        for group in (*self.public, *self.relay_listeners, *self.listeners):
            yield from group
        yield from self.relay_internal
        yield from self.transceiver_internal

    def _internal(self) -> socket.socket:
        return open_udp_socket(
            self._config.transceiver.internal_address,
            0,
            receive_buffer_bytes=self._config.relay.receive_buffer_bytes,
            reuse_port=False,
        )

    def _public(self, worker: int, listen: ListenAddress) -> socket.socket:
        """Take a bound socket that was kept, or make one."""
        wanted = self._config.relay.receive_buffer_bytes
        kept = self._manager.take(_kept_name("udp", worker, listen))
        if kept is None:
            return make_udp_socket(listen.host, receive_buffer_bytes=wanted, reuse_port=True)
        one = socket.socket(fileno=kept)
        one.setblocking(False)  # noqa: FBT003 - the standard library's signature
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        return one

    def _add_listeners(
        self, kind: str, groups: list[list[socket.socket]], listen: Sequence[ListenAddress]
    ) -> None:
        """Open one more group of listeners, on the ports of the first, or take what was kept."""
        groups.append([])
        worker = len(groups) - 1
        for index, one in enumerate(listen):
            name = _kept_name(kind, worker, one)
            kept = self._manager.take(name)
            if kept is not None:
                groups[-1].append(socket.socket(fileno=kept))
                continue
            port = one.port if worker == 0 else port_of(groups[0][index])
            groups[-1].append(_listen(one.host, port))
            self._manager.keep(name, groups[-1][-1].fileno())


def _kept_name(kind: str, worker: int, listen: ListenAddress) -> str:
    """Return what the service manager knows a socket by: no colon may be in it."""
    return f"{kind}-{worker}-{listen.host.replace(':', '_')}-{listen.port}"


def port_of(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


def name_of(bound: socket.socket) -> str:
    """Return ``host:port`` of a bound socket, an IPv6 host in brackets."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(
            socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        )
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, port))
            listener.listen(TCP_BACKLOG)
        except OSError as exc:
            raise BootError(f"cannot listen on TCP {host} port {port}: {exc.strerror}") from exc
        undo.pop_all()
    return listener
