"""The host candidates that a lite agent offers: its public addresses (RFC 8445 §5.2)."""

import ipaddress
from collections.abc import Iterable

from attrs import frozen

from edge.errors import LocalProtocolError

COMPONENT = 1
"""RTP and RTCP share it: rtcp-mux is always on."""
HOST_TYPE_PREFERENCE = 126
LOCAL_PREFERENCE_MAX = 65535


@frozen
class Candidate:
    """One UDP host candidate of component 1."""

    foundation: str
    priority: int
    host: str
    """Numeric IPv4 or IPv6 address in its canonical text form."""
    port: int


def host_candidates(addresses: Iterable[tuple[str, int]]) -> tuple[Candidate, ...]:
    """Make one candidate per (numeric host, port), most wanted first.

    The order of the list becomes the order of the priorities. Each has a foundation of its own,
    since foundations differ with the base's IP address (RFC 8445 §5.1.1.3).

    Raises:
        LocalProtocolError: an address that no peer could reach, or two with one IP address
            (RFC 8445 §5.2 allows a lite agent one each).

    """
    candidates: dict[str, Candidate] = {}
    for index, (text, port) in enumerate(addresses):
        host = _canonical(text)
        if host in candidates:
            raise LocalProtocolError(f"two candidates for {host}")
        if not 0 < port <= 65535:
            raise LocalProtocolError(f"no UDP port: {port}")
        preference = LOCAL_PREFERENCE_MAX - index
        candidates[host] = Candidate(str(index + 1), candidate_priority(preference), host, port)
    return tuple(candidates.values())


def candidate_priority(local_preference: int) -> int:
    """Return the priority of a host candidate (RFC 8445 §5.1.2.1)."""
    return (HOST_TYPE_PREFERENCE << 24) + (local_preference << 8) + (256 - COMPONENT)


def encode_candidate(candidate: Candidate) -> str:
    """Return the SDP attribute line, ``a=`` included, without its line end (RFC 8839 §5.1)."""
    return (
        f"a=candidate:{candidate.foundation} {COMPONENT} udp {candidate.priority}"
        f" {candidate.host} {candidate.port} typ host"
    )


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
