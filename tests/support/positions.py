"""Makes small databases of positions in MaxMind's format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmdb_writer
from netaddr import IPSet


def place_record(country: str, latitude: float, longitude: float) -> dict[str, Any]:
    """Return an entry as GeoLite2 City has it."""
    return {
        "country": {"iso_code": country, "names": {"en": country}},
        "location": {"latitude": latitude, "longitude": longitude, "accuracy_radius": 100},
    }


FRANKFURT = place_record("DE", 50.11, 8.68)
NEW_YORK = place_record("US", 40.71, -74.01)


def write_positions(path: Path, entries: Mapping[str, Any], ip_version: int = 6) -> None:
    """Write a database with an entry per prefix."""
    writer = mmdb_writer.MMDBWriter(ip_version, "GeoLite2-City", ipv4_compatible=ip_version == 6)
    for prefix, entry in entries.items():
        writer.insert_network(IPSet([prefix]), entry)
    writer.to_db_file(str(path))
