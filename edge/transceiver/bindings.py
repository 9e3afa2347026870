"""Which session a client's packets belong to, and the way back to the client.

A row belongs to the session whose ufrag a Binding request names, or else to the session that its
client address is bound to. An address is bound when a session has authenticated a check from it,
and stays with that session as long as the session holds it valid: another session cannot take it
over, whatever valid check is sent from it.

The way back to an address of this host is its public socket, or the relay worker that has the TCP
connection. Clients behind another host's relay have a ``Way`` of the trunk. Which relay has such an
address, or one of our own, may change under a call: the way back to a bound address is the one by
which the latest authentic packet came from there, a check or media.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from attrs import frozen

from edge.errors import FrameError
from edge.machine import Address
from edge.routing import frames
from edge.routing.peek import is_binding_request
from edge.routing.sockaddr import decode_sockaddr, encode_sockaddr
from edge.transceiver.driven import Driven
from edge.transceiver.relays import Relays
from edge.transceiver.ufrags import Ufrags
from edge.trunk.answering import TransceiverTrunk, Way

BINDINGS_MAX = 32
"""Addresses bound to one session; the agent's own table is smaller."""


@frozen
class _Binding:
    driven: Driven
    address: Address


class Bindings:
    """The clients of all sessions of a worker. ``drops`` counts rows that are nobody's."""

    def __init__(
        self, ufrags: Ufrags, relays: Relays, trunk: TransceiverTrunk | None, drops: Counter[str]
    ) -> None:
        self._ufrags = ufrags
        self._relays = relays
        self._trunk = trunk
        self._drops = drops
        self._tables: defaultdict[int, dict[bytes, _Binding]] = defaultdict(dict)
        """By public socket, TCP clients' relay or entrance of other hosts; then by client."""
        self.arrival: tuple[int, Way] | None = None
        """The entrance and the way of the present frame, if it came from another host."""
        self.unbound: dict[bytes, None] = {}
        """Clients of the present frame that a relay takes for ours, and that are not."""
        self.ways_turned = 0
        """How often a bound address was found behind another relay than before."""

    def find(self, public_socket: int, row: frames.Row) -> tuple[Driven, Address] | None:
        """Return whose packet a row is, and the address it came from; count it if nobody's."""
        payload = row.payload
        binding = self._tables[public_socket].get(row.client)
        if payload and payload[0] <= 3 and is_binding_request(payload):
            return self._find_by_ufrag(public_socket, row, binding)
        if binding is None:
            self._drops["unbound-address"] += 1
            self.unbound[row.client] = None
            return None
        return binding.driven, binding.address

    def way_of(self, public_socket: int) -> Way | None:
        """Return the way to an address that nothing is known of; None: this host's own."""
        if self.arrival is not None and self.arrival[0] == public_socket:
            return self.arrival[1]
        if public_socket < frames.SOCKETS_MAX or self._trunk is None:
            return None
        return self._trunk.latest(public_socket)

    def turn(self, driven: Driven, address: Address, way: Way | None) -> None:
        """Use another way back to an address: something authentic came from there by it."""
        if address not in driven.addresses:
            return
        if way is None:
            del driven.ways[address]
        else:
            driven.ways[address] = way
        self.ways_turned += 1

    def bind(self, driven: Driven, address: Address) -> None:
        """A session has authenticated a check from an address: it has it, if it is free."""
        table = self._tables[address.socket]
        client = encode_sockaddr(address.host, address.port)
        held = table.get(client)
        if held is not None and held.driven is not driven:
            if held.driven.session.valid(address):
                self._drops["address-conflict"] += 1
                return
            del held.driven.addresses[address]
            held.driven.ways.pop(address, None)
        if len(driven.addresses) >= BINDINGS_MAX:
            oldest = next(iter(driven.addresses))
            evicted = driven.addresses.pop(oldest)
            del self._tables[oldest.socket][evicted]
            self._relays.release(oldest.socket, driven.ways.pop(oldest, None), [evicted])
        table[client] = _Binding(driven, address)
        driven.addresses[address] = client
        way = self.way_of(address.socket)
        if way is not None:
            driven.ways[address] = way

    def confirmed(
        self, public_socket: int, asked: Iterable[tuple[bytes, Driven, Address]]
    ) -> list[bytes]:
        """Return the clients that have authenticated, of those a relay has asked about.

        One that did so while its address was another session's is bound now if that one has left.
        """
        table = self._tables[public_socket]
        clients: list[bytes] = []
        for client, driven, address in asked:
            binding = table.get(client)
            free = binding is None or not binding.driven.session.valid(address)
            if free and driven.session.valid(address):
                self.bind(driven, address)
                binding = table.get(client)
            if binding is not None and binding.driven is driven:
                clients.append(client)
        return clients

    def unbind(
        self, public_socket: int, client: bytes, way: Way | None
    ) -> tuple[Driven, Address] | None:
        """Take an address that is reached by that way from its session; return both."""
        table = self._tables[public_socket]
        binding = table.get(client)
        if binding is None or binding.driven.ways.get(binding.address) is not way:
            return None
        driven, address = binding.driven, binding.address
        del table[client], driven.addresses[address]
        driven.ways.pop(address, None)
        return driven, address

    def remove(self, driven: Driven) -> None:
        """A session has ended: release all its addresses."""
        released: defaultdict[tuple[int, Way | None], list[bytes]] = defaultdict(list)
        for address, client in driven.addresses.items():
            del self._tables[address.socket][client]
            released[address.socket, driven.ways.get(address)].append(client)
        driven.addresses.clear()
        driven.ways.clear()
        for (public_socket, way), clients in released.items():
            self._relays.release(public_socket, way, clients)

    def _find_by_ufrag(
        self, public_socket: int, row: frames.Row, binding: _Binding | None
    ) -> tuple[Driven, Address] | None:
        driven = self._ufrags.find(row.payload)
        if driven is None:
            return None
        if binding is not None and binding.driven is driven:
            return driven, binding.address
        try:
            host, port = decode_sockaddr(row.client)
        except FrameError as exc:
            self._drops[exc.reason] += 1
            return None
        return driven, Address(host, port, public_socket)
