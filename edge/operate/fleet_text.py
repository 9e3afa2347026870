"""What ``edge status`` says of the fleet: how much room its clusters have."""

from collections.abc import Iterator

from edge.control.status import ClusterStatus, Status


def fleet_section(status: Status) -> Iterator[str]:
    """Yield a line per cluster; nothing of a host that is alone."""
    for cluster in status.clusters:
        yield f"cluster    {cluster.name}: {_describe(cluster)}"


def _describe(cluster: ClusterStatus) -> str:
    hosts = f"{cluster.heard} of {cluster.hosts} hosts heard"
    if not cluster.heard:
        return hosts
    draining = f", {cluster.draining} draining" if cluster.draining else ""
    sessions = f"{cluster.sessions} of {cluster.sessions_max} sessions"
    return f"{hosts}{draining}, {sessions}, room for {cluster.room} now"
