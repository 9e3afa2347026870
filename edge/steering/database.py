"""Positions by address, from a database in MaxMind's format (GeoLite2 City and the like).

The file is mapped, not read: a look-up is a few microseconds, and every worker shares the pages. A
new database takes the place of the old one by ``rename``. One that is cut short in place takes the
worker with it (SIGBUS).
"""

from pathlib import Path
from typing import Any

import maxminddb

from edge.errors import ConfigError
from edge.steering.position import position
from edge.steering.visitor import Whereabouts

NOWHERE = Whereabouts()


class PositionDatabase:
    """A database that can be exchanged for its successor.

    Raises:
        ConfigError: the file is missing, unreadable or no such database.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _open(path)

    def find(self, address: str) -> Whereabouts:
        """Return where a numeric address is; nothing, if it is not listed or its entry is odd."""
        try:
            entry: Any = self._reader.get(address)
        except (ValueError, maxminddb.InvalidDatabaseError):
            return NOWHERE  # IPv6 in a database of IPv4, or a damaged entry
        location, country = _table(entry, "location"), _table(entry, "country")
        code = country.get("iso_code")
        return Whereabouts(
            position(location.get("latitude"), location.get("longitude")),
            code if isinstance(code, str) and len(code) == 2 else None,
        )

    def reload(self) -> None:
        """Read the file again. Raises ConfigError: the former database stays."""
        reader, self._reader = self._reader, _open(self._path)
        reader.close()

    def close(self) -> None:
        self._reader.close()


def _open(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(str(path))
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as exc:
        raise ConfigError(f"{path}: not a usable database of positions: {exc}") from exc


def _table(entry: Any, name: str) -> dict[str, Any]:
    found = entry.get(name) if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}
