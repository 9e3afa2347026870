"""Where a packet goes for which the confirmed flows in use have no answer.

Such packets are few: checks, what comes from unknown or long silent clients, what is damaged. Each
is looked at by itself. A Binding request goes where its own ufrag says, anything else where the
flow table says, and what belongs to nobody is dropped and counted.
"""

import time

from edge.directory.unknown import Meeting
from edge.errors import StunError, UfragError
from edge.forwarding.place import ForwardingPlace
from edge.routing import flows, frames
from edge.routing.peek import is_binding_request, peek_ufrag
from edge.udp import ReceiveBatch

BY_FLOW = bytes([*range(20, 64), *range(128, 192)])
"""First bytes of DTLS, RTP and RTCP (RFC 7983 §7)."""
_BY_UFRAG = bytes(range(4))
"""First bytes of STUN."""


class Router:
    """Routes single rows of one public socket's receive batch."""

    def __init__(
        self, place: ForwardingPlace, index: int, table: flows.FlowTable, batch: ReceiveBatch
    ) -> None:
        self._owners = place.owners
        self._limiter = place.limiter
        self._drops = place.drops
        self._cache = place.cache
        self._index = index
        self._flows = table
        self._batch = batch

    def route(self, row: int) -> int:
        """Return the owner of a row, UNKNOWN to drop it."""
        batch, drops = self._batch, self._drops
        payload = batch.payload(row)
        if not payload:
            drops["empty"] += 1
            return flows.UNKNOWN
        if batch.is_truncated(row):
            drops["too-long"] += 1
            return flows.UNKNOWN
        by_ufrag = payload[0] in _BY_UFRAG
        if not by_ufrag and payload[0] not in BY_FLOW:
            drops["not-webrtc"] += 1
            return flows.UNKNOWN
        client = batch.client(row)
        if by_ufrag and is_binding_request(payload):
            return self._route_check(row, client, payload)
        owner = self._flows.find(client)
        if owner == flows.UNKNOWN:
            self._meet_unknown(client, payload)
        return owner

    def _route_check(self, row: int, client: bytes, payload: memoryview) -> int:
        try:
            owner = self._owners.owner_of(ufrag := peek_ufrag(payload))
        except (StunError, UfragError) as exc:
            self._drops[exc.reason] += 1
            return flows.UNKNOWN
        known = client if self._flows.has_confirmed(client, owner) else None
        if not self._limiter.admit(ufrag, known, time.monotonic()):
            self._drops["too-many-checks"] += 1
            return flows.UNKNOWN
        if not self._flows.propose(client, owner):
            self._owners.note_first_check(owner)
            self._batch.flag(row, frames.UNCONFIRMED)
        return owner

    def _meet_unknown(self, client: bytes, payload: memoryview) -> None:
        """Drop a packet of a flow that nobody here knows, unless Redis may know it."""
        meeting, cache = Meeting.MISSED, self._cache
        if cache is not None:
            meeting = cache.meet((self._index, client), payload, time.monotonic())
        if meeting not in (Meeting.ASK, Meeting.KEPT):
            self._drops[meeting.value] += 1
