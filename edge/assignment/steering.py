"""How a worker tells whose a request is, and which cluster and relays are for whom."""

from pathlib import Path

from edge.assignment.fleet import fleet_map
from edge.config import Config
from edge.fleet.guidance import fleet_steering
from edge.steering.choice import Rule, Steering
from edge.steering.forwarded import AddressHeader, TrustedProxies
from edge.steering.settings import VisitorSettings
from edge.steering.visitor import LocationHeaders


def steering_settings(config: Config) -> Steering | None:
    """Return how clients are steered; None if this host is alone."""
    fleet, table = fleet_map(config), config.steering
    if fleet is None:
        return None
    ids = {name: cluster.id for name, cluster in config.clusters.items()}
    rules = tuple(
        Rule(ids[each.cluster], each.country, each.prefix.network if each.prefix else None)
        for each in table.rules
    )
    return fleet_steering(
        fleet,
        rules=rules,
        default=ids[table.default_cluster] if table.default_cluster is not None else None,
        second_relay=table.second_relay,
        redirects=config.fleet.steering == "redirect",
    )


def visitor_settings(config: Config) -> VisitorSettings:
    networks = tuple(each.network for each in config.signal.trusted_proxies)
    database = config.steering.database
    return VisitorSettings(
        TrustedProxies(networks, AddressHeader(config.signal.address_header)),
        LocationHeaders(config.steering.location_headers),
        Path(database) if database is not None else None,
    )
