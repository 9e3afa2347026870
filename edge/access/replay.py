"""Which client secrets were used, known to all workers of a host.

A token is remembered from its use until it has expired, so the memory has to hold the tokens of one
lifetime. A live one is never forgotten for another: without a free slot the new token is refused,
``access-busy``, and remains unused. With as many live tokens as the table was made for, that
happens to one in 2^16 at most.

Hosts do not know of each other's tokens: a token is used once per host. Time must not go back by
more than the leeway: a token that had expired, and was forgotten, would be good again.

Entry, 24 bytes, in the host's byte order:

| bytes | content |
| --- | --- |
| 0..15 | digest of the token's name |
| 16..23 | float: unix seconds until which it counts |
"""

import struct

from edge.access.reasons import AccessReason, refuse
from edge.access.slots import BUSY_RETRY, DIGEST_BYTES, Lock, SlotTable, held, slots_bytes

_UNTIL = struct.Struct("@d")
_ENTRY = struct.Struct("@16sd")


def used_tokens_bytes(tokens_max: int) -> int:
    """Return the size of a memory for ``tokens_max`` tokens that were used and have not expired."""
    return slots_bytes(tokens_max, _ENTRY.size)


class UsedTokens:
    """One worker's view of the table. Times: unix seconds.

    ``lock`` is the lock of the memory; ``hash_key`` is the same in all workers.
    """

    def __init__(self, memory: memoryview, lock: Lock, hash_key: bytes) -> None:
        self._table = SlotTable(memory, _ENTRY.size, hash_key)
        self._lock = lock

    def claim(self, token: str, until: float, now: float) -> None:
        """Use a token up. Of all workers that try, one succeeds.

        Raises:
            AccessError: token-used, or access-busy: no room or no lock.

        """
        digest = self._table.digest(token)
        with held(self._lock):
            at = self._table.find(digest)
            if at is not None and self._until(at) > now:
                raise refuse(AccessReason.TOKEN_USED)
            if at is None:
                places = self._table.places(digest)
                at = next((each for each in places if self._until(each) <= now), None)
            if at is None:
                raise refuse(AccessReason.ACCESS_BUSY, retry_after=BUSY_RETRY)
            _ENTRY.pack_into(self._table.memory, at, digest, until)

    def forget(self, token: str) -> None:
        """Make a token that the caller claimed, and got nothing for, good again.

        Raises:
            AccessError: access-busy; the token remains used.

        """
        digest = self._table.digest(token)
        with held(self._lock):
            at = self._table.find(digest)
            if at is not None:
                self._table.memory[at : at + _ENTRY.size] = bytes(_ENTRY.size)

    def _until(self, at: int) -> float:
        until: float = _UNTIL.unpack_from(self._table.memory, at + DIGEST_BYTES)[0]
        return until
