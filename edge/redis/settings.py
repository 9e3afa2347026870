"""How to reach Redis."""

from attrs import field, frozen

Server = tuple[str, int]
"""Host (a name or an address) and port."""


@frozen
class RedisTls:
    ca_file: str | None = None
    """Authorities to trust; None: the system's."""
    server_name: str | None = None
    """What the server's certificate has to name; None: the host that is connected to."""


@frozen
class RedisSettings:
    """The ``repr`` shows no passwords."""

    servers: tuple[Server, ...]
    """Redis servers, one of which is the master; with ``sentinel`` the Sentinels instead."""
    sentinel: str | None = None
    """The name that Sentinels know the master by."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    tls: RedisTls | None = None
    database: int = 0
    connect_timeout: float = 2.0
    """Seconds from the name look-up to the first command, for one server."""
    command_timeout: float = 1.0
    """Seconds without a reply after which the connection counts as lost."""
