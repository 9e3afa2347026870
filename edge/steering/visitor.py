"""Who a request comes from: the client's address and position, as far as they can be known."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

from attrs import evolve, field, frozen

from edge.steering.forwarded import TrustedProxies, parse_address
from edge.steering.position import Position, position

LATITUDE, LONGITUDE, COUNTRY = b"cf-iplatitude", b"cf-iplongitude", b"cf-ipcountry"
"""Cloudflare's visitor location headers."""

STEERED = "steered=1"
"""In the query of a URL that a client was redirected to."""

_COUNTRY = re.compile(r"[A-Z][A-Z]")
_NOWHERE = frozenset({"XX"})
"""What Cloudflare says of addresses that it cannot place."""


class LocationHeaders(StrEnum):
    """Whose headers tell where a client is."""

    OFF = "off"
    CLOUDFLARE = "cloudflare"


@frozen
class Whereabouts:
    """Where a client is."""

    position: Position | None = None
    country: str | None = None
    """ISO 3166-1, two capital letters."""


@frozen
class Visitor:
    """Who a request comes from."""

    address: str
    """The client's numeric address."""
    whereabouts: Whereabouts = field(factory=Whereabouts)
    proxied: bool = False
    """Whether a trusted proxy's connection carries the request."""
    steered: bool = False
    """It was sent here by another cluster, and is not to be sent on."""


class Head(Protocol):
    """What is needed of a request's head."""

    @property
    def query(self) -> str:
        """Of its target, not percent-decoded."""

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, in order. Names are in lower case."""


class Visitors:
    """Tells who requests come from. ``find`` looks an address up in a database."""

    def __init__(
        self,
        proxies: TrustedProxies,
        location_headers: LocationHeaders = LocationHeaders.OFF,
        find: Callable[[str], Whereabouts] | None = None,
    ) -> None:
        self._proxies = proxies
        self._header = proxies.header.encode()
        self._location_headers = location_headers
        self._find = find
        self.drops: Counter[str] = Counter()
        """What trusted proxies said that makes no sense, by reason."""

    def is_proxy(self, peer: str) -> bool:
        """Return whether a connection from there carries the requests of others."""
        address = parse_address(peer)
        return address is not None and self._proxies.trusts(address)

    def of(self, head: Head, peer: str) -> Visitor:
        """Return who a request is from that came over a connection from ``peer``."""
        steered = STEERED in head.query.split("&")
        address = parse_address(peer)
        if address is None or not self._proxies.trusts(address):
            return self._place(Visitor(peer, steered=steered))
        client, clean = self._proxies.client(address, _texts(head, self._header))
        if not clean:
            self.drops["forwarded-malformed"] += 1
        told = self._told(head)
        return self._place(Visitor(str(client), told, proxied=True, steered=steered))

    def _told(self, head: Head) -> Whereabouts:
        """Return what the headers say of where the client is."""
        if self._location_headers is LocationHeaders.OFF:
            return Whereabouts()
        north, east, land = (_texts(head, name) for name in (LATITUDE, LONGITUDE, COUNTRY))
        country = land[0] if len(land) == 1 and _COUNTRY.fullmatch(land[0]) else None
        place = position(north[0], east[0]) if len(north) == len(east) == 1 else None
        if (place is None and (north or east)) or (country is None and land and land != ["T1"]):
            self.drops["location-malformed"] += 1
        return Whereabouts(place, None if country in _NOWHERE else country)

    def _place(self, visitor: Visitor) -> Visitor:
        """Look up what the headers have not said."""
        told = visitor.whereabouts
        if self._find is None or (told.position is not None and told.country is not None):
            return visitor
        found = self._find(visitor.address)
        place = told.position or found.position
        return evolve(visitor, whereabouts=Whereabouts(place, told.country or found.country))


def _texts(head: Head, name: bytes) -> Sequence[str]:
    return [value.decode("latin-1").strip(" \t") for value in head.values(name)]
