"""Writes a host's own entry every few seconds, while it has transceivers.

The supervisor does it, not each worker: one connection and one write per host are enough, since the
load of all workers stands in memory that the supervisor holds; an entry is whole, with all slots as
of one moment; and it is removed when the host stops in order.

Before it writes, it looks at what it has written last. If another host stands there, both take
themselves for the same one, and packets for either go to whoever was the last to write: only people
can mend that, so they are told.
"""

import logging
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

import trio
from attrs import frozen

from edge.control.status import RegistrationStatus
from edge.directory.host_entry import (
    ENTRY_BYTES_MAX,
    HostEntry,
    HostName,
    SlotLoad,
    decode_host,
    encode_host,
)
from edge.directory.hosts import is_fresh
from edge.directory.settings import HEARTBEAT, DirectorySettings
from edge.directory.signing import Signer
from edge.errors import StoreError
from edge.redis.client import RedisClient

logger = logging.getLogger(__name__)

FORGET_TIME: Final = 600
"""Seconds after the last heartbeat of any host until Redis forgets the table of hosts."""
FAREWELL_TIME: Final = 0.5
RETRY_TIME: Final = 0.25
LOG_INTERVAL: Final = 60.0
"""Between two lines about another host of the same number."""


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
        self._here = str(ip_address(registration.internal)), registration.frame_port
        self._loads = loads
        self._client = RedisClient(settings.redis)
        self._refused = ""
        self._written = 0
        self._contested = 0
        self._rival = ""
        self._told_at = -LOG_INTERVAL
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
            state=link.state.value,
            server=link.server,
            written=self._written,
            refused=self._refused,
            contested=self._contested,
            rival=self._rival,
        )

    async def _beat(self) -> None:
        while not self._withdrawn:
            if self._client.is_up:
                if self._written:  # or it may be this host's own, from another address
                    await self._look()
                await self._write()
            await trio.sleep(HEARTBEAT if self._client.is_up else RETRY_TIME)

    async def _look(self) -> None:
        """Say so if another host has written under this one's name since this one has."""
        self._rival = ""
        try:
            found = await self._read()
        except StoreError:
            return  # whether this host can be written is another question
        if found is None or (found.internal, found.frame_port) == self._here:
            return
        itself = self._registration
        self._rival = found.internal
        self._contested += 1
        now = time.monotonic()
        if now - self._told_at >= LOG_INTERVAL:
            self._told_at = now
            logger.warning(
                "Redis: %s is registered as host %d of cluster %d as well: two hosts take "
                "themselves for one, as when their lists of hosts differ",
                found.internal,
                itself.name.host,
                itself.name.cluster,
            )

    async def _read(self) -> HostEntry | None:
        """Return what is registered under this host's name, if it is a fresh entry of a member.

        Raises:
            StoreError: it is none, or Redis does not tell.

        """
        field = self._registration.name.field
        size = await self._client.call("HSTRLEN", self._place, field)
        if not (isinstance(size, int) and 0 < size <= ENTRY_BYTES_MAX):
            return None
        values = await self._client.call("HMGET", self._place, field)
        if not isinstance(values, list) or len(values) != 1:
            return None
        entry = decode_host(self._signer, self._place, field, values[0])
        return entry if is_fresh(entry, time.time()) else None

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
