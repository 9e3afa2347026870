"""The host's own entry in the directory of hosts, kept by what is in force."""

import time
from functools import partial

import trio

from edge.assignment.directory import directory_settings, registration
from edge.control.status import RegistrationStatus
from edge.directory.host_entry import SlotLoad
from edge.directory.registering import Registrar, Registration
from edge.directory.settings import DirectorySettings
from edge.supervision.estate import Estate
from edge.transceiver.load import LoadTable


class HostRegistration:
    """Registers this host, if it has a place in a directory."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._loads = partial(_loads, LoadTable(estate.neighbourhood.load_memory.map()))
        self._terms: tuple[DirectorySettings | None, Registration | None] = None, None
        self._registrar: Registrar | None = None
        self._scope = trio.CancelScope()

    def follow(self, nursery: trio.Nursery) -> None:
        """Register as the configuration and the keys of now say."""
        estate = self._estate
        terms = directory_settings(estate.config, estate.keys), registration(estate.config)
        if terms == self._terms:
            return
        self._terms = settings, itself = terms
        self._scope.cancel()
        self._registrar = None
        if settings is not None and itself is not None:
            self._registrar = Registrar(settings, itself, self._loads)
            self._scope = trio.CancelScope()
            nursery.start_soon(_run, self._registrar, self._scope)

    async def withdraw(self) -> None:
        """Say that the host is no more."""
        if self._registrar is not None:
            await self._registrar.withdraw()

    def status(self) -> RegistrationStatus | None:
        return self._registrar.status() if self._registrar is not None else None


async def _run(registrar: Registrar, scope: trio.CancelScope) -> None:
    with scope:
        await registrar.run()


def _loads(table: LoadTable) -> list[SlotLoad]:
    """Return the load of all workers that live."""
    now = time.monotonic()
    return [
        SlotLoad(slot, load.sessions, load.sessions_max, load.on_time_ratio, load.draining)
        for slot in range(table.workers)
        if (load := table.read(slot, now)) is not None
    ]
