"""How this host uses Redis, and what it registers there."""

from collections.abc import Sequence

from edge.assignment.fleet import fleet_map
from edge.config import Config
from edge.directory.host_entry import HostName
from edge.directory.registering import Registration
from edge.directory.settings import DirectorySettings
from edge.fleet.map import FleetKey
from edge.keys import KeySet
from edge.redis.settings import RedisSettings, RedisTls
from edge.routing.ufrag import RoutingKey


def directory_settings(config: Config, keys: KeySet) -> DirectorySettings | None:
    """Return how to use Redis; None if there is none.

    What is kept there is signed with the fleet's keys. A host that is alone has its routing keys.
    """
    redis = config.redis
    if not redis.addresses:
        return None
    in_fleet = config.fleet.host is not None
    secrets: Sequence[FleetKey | RoutingKey] = keys.fleet if in_fleet else keys.routing
    return DirectorySettings(
        RedisSettings(
            tuple((each.host, each.port) for each in redis.addresses),
            sentinel=_text(redis.sentinel),
            user=_text(redis.user),
            password=redis.password.reveal() if redis.password is not None else None,
            sentinel_password=(
                redis.sentinel_password.reveal() if redis.sentinel_password is not None else None
            ),
            tls=RedisTls(_text(redis.ca_file), _text(redis.server_name)) if redis.tls else None,
            database=redis.database,
            connect_timeout=redis.connect_timeout,
            command_timeout=redis.command_timeout,
        ),
        prefix=str(redis.prefix),
        secrets=tuple((each.id, each.key) for each in secrets),
        flow_lifetime=redis.flow_lifetime,
    )


def registration(config: Config) -> Registration | None:
    """Return what a host of a fleet registers of itself; None if it has no transceivers."""
    fleet = fleet_map(config)
    if fleet is None or fleet.cluster_id is None:
        return None
    name = HostName(fleet.cluster_id, fleet.here.number)
    return Registration(name, fleet.here.internal, fleet.frame_port)


def _text(value: str | None) -> str | None:
    return None if value is None else str(value)
