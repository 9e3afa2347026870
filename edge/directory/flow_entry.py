"""A confirmed flow as it stands in Redis: where a client's packets have to go.

Its name is a keyed hash of the client's address and the public address that its packets come to: a
relay that gets that public address later finds the flow by what it sees.

Body, big-endian:

| bytes | content |
| --- | --- |
| 0 | version 1 |
| 1..2 | cluster |
| 3..4 | transceiver number |
| 5..8 | when it was written, unix seconds |
"""

import struct
from typing import NamedTuple

from edge.directory.signing import SIGNED_BYTES, Signer
from edge.errors import StoreError

CLOCK_SKEW = 5.0
"""How far the clocks of hosts may be apart."""

_BODY = struct.Struct(">BHHI")
_VERSION = 1

FLOW_BYTES = SIGNED_BYTES + _BODY.size
"""Of a flow's value."""


class Owner(NamedTuple):
    """Which transceiver worker, anywhere in the fleet."""

    cluster: int
    number: int
    """As in ufrags: host and slot (edge/routing/numbers.py)."""


def flow_subject(client: bytes, public: tuple[str, int]) -> bytes:
    """Return what a flow's name is made of. ``client``: 28 bytes, ``public``: the relay address."""
    host, port = public
    return client + f"{host} {port}".encode()


def encode_flow(signer: Signer, name: bytes, owner: Owner, now: float) -> bytes:
    """Return the value of a flow. ``now``: unix seconds."""
    return signer.sign(name, _BODY.pack(_VERSION, owner.cluster, owner.number, int(now)))


def decode_flow(signer: Signer, name: bytes, value: object, lifetime: float, now: float) -> Owner:
    """Return the owner that a value names. ``now``: unix seconds.

    Raises:
        StoreError: not a value of ours, not for this flow, or too old.

    """
    if not isinstance(value, bytes):
        raise StoreError("entry-malformed")
    body = signer.open(name, value)
    if len(body) != _BODY.size or body[0] != _VERSION:
        raise StoreError("entry-malformed")
    _, cluster, number, written_at = _BODY.unpack(body)
    if not -CLOCK_SKEW <= now - written_at <= lifetime + CLOCK_SKEW:
        raise StoreError("entry-stale")
    return Owner(cluster, number)
