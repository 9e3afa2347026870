"""The fleet that this host is in, and which host of it this is."""

from edge.config import Config
from edge.fleet.map import Cluster, FleetMap, Member, Site


def fleet_map(config: Config) -> FleetMap | None:
    """Return the fleet that this host is in; None if it is alone."""
    fleet = config.fleet
    if fleet.host is None:
        return None
    sites = {
        name: Site(
            name=str(name),
            region=site.region,
            latitude=site.latitude,
            longitude=site.longitude,
            relays=tuple((str(each.host), each.port) for each in site.relays),
        )
        for name, site in config.sites.items()
    }
    clusters = {
        name: Cluster(
            id=cluster.id,
            name=str(name),
            site=sites[cluster.site],
            signaling=str(cluster.signaling) if cluster.signaling is not None else None,
        )
        for name, cluster in config.clusters.items()
    }
    members = {
        name: Member(
            name=str(name),
            site=sites[host.site],
            cluster=clusters[host.cluster] if host.cluster is not None else None,
            number=host.number,
            internal=str(host.internal),
        )
        for name, host in config.hosts.items()
    }
    return FleetMap(
        here=members[fleet.host],
        members=tuple(members.values()),
        clusters=tuple(clusters.values()),
        sites=tuple(sites.values()),
        frame_port=fleet.frame_port,
        relay_port=fleet.relay_port,
        control_port=fleet.control_port,
    )


def cluster_id(config: Config) -> int:
    """Return the cluster that ufrags of this host name."""
    fleet = fleet_map(config)
    if fleet is None or fleet.cluster_id is None:
        return config.supervisor.cluster
    return fleet.cluster_id


def host_number(config: Config) -> int:
    """Return the number of this host in its cluster; 0 if it is alone."""
    fleet = fleet_map(config)
    return 0 if fleet is None else fleet.here.number
