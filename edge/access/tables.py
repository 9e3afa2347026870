"""What the transceiver workers of a host share to know who was let in: one memory, one lock."""

from attrs import frozen

from edge.access.quota import Quotas, quotas_bytes
from edge.access.replay import UsedTokens, used_tokens_bytes
from edge.access.slots import Lock

_ALIGNMENT = 64


@frozen
class TableSizes:
    """How much the tables hold."""

    tokens_max: int = 65_536
    """Used client secrets that have not expired."""
    accounts_max: int = 16_384
    """Keys, tenants and addresses in use."""
    workers: int = 1
    """Transceiver workers of the host."""

    @property
    def memory_bytes(self) -> int:
        return self._quotas_at + quotas_bytes(self.accounts_max, self.workers)

    @property
    def _quotas_at(self) -> int:
        used = used_tokens_bytes(self.tokens_max)
        return (used + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT

    def divide(self, memory: memoryview) -> tuple[memoryview, memoryview]:
        """Return the parts of a memory for used tokens and for quotas."""
        used = memory[: used_tokens_bytes(self.tokens_max)]
        return used, memory[self._quotas_at : self.memory_bytes]


@frozen
class AccessTables:
    """One worker's view of the memory."""

    used: UsedTokens
    quotas: Quotas


def open_tables(
    memory: memoryview, lock: Lock, hash_key: bytes, worker: int, sizes: TableSizes
) -> AccessTables:
    """Take a worker's place in a memory of ``sizes.memory_bytes``, zeros before the first one.

    What its predecessor held is given back.
    """
    used, quotas = sizes.divide(memory)
    return AccessTables(
        UsedTokens(used, lock, hash_key),
        Quotas(quotas, lock, hash_key, worker, sizes.workers),
    )
