"""The table ``[steering]``: which cluster and which relays a client is given; and proxies."""

import re
from collections.abc import Collection, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, Self

from edge.config.clusters import FleetName
from edge.config.table import Problem, Table
from edge.config.values import AbsolutePath


class IpPrefix(str):
    """An IPv4 or IPv6 prefix; an address alone is a prefix of its full length."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            network = ip_network(text)
        except ValueError as exc:
            raise ValueError(f'{text!r} is not like "10.0.0.0/8" or "2001:db8::/32"') from exc
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
            raise ValueError(f"{text!r} is IPv4 in disguise; write it as IPv4")
        return cls(network)

    @property
    def network(self) -> IPv4Network | IPv6Network:
        return ip_network(self)


class CountryCode(str):
    """A country as ISO 3166-1 has it."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[A-Z]{2}", text):
            raise ValueError(f'{text!r} is not a country code like "DE"')
        return cls(text)


class SteeringRule(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cluster: FleetName
    country: CountryCode | None = None
    prefix: IpPrefix | None = None

    def problems(self) -> Iterator[Problem]:
        if self.country is None and self.prefix is None:
            yield Problem(("cluster",), "a rule needs a country or a prefix, or both")


class SteeringConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    location_headers: Literal["off", "cloudflare"] = "off"
    database: AbsolutePath | None = None
    default_cluster: FleetName | None = None
    second_relay: bool = False
    rules: tuple[SteeringRule, ...] = ()

    def cross_problems(
        self, clusters: Collection[FleetName], *, behind_proxies: bool
    ) -> Iterator[Problem]:
        """Check what depends on other tables. Paths are relative to this one."""
        known = ", ".join(clusters) or "none"
        if self.default_cluster is not None and self.default_cluster not in clusters:
            text = f'there is no cluster "{self.default_cluster}" (clusters: {known})'
            yield Problem(("default_cluster",), text)
        for index, rule in enumerate(self.rules):
            if rule.cluster not in clusters:
                text = f'there is no cluster "{rule.cluster}" (clusters: {known})'
                yield Problem(("rules", index, "cluster"), text)
        if self.location_headers != "off" and not behind_proxies:
            text = "nobody's headers are believed: signal.trusted_proxies is empty"
            yield Problem(("location_headers",), text)
