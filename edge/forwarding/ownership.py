"""Which transceiver owns a client's packets, in one relay worker's numbers.

In flow tables an owner is a small number: the slot of a transceiver of this host, or what the trunk
has given to one of another host (edge/fleet/owners.py). What is shared with others, in memory or in
Redis, names cluster and transceiver number instead.
"""

from collections.abc import Iterable

from edge.errors import UfragError
from edge.fleet.owners import FIRST as FIRST_ELSEWHERE
from edge.fleet.owners import Owners
from edge.routing.numbers import split_number, transceiver_number
from edge.routing.shared import shared_owner, split_owner
from edge.routing.ufrag import RoutingKey, UfragOpener


class Ownership:
    """One relay worker's: what its routing keys open, and how it numbers what it finds there.

    ``cluster`` and ``host``: where the worker is; no cluster: no transceivers there. ``slots``: how
    many transceivers the host may have. ``elsewhere``: those of other hosts, if it is not alone.
    """

    def __init__(
        self,
        cluster: int | None,
        host: int,
        slots: int,
        keys: Iterable[RoutingKey],
        elsewhere: Owners | None,
    ) -> None:
        self._cluster = cluster
        self._host = host
        self._slots = slots
        self._elsewhere = elsewhere
        self._opener = UfragOpener(keys)
        self.first_checks = [0] * slots
        """Checks that were routed by their ufrag alone, by slot."""
        self.first_checks_elsewhere = 0
        """The same, of all transceivers of other hosts."""

    def accept(self, keys: Iterable[RoutingKey]) -> None:
        """Open ufrags with these keys from now on."""
        self._opener = UfragOpener(keys)

    def owner_of(self, ufrag: bytes) -> int:
        """Return the transceiver that issued a ufrag.

        Raises:
            UfragError: forged, or of a transceiver that is neither on this host nor in the fleet.

        """
        routed = self._opener.open(ufrag)
        return self.owner_at(routed.cluster, routed.transceiver)

    def owner_at(self, cluster: int, transceiver: int) -> int:
        """Return the number by which flow tables know a transceiver.

        Raises:
            UfragError: it is neither on this host nor in the fleet.

        """
        if cluster == self._cluster:
            host, slot = split_number(transceiver)
            if host == self._host:
                if slot >= self._slots:
                    raise UfragError("ufrag-unknown-transceiver")
                return slot
        if self._elsewhere is not None:
            return self._elsewhere.find(cluster, transceiver)
        known = cluster == self._cluster
        raise UfragError("ufrag-unknown-transceiver" if known else "ufrag-unknown-cluster")

    def transceiver_of(self, owner: int) -> tuple[int, int]:
        """Return cluster and transceiver number of what ``owner_at`` has returned."""
        if owner >= FIRST_ELSEWHERE:
            assert self._elsewhere is not None  # which has given out the number
            return self._elsewhere.transceiver(owner)
        assert self._cluster is not None  # or there were no transceivers here
        return self._cluster, transceiver_number(self._host, owner)

    def share(self, owner: int) -> int:
        """Return an owner as the shared flow memory has it."""
        return shared_owner(*self.transceiver_of(owner))

    def take(self, shared: int) -> int | None:
        """Return the owner that the shared flow memory names; None: it cannot be reached."""
        try:
            return self.owner_at(*split_owner(shared))
        except UfragError:
            return None

    def note_first_check(self, owner: int) -> None:
        """Count a check that was routed by its ufrag alone."""
        if owner < FIRST_ELSEWHERE:
            self.first_checks[owner] += 1
        else:
            self.first_checks_elsewhere += 1
