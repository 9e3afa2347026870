"""What a worker needs to know to tell who its visitors are."""

from pathlib import Path

from attrs import frozen

from edge.steering.forwarded import TrustedProxies
from edge.steering.visitor import LocationHeaders


@frozen
class VisitorSettings:
    """Who is believed about where clients are."""

    proxies: TrustedProxies = TrustedProxies()  # noqa: RUF009 - it is frozen
    location_headers: LocationHeaders = LocationHeaders.OFF
    database: Path | None = None
    """In MaxMind's format. None: positions are not looked up."""
