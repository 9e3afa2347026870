"""How many connections a signaling server has, in all and of one client."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from edge.access.quota import address_name


class Occupancy:
    """Counts connections while they last. ``per_source_max`` 0: no limit.

    A proxy's connection is its clients', each as long as a request of his is on it.
    """

    def __init__(self, connections_max: int, per_source_max: int) -> None:
        self._connections_max = connections_max
        self._per_source_max = per_source_max
        self._open = 0
        self._by_source: Counter[str] = Counter()

    @contextmanager
    def connection(self) -> Iterator[int]:
        """Count a connection; yields by how many the limit is exceeded."""
        self._open += 1
        try:
            yield self._open - self._connections_max
        finally:
            self._open -= 1

    @contextmanager
    def client(self, address: str) -> Iterator[int]:
        """Count a connection of a numeric address; yields by how many its limit is exceeded."""
        source = address_name(address)
        if source is None:  # loopback
            yield 0
            return
        self._by_source[source] += 1
        try:
            yield self._by_source[source] - self._per_source_max if self._per_source_max else 0
        finally:
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]
