"""Writes a host's own entry every few seconds, while it has transceivers.

The supervisor does it, not each worker: one connection and one write per host are enough, since the
load of all workers stands in memory that the supervisor holds; an entry is whole, with all slots as
of one moment; and it is removed when the host stops in order.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import trio
from attrs import frozen

from edge.control.status import RegistrationStatus
from edge.directory.host_entry import HostEntry, HostName, SlotLoad, encode_host
from edge.directory.settings import HEARTBEAT, DirectorySettings
from edge.directory.signing import Signer
from edge.errors import StoreError
from edge.redis.client import RedisClient

logger = logging.getLogger(__name__)

FORGET_TIME: Final = 600
"""Seconds after the last heartbeat of any host until Redis forgets the table of hosts."""
FAREWELL_TIME: Final = 0.5
RETRY_TIME: Final = 0.25


@frozen
class Registration:
    """What is registered, but for the load."""

    name: HostName
    internal: str
    frame_port: int


class Registrar:
    """Registers one host."""

    def __init__(
        self,
        settings: DirectorySettings,
        registration: Registration,
        loads: Callable[[], Sequence[SlotLoad]],
    ) -> None:
        """``loads`` tells the load of all workers that live."""
        self._place = settings.hosts_place
        self._signer = Signer.of(settings.secrets)
        self._registration = registration
        self._loads = loads
        self._client = RedisClient(settings.redis)
        self._refused = ""
        self._written = 0
        self._withdrawn = False

    async def run(self) -> None:
        """Keep the host registered until cancelled. A bug in here ends this, not the host."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._client.run)
                nursery.start_soon(self._beat)
        except* Exception:
            logger.exception("registering has failed: the host is not in the directory")

    async def withdraw(self) -> None:
        """Remove the entry for good, if that can be done at once."""
        self._withdrawn = True
        with trio.move_on_after(FAREWELL_TIME):
            try:
                await self._client.call("HDEL", self._place, self._registration.name.field)
            except StoreError:
                return  # it is too old in some seconds

    def status(self) -> RegistrationStatus:
        link = self._client.statistics()
        return RegistrationStatus(
            state=link.state.value, server=link.server, written=self._written, refused=self._refused
        )

    async def _beat(self) -> None:
        while not self._withdrawn:
            if self._client.is_up:
                await self._write()
            await trio.sleep(HEARTBEAT if self._client.is_up else RETRY_TIME)

    async def _write(self) -> None:
        entry = HostEntry(
            self._registration.name,
            self._registration.internal,
            self._registration.frame_port,
            tuple(self._loads()),
            time.time(),
        )
        value = encode_host(self._signer, self._place, entry)
        refused = ""
        try:
            await self._client.call("HSET", self._place, entry.name.field, value)
            await self._client.call("EXPIRE", self._place, FORGET_TIME)
        except StoreError as exc:
            refused = exc.reason
            if refused != self._refused and self._client.is_up:
                logger.warning("Redis: this host cannot be registered: %s (%s)", exc, refused)
        else:
            self._written += 1
        self._refused = refused
