"""Reads the entries of all hosts every few seconds."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

import trio

from edge.directory.hosts import HOSTS_MAX, HostDirectory
from edge.directory.settings import READ_INTERVAL
from edge.errors import StoreError
from edge.redis.client import RedisClient
from edge.redis.resp import Reply

logger = logging.getLogger(__name__)

ENTRIES_PER_TURN: Final = 32
"""How many are verified before other tasks of the worker get a turn."""
RETRY_TIME: Final = 0.5

Register = Callable[[Mapping[tuple[int, int], tuple[str, int]]], None]
"""Takes where registered transceiver workers take frames, by cluster and number."""


async def read_hosts(
    client: RedisClient, place: bytes, directory: HostDirectory, changed: Register
) -> None:
    """Keep ``directory`` as it is in Redis, until cancelled; tell ``changed`` of every change."""
    places: Mapping[tuple[int, int], tuple[str, int]] = {}
    readable = True
    while True:
        read = client.is_up
        if read:
            try:
                await _read_once(client, place, directory)
            except StoreError as exc:
                read = False
                directory.drops[exc.reason] += 1
                if readable and client.is_up:
                    logger.warning("Redis: the directory of hosts cannot be read: %s", exc)
                    readable = False
            else:
                readable = True
                if (found := directory.places()) != places:
                    places = found
                    changed(places)
        await trio.sleep(READ_INTERVAL if read or client.is_up else RETRY_TIME)


async def _read_once(client: RedisClient, place: bytes, directory: HostDirectory) -> None:
    count = await client.call("HLEN", place)
    if not isinstance(count, int):
        raise StoreError("entry-malformed")
    if count > HOSTS_MAX:
        raise StoreError("entry-too-many", f"{count} entries")
    pairs = await client.call("HGETALL", place)
    if not isinstance(pairs, list) or len(pairs) % 2:
        raise StoreError("entry-malformed")
    await _note_all(directory, pairs)
    directory.prune(time.time())


async def _note_all(directory: HostDirectory, pairs: list[Reply]) -> None:
    for start in range(0, len(pairs), 2 * ENTRIES_PER_TURN):
        turn = pairs[start : start + 2 * ENTRIES_PER_TURN]
        for field, value in zip(turn[::2], turn[1::2], strict=True):
            directory.note(field, value, time.time())
        await trio.lowlevel.checkpoint()
