"""Packets of transceivers elsewhere, out of a public socket of this host.

A transceiver of another host cannot send on it. What it has for a client comes by the trunk, and
goes out only if the client's flow here is that transceiver's own.
"""

import socket
from collections import Counter
from collections.abc import Sequence

from edge.routing.flows import FlowTable
from edge.routing.frames import Row
from edge.udp import SendBatch


class Delivery:
    """One public socket's. ``drops`` counts what is for clients who are not the sender's."""

    def __init__(self, public: socket.socket, table: FlowTable, drops: Counter[str]) -> None:
        self._out = SendBatch(public.fileno(), public.family)
        self._flows = table
        self._drops = drops
        self.packets = 0
        """Delivered so far."""

    @property
    def send_drops(self) -> Counter[str]:
        """What the socket did not take, by reason."""
        return self._out.drops

    def deliver(self, rows: Sequence[Row], owner: int) -> None:
        """Queue what the owner of clients' flows has for them."""
        find, add = self._flows.find, self._out.add
        for client, _, payload in rows:
            if find(client) == owner:
                add(payload, client)
                self.packets += 1
            else:
                self._drops["deliver-unknown-flow"] += 1

    def flush(self) -> None:
        """Send what is queued."""
        self._out.flush()
