"""The client's address behind proxies, from what they say of it.

A header is as good as whoever wrote it. Each proxy appends the address that it was reached from, so
the list is walked from its right end: as long as an address is that of a trusted proxy, the one
before it was written by that proxy. The first that is not trusted is the client. What stands left
of it came from the client itself, and is never looked at. One header alone is read, the one that
the operator names: a proxy passes on the others as the client sent them.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from attrs import field, frozen

HOPS_MAX = 16
"""Proxies in a row. What has more is as bad as garbage."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class AddressHeader(StrEnum):
    """Which header the trusted proxies write."""

    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"
    """RFC 7239."""
    CF_CONNECTING_IP = "cf-connecting-ip"
    """Cloudflare's: one address, the client's."""


@frozen
class TrustedProxies:
    """Who may say where a request comes from, and where he says it."""

    networks: tuple[Network, ...] = ()
    header: AddressHeader = field(default=AddressHeader.X_FORWARDED_FOR, converter=AddressHeader)

    def trusts(self, address: Address) -> bool:
        """Return whether it is a trusted proxy's."""
        return any(
            address.version == network.version and address in network for network in self.networks
        )

    def client(self, peer: Address, values: Sequence[str]) -> tuple[Address, bool]:
        """Return the client's address, and whether all that was read made sense.

        ``peer`` is the connection's other end, and trusted; ``values`` are the header's, line by
        line. Behind garbage of a trusted proxy nothing is known: the proxy is taken for the client.
        """
        if self.header is AddressHeader.CF_CONNECTING_IP:
            found = parse_node(values[0]) if len(values) == 1 else None
            return (peer, not values) if found is None else (found, True)
        client = peer
        for hops, node in enumerate(self._nodes(values)):
            found = None if node is None or hops >= HOPS_MAX else parse_node(node)
            if found is None:
                return client, False
            client = found
            if not self.trusts(client):
                break
        return client, True

    def _nodes(self, values: Sequence[str]) -> Iterator[str | None]:
        """Yield the hops from the right, None for one that says nothing."""
        for line in reversed(values):
            if self.header is AddressHeader.FORWARDED:
                yield from map(_for_parameter, _elements(line))
            else:
                yield from reversed(line.rsplit(",", HOPS_MAX + 1))


def parse_address(text: str) -> Address | None:
    """Return a numeric address, IPv4 if it is a mapped one; None if it is no such, or scoped."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def parse_node(text: str) -> Address | None:
    """Return the address of a node (RFC 7239 section 6), with or without brackets and port.

    None for ``unknown``, for obfuscated names and for garbage.
    """
    node = text.strip(" \t")
    if node.startswith("["):
        node, closed, port = node[1:].partition("]")
        return parse_address(node) if closed and ":" in node and _is_port(port) else None
    if node.count(":") == 1:
        node, _, port = node.partition(":")
        return parse_address(node) if _is_port(f":{port}") else None
    return parse_address(node)


def _is_port(text: str) -> bool:
    """Whether it is what may follow an address. Ports may be obfuscated, too."""
    return not text or (text[0] == ":" and text[1:].replace("_", "").isalnum())


def _elements(line: str) -> Iterator[str]:
    """Yield the elements of a Forwarded line from the right.

    Commas within quotes do not part them. Quotes are counted from the right as well, so that an
    open quote of the client's swallows nothing that a proxy has appended.
    """
    element: list[str] = []
    for part in reversed(line.rsplit(",", HOPS_MAX + 1)):
        element.insert(0, part)
        if sum(piece.count('"') for piece in element) % 2 == 0:
            yield ",".join(element)
            element = []
    if element:
        yield ",".join(element)


def _for_parameter(element: str) -> str | None:
    """Return the value of the one ``for`` of an element."""
    found = [
        value.strip(" \t")
        for name, equals, value in (pair.partition("=") for pair in element.split(";"))
        if equals and name.strip(" \t").lower() == "for"
    ]
    if len(found) != 1:
        return None
    value = found[0]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
