"""What is told of Redis: each relay worker's connection, and the host's registration."""

from edge.control.statistics import RedisCounts
from edge.control.status import RegistrationStatus
from edge.metrics.figure import Figure, Kind, known

FLOW_EVENTS = ("flow-written", "flow-removed", "flow-renewed", "redis-hit", "redis-miss")
"""What becomes of flows when all is well."""

_UP = "up"

FIGURES: tuple[Figure[RedisCounts], ...] = (
    Figure(
        "edge_redis_up",
        Kind.GAUGE,
        "1 while a relay worker is connected to the master.",
        lambda redis: int(redis.state == _UP),
    ),
    Figure(
        "edge_redis_connections",
        Kind.COUNTER,
        "Connections that were made.",
        lambda redis: redis.connected,
    ),
    Figure(
        "edge_redis_failures",
        Kind.COUNTER,
        "Connections that were lost, and attempts that failed.",
        lambda redis: redis.lost,
        "reason",
    ),
    Figure(
        "edge_redis_pending_commands",
        Kind.GAUGE,
        "Commands without a reply.",
        lambda redis: redis.pending,
    ),
    Figure(
        "edge_redis_events",
        Kind.COUNTER,
        "Flows asked for, written and removed, and what was not done.",
        lambda redis: known(redis.events, FLOW_EVENTS),
        "event",
    ),
    Figure(
        "edge_redis_hosts",
        Kind.GAUGE,
        "Hosts of the fleet that a relay worker finds registered.",
        lambda redis: redis.hosts,
    ),
    Figure(
        "edge_redis_distrusted_registrations",
        Kind.COUNTER,
        "Registrations of hosts that were not believed.",
        lambda redis: redis.distrusted,
        "reason",
    ),
)

REGISTRATION: tuple[Figure[RegistrationStatus], ...] = (
    Figure(
        "edge_registered",
        Kind.GAUGE,
        "1 while the host can tell the others in Redis where it is.",
        lambda told: int(told.state == _UP and not told.refused),
    ),
    Figure(
        "edge_registration_writes",
        Kind.COUNTER,
        "How often the host has written its entry.",
        lambda told: told.written,
    ),
    Figure(
        "edge_registration_conflicts",
        Kind.COUNTER,
        "How often another host was found registered under this one's number.",
        lambda told: told.contested,
    ),
)
