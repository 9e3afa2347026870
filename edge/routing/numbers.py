"""The numbers of transceiver workers: a slot on a host, and a host in a cluster, in 16 bits.

A worker keeps its slot for its life, also when it is started again after a crash. A new generation
of workers takes free slots; a slot is free again when its worker has ended for good.

| bits | content |
| --- | --- |
| 15..8 | host, 0..255 |
| 7..0 | slot, 0..63 |
"""

from edge.errors import LocalProtocolError

SLOTS_MAX = 64
"""Transceiver workers that a host can have at once, those that only end their calls included."""
HOSTS_MAX = 256
"""Hosts with transceivers in one cluster."""


def transceiver_number(host: int, slot: int) -> int:
    """Return the number of a transceiver worker, as ufrags and session ids have it.

    Raises:
        LocalProtocolError: there is no such host or slot.

    """
    if not (0 <= host < HOSTS_MAX and 0 <= slot < SLOTS_MAX):
        raise LocalProtocolError(f"no transceiver number for host {host}, slot {slot}")
    return host << 8 | slot


def split_number(number: int) -> tuple[int, int]:
    """Return (host, slot) of a 16-bit number. The slot may be one that no worker can have."""
    return number >> 8, number & 0xFF
