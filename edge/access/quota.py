"""How much one key, tenant or address may do: sessions at once, and offers per minute.

Both are counted for the whole host, whichever worker a client's connections reach: the counters are
in memory that the transceiver workers share. Other hosts count for themselves.

An account holds the spent offers of a token bucket and one session counter per worker. A worker
writes its own counter only, and empties it when it starts, so sessions that died with a worker are
not counted once its successor is there. The sum over the workers is what is limited.

Accounts are opened at need and never closed. One without sessions that was left alone for a minute
is as good as none, since its bucket is full again, and its slot is free. If no slot is free, the
account without sessions that was left alone for longest makes room, which costs its owner nothing
but a fresh bucket. If the accounts in all its slots have sessions, the newcomer is refused,
``access-busy``.

Account, 32 bytes and 4 per worker, rounded up to 8, in the host's byte order:

| bytes | content |
| --- | --- |
| 0..15 | digest of its name |
| 16..23 | float: offers spent, as of |
| 24..31 | float: unix seconds |
| 32.. | per worker: sessions that it holds |
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from attrs import frozen

from edge.access.reasons import AccessReason, refuse
from edge.access.slots import BUSY_RETRY, DIGEST_BYTES, Lock, SlotTable, held, slots_bytes

MINUTE = 60.0
SESSIONS_RETRY = 10.0
"""When to try again after too many sessions: nobody knows when one will end."""

_GRAIN = 0.001
"""Waits below it are rounding errors: a float of unix seconds has steps of 2e-7."""
_BUCKET = struct.Struct("@dd")
_HEAD = struct.Struct("@16sdd")
_COUNT = struct.Struct("@I")


@frozen
class Limits:
    """What one account may do. 0: as much as it likes."""

    sessions_max: int = 0
    """At once."""
    offers_per_minute: int = 0
    """All of a minute's offers may come at once."""


UNLIMITED = Limits()


@frozen
class Account:
    """Someone whose use is counted."""

    name: str
    limits: Limits


def address_name(source: str) -> str | None:
    """Return what a numeric address is counted as: one IPv4 address, or one IPv6 /64.

    None for loopback, which is not counted: proxies and the operator's own programs are there.
    """
    address = ip_address(source)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address), 64), strict=False))


def quotas_bytes(accounts_max: int, workers: int) -> int:
    """Return the size of a memory for ``accounts_max`` accounts in use."""
    return slots_bytes(accounts_max, _account_bytes(workers))


class Lease:
    """A session's place in its accounts. It belongs to the worker that took it."""

    def __init__(self, memory: memoryview, counters: Sequence[int]) -> None:
        self._memory = memory
        self._counters = counters

    def release(self) -> None:
        """Give the place back; again does nothing.

        Without the lock: the counter is this worker's, and an account with sessions stays put.
        """
        for at in self._counters:
            count: int = _COUNT.unpack_from(self._memory, at)[0]
            _COUNT.pack_into(self._memory, at, count - 1)
        self._counters = ()


class Quotas:
    """One worker's view of the accounts. Times: unix seconds.

    ``worker`` is its index among ``workers``, whose number is fixed for the life of the memory;
    ``lock`` is the lock of the memory; ``hash_key`` is the same in all workers.
    """

    def __init__(
        self, memory: memoryview, lock: Lock, hash_key: bytes, worker: int, workers: int
    ) -> None:
        self._table = SlotTable(memory, _account_bytes(workers), hash_key)
        self._lock = lock
        self._own = _HEAD.size + worker * _COUNT.size
        self._counts = struct.Struct(f"@{workers}I")
        self._empty_own_counters()

    def count_offer(self, accounts: Sequence[Account], now: float) -> None:
        """Count an offer on all accounts, or on none if one of them has none left.

        Raises:
            AccessError: quota-offers, or access-busy.

        """
        limited = [each for each in accounts if each.limits.offers_per_minute]
        if not limited:
            return
        with held(self._lock):
            places = self._locate_all(limited, now)
            limits = [each.limits.offers_per_minute for each in limited]
            levels = [self._spent(at, limit, now) for at, limit in zip(places, limits, strict=True)]
            wait = max(
                (level + 1 - limit) * MINUTE / limit
                for level, limit in zip(levels, limits, strict=True)
            )
            if wait > _GRAIN:
                raise refuse(AccessReason.QUOTA_OFFERS, retry_after=wait)
            for at, level in zip(places, levels, strict=True):
                _BUCKET.pack_into(self._table.memory, at + DIGEST_BYTES, level + 1, now)

    def open_session(self, accounts: Sequence[Account], now: float) -> Lease:
        """Count a session on all accounts, or on none if one of them has too many.

        Raises:
            AccessError: quota-sessions, or access-busy.

        """
        limited = [each for each in accounts if each.limits.sessions_max]
        if not limited:
            return Lease(self._table.memory, ())
        with held(self._lock):
            places = self._locate_all(limited, now)
            for at, each in zip(places, limited, strict=True):
                if self._sessions(at) >= each.limits.sessions_max:
                    raise refuse(AccessReason.QUOTA_SESSIONS, retry_after=SESSIONS_RETRY)
            counters = [at + self._own for at in places]
            for at in counters:
                count: int = _COUNT.unpack_from(self._table.memory, at)[0]
                _COUNT.pack_into(self._table.memory, at, count + 1)
        return Lease(self._table.memory, counters)

    def _locate_all(self, accounts: Sequence[Account], now: float) -> list[int]:
        """Return the offsets of accounts, opened at need; none makes room for another of them."""
        places: list[int] = []
        for each in accounts:
            places.append(self._locate(each.name, places, now))
        return places

    def _locate(self, name: str, kept: Sequence[int], now: float) -> int:
        digest = self._table.digest(name)
        at = self._table.find(digest)
        if at is not None:
            return at
        places = self._table.places(digest)
        idle = [at for at in places if at not in kept and not self._sessions(at)]
        if not idle:
            raise refuse(AccessReason.ACCESS_BUSY, retry_after=BUSY_RETRY)
        at = min(idle, key=self._last_used)
        _HEAD.pack_into(self._table.memory, at, digest, 0.0, now)
        return at

    def _spent(self, at: int, limit: int, now: float) -> float:
        """Return how many offers of an account's bucket are spent by now."""
        spent: float
        as_of: float
        spent, as_of = _BUCKET.unpack_from(self._table.memory, at + DIGEST_BYTES)
        if as_of > now:  # the clock was set back: the bucket empties from now on
            _BUCKET.pack_into(self._table.memory, at + DIGEST_BYTES, spent, now)
            return spent
        return max(0.0, spent - (now - as_of) * limit / MINUTE)

    def _last_used(self, at: int) -> float:
        as_of: float = _BUCKET.unpack_from(self._table.memory, at + DIGEST_BYTES)[1]
        return as_of

    def _sessions(self, at: int) -> int:
        return sum(self._counts.unpack_from(self._table.memory, at + _HEAD.size))

    def _empty_own_counters(self) -> None:
        memory = self._table.memory
        for at in range(self._own, len(memory), self._table.entry_bytes):
            if _COUNT.unpack_from(memory, at)[0]:
                _COUNT.pack_into(memory, at, 0)


def _account_bytes(workers: int) -> int:
    size = _HEAD.size + workers * _COUNT.size
    return (size + 7) // 8 * 8
