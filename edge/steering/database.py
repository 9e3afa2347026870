"""Positions by address, from a database in MaxMind's format (GeoLite2 City and the like).

The file is mapped, not read: every worker shares the pages. A new database takes the place of the
old one by ``rename``. One that is cut short in place takes the worker with it (SIGBUS).

The library's reader in C would answer twenty times sooner, and ends the process when it is led
astray by a damaged file. Its reader in Python raises, and bounds what one entry may cost.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
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
        self._reader = _open(path, maxminddb.MODE_MMAP)
        self.damaged = 0
        """Look-ups that led to what no intact database has."""

    def find(self, address: str) -> Whereabouts:
        """Return where a numeric address is; nothing, if it is not listed or its entry is odd.

        Whatever is damaged in the file, this is the worst that comes of it.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            return NOWHERE
        entry = self._read(parsed)
        location, country = _table(entry, "location"), _table(entry, "country")
        code = country.get("iso_code")
        return Whereabouts(
            position(location.get("latitude"), location.get("longitude")),
            code if isinstance(code, str) and len(code) == 2 else None,
        )

    def reload(self) -> None:
        """Read the file again. Raises ConfigError: the former database stays."""
        reader, self._reader = self._reader, _open(self._path, maxminddb.MODE_MMAP)
        reader.close()

    def close(self) -> None:
        self._reader.close()

    def _read(self, address: IPv4Address | IPv6Address) -> Any:
        if address.version == 6 and self._reader.metadata().ip_version == 4:
            return None
        try:
            return self._reader.get(address)
        except Exception:  # noqa: BLE001 - damage has many faces: no text, no key, no number
            self.damaged += 1
            return None


def check_database(path: Path) -> None:
    """Look whether a file would be taken, without mapping it: it may be in the making.

    Raises:
        ConfigError: it would not.

    """
    _open(path, maxminddb.MODE_FILE).close()


def _open(path: Path, mode: int) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(str(path), mode)
    except OSError as exc:
        raise ConfigError(f"{path}: not a usable database of positions: {exc.strerror}") from exc
    except Exception as exc:  # as above
        raise ConfigError(f"{path}: not a usable database of positions: {exc}") from exc


def _table(entry: Any, name: str) -> dict[str, Any]:
    found = entry.get(name) if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}
