"""Every socket of the appliance, opened by the supervisor before any worker exists.

Workers get duplicates, so that a worker's death closes nothing: packets and connections wait in the
kernel for its successor. The service manager keeps the public ones while the supervisor itself is
away, under names that say which place and address they are for.

A *place* is a relay worker's share of the public port. The worker that has it changes when relay
workers are replaced, the sockets do not. A *number* is a relay worker's own: two that share a place
for a while have two, each with an internal socket. Transceiver workers have *slots*.

The first socket of a port is bound for itself alone, and shares the port only then: SO_REUSEPORT
from the start would let two appliances of one user have it, and each would lose the other's calls.
"""

import contextlib
import socket
from collections.abc import Iterator, Sequence

from edge.config import Config
from edge.config.values import ListenAddress
from edge.errors import BootError
from edge.routing.numbers import SLOTS_MAX
from edge.sdnotify import ServiceManager
from edge.udp import bind_udp_socket, leave_group, make_udp_socket, open_udp_socket, share_port

TCP_BACKLOG = 1024


class Sockets:
    """All sockets. In lists of lists the outer index is the place, the inner one the address."""

    def __init__(self, config: Config, manager: ServiceManager, places: int | None = None) -> None:
        """Open what the configuration asks for, or take it from the service manager.

        ``places`` is how many there are, if a predecessor has left them.

        Raises:
            BootError: an address cannot be bound; the message names it. Nothing stays open.

        """
        self._config = config
        self._manager = manager
        self.public: list[list[socket.socket]] = []
        """Each place's own SO_REUSEPORT socket per address."""
        self.relay_listeners: list[list[socket.socket]] = []
        """Each place's own SO_REUSEPORT listener per address for ICE over TCP."""
        self.relay_internal: list[socket.socket] = []
        """By number. One stays open when its worker has ended: nobody else gets its address."""
        self.transceiver_internal: list[socket.socket] = []
        """By slot, of all slots."""
        self.relay_trunk: list[socket.socket] = []
        """For traffic with other hosts, by number as ``relay_internal``; none if there are none."""
        self.transceiver_trunk: list[socket.socket] = []
        """The same by slot; none on a host that only relays."""
        self.listeners: list[list[socket.socket]] = []
        """SO_REUSEPORT signaling listeners per address. They are never closed while the service
        runs: the workers of a generation share them out (``listeners_of``)."""
        self.control: list[list[socket.socket]] = []
        """The same for the control channel between hosts; none if there are none."""
        try:
            for _ in range(config.relay.workers if places is None else places):
                self.add_relay()
                self.bind_relay()
            self.open_relay_internal(config.relay.workers)
            while manager.has(f"relay-{len(self.relay_internal)}"):
                self.open_relay_internal(len(self.relay_internal) + 1)
            for slot in range(SLOTS_MAX):
                self.transceiver_internal.append(self._internal(f"slot-{slot}"))
                if config.fleet.host is not None and config.transceiver.workers:
                    port = config.fleet.frame_port + slot
                    self.transceiver_trunk.append(self._trunk(f"trunk-slot-{slot}", port))
            self.open_listeners(config.transceiver.workers)
            while self._has_kept_listeners():
                self.open_listeners(len(self.listeners) + 1)
        except BootError:
            self.close()
            raise

    def open_relay_internal(self, numbers: int) -> bool:
        """Have internal sockets for so many relay numbers; return whether there are new ones.

        Raises:
            BootError: one cannot be opened.

        """
        known = len(self.relay_internal)
        for number in range(known, numbers):
            self.relay_internal.append(self._internal(f"relay-{number}"))
            if self._config.fleet.host is not None:
                port = self._config.fleet.relay_port + number
                self.relay_trunk.append(self._trunk(f"trunk-relay-{number}", port))
        return known < numbers

    def open_listeners(self, workers: int) -> None:
        """Have signaling listeners for so many transceiver workers.

        Raises:
            BootError: one cannot be opened.

        """
        while len(self.listeners) < workers:
            self._add_listeners("signal", self.listeners, self._config.signal.listen)
            self._add_listeners("control", self.control, self._control_addresses())

    def control_of(self, worker: int, workers: int) -> tuple[socket.socket, ...]:
        """Return the control channel's listeners of one of so many workers."""
        return tuple(one for group in self.control[worker :: max(workers, 1)] for one in group)

    def listeners_of(self, worker: int, workers: int) -> tuple[socket.socket, ...]:
        """Return the signaling listeners of one of so many workers: of each one at least."""
        return tuple(one for group in self.listeners[worker :: max(workers, 1)] for one in group)

    def named(self) -> Iterator[tuple[str, socket.socket]]:
        """Yield all sockets with the names that ``take`` knows them by."""
        relay = self._config.relay
        for place, group in enumerate(self.public):
            for listen, one in zip(relay.listen, group, strict=True):
                yield _kept_name("udp", place, listen), one
        for kind, groups, addresses in (
            ("tcp", self.relay_listeners, relay.tcp_listen),
            ("signal", self.listeners, self._config.signal.listen),
            ("control", self.control, self._control_addresses()),
        ):
            for place, group in enumerate(groups):
                for listen, one in zip(addresses, group, strict=True):
                    yield _kept_name(kind, place, listen), one
        for number, one in enumerate(self.relay_internal):
            yield f"relay-{number}", one
        for slot, one in enumerate(self.transceiver_internal):
            yield f"slot-{slot}", one
        for number, one in enumerate(self.relay_trunk):
            yield f"trunk-relay-{number}", one
        for slot, one in enumerate(self.transceiver_trunk):
            yield f"trunk-slot-{slot}", one

    def add_relay(self) -> None:
        """Make the public sockets of one more relay worker. The UDP ones are not bound yet.

        Those who come to its TCP listeners wait there until it is ready.
        """
        relay = self._config.relay
        worker = len(self.public)
        self.public.append([self._public(worker, listen) for listen in relay.listen])
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
                share_port(one)
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
        """Close the public sockets of the latest relay worker."""
        for one in (*self.public.pop(), *self.relay_listeners.pop()):
            one.close()

    def close_listeners(self) -> None:
        """Leave the listeners to the workers: once a worker ends, nothing waits in its queue."""
        for group in (*self.listeners, *self.control):
            for one in group:
                one.close()

    def close(self) -> None:
        for one in self._all():
            one.close()

    def _all(self) -> Iterator[socket.socket]:
        for group in (*self.public, *self.relay_listeners, *self.listeners, *self.control):
            yield from group
        yield from self.relay_internal
        yield from self.transceiver_internal
        yield from self.relay_trunk
        yield from self.transceiver_trunk

    def _internal(self, name: str) -> socket.socket:
        kept = self._manager.take(name)
        if kept is not None:
            return socket.socket(fileno=kept)
        return open_udp_socket(
            self._config.transceiver.internal_address,
            0,
            receive_buffer_bytes=self._config.relay.receive_buffer_bytes,
            reuse_port=False,
        )

    def _control_addresses(self) -> tuple[ListenAddress, ...]:
        fleet = self._config.fleet
        if fleet.host is None:
            return ()
        return (ListenAddress(self._config.hosts[fleet.host].internal, fleet.control_port),)

    def _trunk(self, name: str, port: int) -> socket.socket:
        kept = self._manager.take(name)
        if kept is not None:
            return socket.socket(fileno=kept)
        assert self._config.fleet.host is not None  # the caller has looked
        return open_udp_socket(
            self._config.hosts[self._config.fleet.host].internal,
            port,
            receive_buffer_bytes=self._config.relay.receive_buffer_bytes,
            reuse_port=False,
        )

    def _public(self, worker: int, listen: ListenAddress) -> socket.socket:
        """Take a bound socket that was kept, or make one."""
        wanted = self._config.relay.receive_buffer_bytes
        kept = self._manager.take(_kept_name("udp", worker, listen))
        if kept is None:
            shares = not self._is_first(worker, listen)
            return make_udp_socket(listen.host, receive_buffer_bytes=wanted, reuse_port=shares)
        one = socket.socket(fileno=kept)
        one.setblocking(False)  # noqa: FBT003 - the standard library's signature
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        return one

    def _is_first(self, place: int, listen: ListenAddress) -> bool:
        """Whether nothing of ours has the port yet.

        What was kept for us may: a later place's socket, or, if the file has changed since, one of
        another address that this one covers.
        """
        end = f"-{listen.port}"
        return place == 0 and not any(name.endswith(end) for name in self._manager.kept_names())

    def _has_kept_listeners(self) -> bool:
        place, listen = len(self.listeners), self._config.signal.listen
        return any(self._manager.has(_kept_name("signal", place, one)) for one in listen)

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
            shares = not self._is_first(worker, one)
            groups[-1].append(_listen(one.host, port, reuse_port=shares))
            self._manager.keep(name, groups[-1][-1].fileno())


def _kept_name(kind: str, worker: int, listen: ListenAddress) -> str:
    """Return what the service manager knows a socket by: no colon may be in it."""
    return f"{kind}-{worker}-{listen.host.replace(':', '_')}-{listen.port}"


def empty(udp: socket.socket) -> None:
    """Read away what waits in a UDP socket that nobody reads."""
    while True:
        try:
            udp.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            continue  # an answer of it was sent to somebody who has left


def port_of(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


def addresses_of(bound: Sequence[socket.socket]) -> tuple[tuple[str, int], ...]:
    """Return (host, port) of each socket."""
    return tuple((one.getsockname()[0], port_of(one)) for one in bound)


def name_of(bound: socket.socket) -> str:
    """Return ``host:port`` of a bound socket, an IPv6 host in brackets."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """Listen, and share the port from then on; with ``reuse_port`` with those that do already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(
            socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        )
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            share_port(listener)
        try:
            listener.bind((host, port))
            listener.listen(TCP_BACKLOG)
        except OSError as exc:
            raise BootError(f"cannot listen on TCP {host} port {port}: {exc.strerror}") from exc
        share_port(listener)
        undo.pop_all()
    return listener
