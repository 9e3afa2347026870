"""A relay worker's flow table: which transceiver owns a client address.

A STUN request with a good ufrag makes a *tentative* flow: enough for the packets that follow it at
once. The owner's notice that the client has authenticated makes it *confirmed*. A confirmed flow
that is in use is never re-pointed, whatever valid ufrag somebody sends from (or spoofs) its
address: whoever holds a session of his own could otherwise pull a stranger's packets to it.

Confirmed flows expire by two generations: ``rotate`` makes the current table the old one; a hit in
the old one moves the flow back. So a flow lives between one and two periods after its last packet,
without a time stamp per packet. ``current`` is public: the relay's hot path looks packets up in it
directly and asks ``find`` only on a miss.

A table may have a mirror in shared memory (shared.py). Every confirmed flow is written there, and
an address that is not known here is looked up there before anything else is said about it: so a
successor or a sibling of a killed worker takes over its flows, and their protection, at once.

Tentative flows sit in a small table of their own that drops its oldest entry when full: whoever
floods it with one captured ufrag from many addresses costs others at most a retransmission.
"""

from enum import Enum

from attrs import frozen

from edge.routing.shared import FlowMirror

UNKNOWN = -1
"""No transceiver owns this address."""


class Verdict(Enum):
    """What became of a confirmation."""

    ADDED = "added"
    KNOWN = "known"
    CONFLICT = "conflict"
    """Another owner's confirmed flow is in use at this address: refused."""
    FULL = "full"
    UNMET = "unmet"
    """No check for this owner has come from this address: refused."""


@frozen
class FlowStatistics:
    confirmed: int
    tentative: int
    conflicts: int
    """Confirmations refused because the address belongs to a live flow of another owner."""
    evicted: int
    """Tentative flows dropped to make room."""
    full: int
    """Confirmations refused because the table is at its limit."""
    taken_over: int
    """Flows found in shared memory that another worker had confirmed."""


class FlowTable:
    """Flows of one public socket. Keys are 28-byte client addresses, values transceiver indices."""

    def __init__(
        self, confirmed_max: int, tentative_max: int, mirror: FlowMirror | None = None
    ) -> None:
        self.current: dict[bytes, int] = {}
        """Confirmed flows seen in this generation; a new dictionary after every ``rotate``."""
        self._old: dict[bytes, int] = {}
        self._tentative: dict[bytes, tuple[int, int]] = {}  # client -> owner, generation
        self._generation = 0
        self._mirror = mirror
        self._taken_over = 0
        self._confirmed_max = confirmed_max
        self._tentative_max = tentative_max
        self._conflicts = 0
        self._evicted = 0
        self._full = 0

    def find(self, client: bytes) -> int:
        """Return the owner of an address, confirmed or tentative, or UNKNOWN. Renews the flow."""
        owner = self._find_confirmed(client)
        if owner == UNKNOWN and (tentative := self._tentative.get(client)) is not None:
            return tentative[0]
        return owner

    def has_confirmed(self, client: bytes, owner: int) -> bool:
        """Whether a confirmed flow ties ``client`` to this owner. Renews the flow."""
        return self._find_confirmed(client) == owner

    def propose(self, client: bytes, owner: int) -> bool:
        """A routable check for ``owner`` came from ``client``. Return whether this is its flow.

        False means that no confirmed flow ties the client to this owner: it should say when it has
        authenticated the client.
        """
        confirmed = self._find_confirmed(client)
        if confirmed == UNKNOWN:
            self._tentative.pop(client, None)
            if len(self._tentative) >= self._tentative_max:
                del self._tentative[next(iter(self._tentative))]
                self._evicted += 1
            self._tentative[client] = owner, self._generation
        return confirmed == owner

    def confirm(self, client: bytes, owner: int, *, only_met: bool = False) -> Verdict:
        """``owner`` has authenticated a check from ``client``.

        ``only_met``: do not take its word for it that there was a check; one must have made a flow
        here.
        """
        known = self._find_confirmed(client)
        if known == owner:
            return Verdict.KNOWN
        if known != UNKNOWN:
            self._conflicts += 1
            return Verdict.CONFLICT
        if only_met and self._tentative.get(client, (UNKNOWN,))[0] != owner:
            return Verdict.UNMET
        if len(self.current) + len(self._old) >= self._confirmed_max:
            self._full += 1
            return Verdict.FULL
        self._tentative.pop(client, None)
        self.current[client] = owner
        if self._mirror is not None:
            self._mirror.store(client, owner)
        return Verdict.ADDED

    def release(self, client: bytes, owner: int) -> bool:
        """``owner`` has no session at ``client`` any more. Others' flows are left alone.

        Return whether this table had such a flow.
        """
        known = False
        for table in (self.current, self._old):
            if table.get(client) == owner:
                del table[client]
                known = True
        if self._mirror is not None and self._mirror.find(client) == owner:
            self._mirror.remove(client)
        tentative = self._tentative.get(client)
        if tentative is not None and tentative[0] == owner:
            del self._tentative[client]
            known = True
        return known

    def rotate(self) -> None:
        """Start a new generation; flows without a packet for a whole generation are gone."""
        self._old, self.current = self.current, {}
        for client, (_, generation) in list(self._tentative.items()):
            if generation == self._generation:
                break  # entries stand in order of age
            del self._tentative[client]
        self._generation += 1

    def statistics(self) -> FlowStatistics:
        return FlowStatistics(
            confirmed=len(self.current) + len(self._old),
            tentative=len(self._tentative),
            conflicts=self._conflicts,
            evicted=self._evicted,
            full=self._full,
            taken_over=self._taken_over,
        )

    def _find_confirmed(self, client: bytes) -> int:
        owner = self.current.get(client)
        if owner is not None:
            return owner
        owner = self._old.pop(client, None)
        if owner is None and self._mirror is not None:
            owner = self._mirror.find(client)
            self._taken_over += owner is not None
        if owner is None:
            return UNKNOWN
        self.current[client] = owner
        return owner
