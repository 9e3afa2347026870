"""Sends what the sessions of a worker have for their clients, in batches.

Datagrams go out on the host's public sockets. Clients that come over TCP are reached through the
relay worker that has their connection: it takes the place of a public socket. Clients behind relays
of other hosts are reached by the trunk (edge/trunk/).
"""

import socket
from collections import Counter
from collections.abc import Sequence

from edge.machine import Address
from edge.routing.sockaddr import encode_sockaddr
from edge.transceiver.bindings import Bindings
from edge.transceiver.driven import Driven
from edge.transceiver.returning import StreamBatch
from edge.trunk.answering import TransceiverTrunk
from edge.udp import SendBatch


class Sender:
    """``bindings`` tells the way to clients that no session is bound to yet."""

    def __init__(
        self,
        public: Sequence[socket.socket],
        internal: socket.socket,
        bindings: Bindings,
        trunk: TransceiverTrunk | None,
    ) -> None:
        self._internal = internal
        self._bindings = bindings
        self._trunk = trunk
        self._to_sockets = [SendBatch(one.fileno(), one.family) for one in public]
        self._to_relays: list[StreamBatch] = []
        self._batches: list[SendBatch | StreamBatch] = [*self._to_sockets]
        """By index of the public socket; behind them the relays, for their TCP clients."""
        self.packets = 0
        self.bytes = 0

    def use_relays(self, places: Sequence[tuple[str, int]]) -> None:
        """Reach TCP clients at these relays, by their indices. None is ever forgotten."""
        for batch, place in zip(self._to_relays, places, strict=False):
            batch.relay = place
        for place in places[len(self._to_relays) :]:
            batch = StreamBatch(self._internal, place, len(self._batches))
            self._to_relays.append(batch)
            self._batches.append(batch)

    def send(self, driven: Driven, payload: bytes, destination: Address) -> None:
        """Queue one packet of a session."""
        client = driven.addresses.get(destination)
        if client is None:
            client = encode_sockaddr(destination.host, destination.port)
            way = self._bindings.way_of(destination.socket)
        else:
            way = driven.ways.get(destination) if driven.ways else None
        (way or self._batches[destination.socket]).add(payload, client)
        self.packets += 1
        self.bytes += len(payload)

    def flush(self) -> None:
        """Send all that is queued."""
        for batch in self._batches:
            batch.flush()
        if self._trunk is not None:
            self._trunk.flush()

    def add_drops(self, total: Counter[str]) -> None:
        """Add what was not sent, or not taken from the trunk, by reason."""
        for batch in self._batches:
            total.update(batch.drops)
        if self._trunk is not None:
            total.update(self._trunk.all_drops())
