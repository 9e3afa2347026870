"""Client addresses as the kernel writes them: the 28 bytes that name a flow.

``recvmmsg`` puts a ``sockaddr_in`` (16 bytes, the rest stays zero) or a ``sockaddr_in6`` (28 bytes)
in front of each row, so these bytes are a flow's key on the relay and travel unchanged to the
transceiver and back into ``sendmmsg``. Linux layout; the family is in host order.

| bytes | sockaddr_in | sockaddr_in6 |
| --- | --- | --- |
| 0..1 | family 2 | family 10 |
| 2..3 | port, network order | port, network order |
| 4..7 | address | flow information, always 0 on receive |
| 8..23 | zero | address |
| 24..27 | zero | scope id, host order |
"""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from edge.errors import FrameError

SOCKADDR_BYTES = 28
AF_INET = 2
AF_INET6 = 10

_FAMILY = struct.Struct("=H")
_V4 = struct.Struct("=H2s4s20x")
_V6 = struct.Struct("=H2sI16sI")


def encode_sockaddr(host: str, port: int) -> bytes:
    """Return the 28 bytes for a numeric address. An IPv6 zone must be a numeric scope id."""
    address = ip_address(host)
    wire_port = port.to_bytes(2, "big")
    if isinstance(address, IPv4Address):
        return _V4.pack(AF_INET, wire_port, address.packed)
    scope = int(address.scope_id) if address.scope_id else 0
    return _V6.pack(AF_INET6, wire_port, 0, address.packed, scope)


def decode_sockaddr(raw: bytes) -> tuple[str, int]:
    """Return (host, port) of 28 bytes as the kernel wrote them.

    A v4-mapped IPv6 address comes back as the IPv4 address it stands for.

    Raises:
        FrameError: wrong size or an address family that is neither IPv4 nor IPv6.

    """
    if len(raw) != SOCKADDR_BYTES:
        raise FrameError("bad-sockaddr", f"a sockaddr has {SOCKADDR_BYTES} bytes, not {len(raw)}")
    family: int = _FAMILY.unpack_from(raw)[0]
    if family == AF_INET:
        _, wire_port, packed = _V4.unpack(raw)
        return str(IPv4Address(packed)), int.from_bytes(wire_port, "big")
    if family != AF_INET6:
        raise FrameError("bad-sockaddr", f"address family {family}")
    _, wire_port, _, packed, scope = _V6.unpack(raw)
    address = IPv6Address(packed)
    port = int.from_bytes(wire_port, "big")
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped), port
    return (f"{address}%{scope}" if scope else str(address)), port
