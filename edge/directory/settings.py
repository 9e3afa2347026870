"""What a process needs to know to use the directory."""

from attrs import field, frozen

from edge.directory.signing import Secret
from edge.redis.settings import RedisSettings

ENTRY_TIME = 10.0
"""Seconds that a host's entry is good for."""
HEARTBEAT = 3.0
"""Seconds between two writings of it."""
READ_INTERVAL = 4.0
"""Seconds between two readings of all entries."""


@frozen
class DirectorySettings:
    redis: RedisSettings
    prefix: str
    """What the names of all our keys in Redis begin with."""
    secrets: tuple[Secret, ...] = field(repr=False)
    """What our values are signed with: the first one signs, all are believed."""
    flow_lifetime: float
    """Seconds that a flow is remembered without being renewed."""

    @property
    def flows_place(self) -> bytes:
        return f"{self.prefix}flow:".encode()

    @property
    def hosts_place(self) -> bytes:
        return f"{self.prefix}hosts".encode()
