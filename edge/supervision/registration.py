"""The host's own entry in the directory of hosts."""

import time
from functools import partial

from edge.assignment import directory_settings, registration
from edge.directory.host_entry import SlotLoad
from edge.directory.registering import Registrar
from edge.supervision.estate import Estate
from edge.transceiver.load import LoadTable


def make_registrar(estate: Estate) -> Registrar | None:
    """Return what registers this host; None if it has no place in a directory."""
    settings, itself = directory_settings(estate.config, estate.keys), registration(estate.config)
    if settings is None or itself is None:
        return None
    table = LoadTable(estate.neighbourhood.load_memory.map())
    return Registrar(settings, itself, partial(_loads, table))


def _loads(table: LoadTable) -> list[SlotLoad]:
    """Return the load of all workers that live."""
    now = time.monotonic()
    return [
        SlotLoad(slot, load.sessions, load.sessions_max, load.on_time_ratio, load.draining)
        for slot in range(table.workers)
        if (load := table.read(slot, now)) is not None
    ]
