"""Reads the entries of all hosts every few seconds.

Anything may stand among them, so nothing is read whose size is not known: the names are listed if
they are not too many, and of those that may be a host's only the values that are short. A name
whose value was short is not measured again, until one turns out to be long and costs the
connection. Hosts that are known are read before the names are listed, as that may be impossible:
the names are too many, or one is so long that the list of them costs the connection. Then they are
not listed again soon, as long as they are as many.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import trio

from edge.directory.host_entry import ENTRY_BYTES_MAX, names_a_host
from edge.directory.hosts import HOSTS_MAX, HostDirectory
from edge.directory.settings import READ_INTERVAL
from edge.errors import StoreError
from edge.redis.client import RedisClient
from edge.redis.resp import Reply

logger = logging.getLogger(__name__)

NAMES_PER_COMMAND: Final = 512
"""How many are asked for at once: their values are a third of the longest reply."""
ENTRIES_PER_TURN: Final = 32
"""How many are verified before other tasks of the worker get a turn."""
RETRY_TIME: Final = 0.5
LIST_PAUSE: Final = 60.0
"""Seconds between two attempts to list names that are too long."""

T = TypeVar("T")

Register = Callable[[Mapping[tuple[int, int], tuple[str, int]]], None]
"""Takes where registered transceiver workers take frames, by cluster and number."""


async def read_hosts(
    client: RedisClient, place: bytes, directory: HostDirectory, changed: Register
) -> None:
    """Keep ``directory`` as it is in Redis, until cancelled; tell ``changed`` of every change.

    ``client`` may lose its connection by what it reads: nothing else should depend on it.
    """
    reader = _Reader(client, place, directory)
    places: Mapping[tuple[int, int], tuple[str, int]] = {}
    readable = True
    while True:
        read = client.is_up
        if read:
            try:
                await reader.read()
            except StoreError as exc:
                read = False
                directory.drops[exc.reason] += 1
                if readable and (client.is_up or exc.reason == "redis-reply-too-long"):
                    logger.warning("Redis: the directory of hosts cannot be read: %s", exc)
                    readable = False
            else:
                readable = True
            if (found := directory.places()) != places:
                places = found
                changed(places)
        await trio.sleep(READ_INTERVAL if read or client.is_up else RETRY_TIME)


class _Reader:
    """Reads what is short."""

    def __init__(self, client: RedisClient, place: bytes, directory: HostDirectory) -> None:
        self._client = client
        self._place = place
        self._directory = directory
        self._short: set[bytes] = set()
        """Names whose values were short when they were read last."""
        self._too_long: tuple[int, float] | None = None
        """How many names were too long to be listed, and when."""

    async def read(self) -> None:
        """Read the hosts that are known, then those that are not.

        Raises:
            StoreError: not all could be read. What could be is noted.

        """
        known = self._directory.fields()
        await self._note(known)
        self._directory.prune(time.time())
        listed = await self._list()
        self._short.intersection_update((*known, *listed))
        await self._note(listed.difference(known))

    async def _list(self) -> set[bytes]:
        """Return what stands there and may be a host's."""
        count = await self._client.call("HLEN", self._place)
        if not isinstance(count, int):
            raise StoreError("entry-malformed")
        if count > HOSTS_MAX:
            raise StoreError("entry-too-many", f"{count} entries")
        if self._is_too_long(count):
            raise StoreError("redis-reply-too-long", "names that are too long")
        try:
            names = await self._client.call("HKEYS", self._place)
        except StoreError as exc:
            if exc.reason == "redis-reply-too-long":
                self._too_long = count, time.monotonic()
            raise
        self._too_long = None
        if not isinstance(names, list):
            raise StoreError("entry-malformed")
        found = set(filter(names_a_host, names))
        if len(found) < len(names):
            self._directory.drops["entry-malformed"] += len(names) - len(found)
        return found

    def _is_too_long(self, count: int) -> bool:
        if self._too_long is None:
            return False
        then, at = self._too_long
        return count == then and time.monotonic() - at < LIST_PAUSE

    async def _note(self, names: Collection[bytes]) -> None:
        """Pass the entries of these names on, as far as they are short."""
        await self._measure([name for name in names if name not in self._short])
        for batch in _batches([name for name in names if name in self._short], NAMES_PER_COMMAND):
            for turn in _batches(await self._values(batch), ENTRIES_PER_TURN):
                for name, value in turn:
                    self._note_one(name, value)
                await trio.lowlevel.checkpoint()

    def _note_one(self, name: bytes, value: Reply) -> None:
        if value is None:
            return  # it has gone
        if isinstance(value, bytes) and len(value) > ENTRY_BYTES_MAX:
            self._short.discard(name)
        self._directory.note(name, value, time.time())

    async def _measure(self, names: Sequence[bytes]) -> None:
        for batch in _batches(names, NAMES_PER_COMMAND):
            commands = [("HSTRLEN", self._place, name) for name in batch]
            sizes = await self._client.call_all(commands)
            for name, size in zip(batch, sizes, strict=True):
                if isinstance(size, int) and size <= ENTRY_BYTES_MAX:
                    self._short.add(name)
                else:
                    self._directory.drops["entry-too-long"] += 1

    async def _values(self, names: Sequence[bytes]) -> list[tuple[bytes, Reply]]:
        try:
            values = await self._client.call("HMGET", self._place, *names)
        except StoreError as exc:
            if exc.reason == "redis-reply-too-long":
                self._short.clear()
            raise
        if not isinstance(values, list) or len(values) != len(names):
            raise StoreError("entry-malformed")
        return list(zip(names, values, strict=True))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
