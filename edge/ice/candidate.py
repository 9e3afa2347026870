"""The host candidates that a lite agent offers: its public addresses (RFC 8445 §5.2).

Those for UDP come first. One for TCP is passive: the client connects (RFC 6544 §4.1). Its priority
is below that of every candidate for UDP, because a lost segment holds up all sound behind it.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from attrs import frozen

from edge.errors import LocalProtocolError

COMPONENT = 1
"""RTP and RTCP share it: rtcp-mux is always on."""
HOST_TYPE_PREFERENCE = 126
TCP_HOST_TYPE_PREFERENCE = 90
"""RFC 6544 §4.2 leaves the value open; this is libwebrtc's."""
LOCAL_PREFERENCE_MAX = 65535

_PASSIVE_DIRECTION_PREFERENCE = 4
_OTHER_PREFERENCE_MAX = 8191


@frozen
class Candidate:
    """One host candidate of component 1."""

    foundation: str
    priority: int
    host: str
    """Numeric IPv4 or IPv6 address in its canonical text form."""
    port: int
    tcp: bool = False
    """Passive, for TCP; otherwise for UDP."""


def host_candidates(
    udp: Iterable[tuple[str, int]], tcp: Iterable[tuple[str, int]] = ()
) -> tuple[Candidate, ...]:
    """Make one candidate per (numeric host, port), most wanted first.

    The order of the lists becomes the order of the priorities. Each has a foundation of its own,
    since foundations differ with the base's IP address and the transport (RFC 8445 §5.1.1.3).

    Raises:
        LocalProtocolError: an address that no peer could reach, or two of one transport with one
            IP address (RFC 8445 §5.2 allows a lite agent one each).

    """
    candidates: list[Candidate] = []
    for index, (host, port) in enumerate(_checked(udp)):
        priority = candidate_priority(HOST_TYPE_PREFERENCE, LOCAL_PREFERENCE_MAX - index)
        candidates.append(Candidate(str(len(candidates) + 1), priority, host, port))
    for index, (host, port) in enumerate(_checked(tcp)):
        preference = (_PASSIVE_DIRECTION_PREFERENCE << 13) + _OTHER_PREFERENCE_MAX - index
        priority = candidate_priority(TCP_HOST_TYPE_PREFERENCE, preference)
        candidates.append(Candidate(str(len(candidates) + 1), priority, host, port, tcp=True))
    return tuple(candidates)


def candidate_priority(type_preference: int, local_preference: int) -> int:
    """Return the priority of a candidate (RFC 8445 §5.1.2.1, RFC 6544 §4.2)."""
    return (type_preference << 24) + (local_preference << 8) + (256 - COMPONENT)


def encode_candidate(candidate: Candidate) -> str:
    """Return the SDP attribute line, ``a=`` included, without its line end.

    RFC 8839 §5.1; for TCP RFC 6544 §4.5.
    """
    transport, extension = ("tcp", " tcptype passive") if candidate.tcp else ("udp", "")
    return (
        f"a=candidate:{candidate.foundation} {COMPONENT} {transport} {candidate.priority}"
        f" {candidate.host} {candidate.port} typ host{extension}"
    )


def _checked(addresses: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    hosts: set[str] = set()
    for text, port in addresses:
        host = _canonical(text)
        if host in hosts:
            raise LocalProtocolError(f"two candidates for {host}")
        if not 0 < port <= 65535:
            raise LocalProtocolError(f"no port: {port}")
        hosts.add(host)
        yield host, port


def _canonical(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as exc:
        raise LocalProtocolError(f"not a numeric IP address: {text}") from exc
    if isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped is not None or address.scope_id is not None
    ):
        raise LocalProtocolError(f"v4-mapped and scoped addresses are no candidates: {text}")
    if address.is_unspecified or address.is_multicast:
        raise LocalProtocolError(f"no peer can send to {text}")
    return str(address)
