"""The other hosts of the fleet, as one transceiver worker sees them: their room, their sessions.

A worker connects to a host when it first needs it. Whichever worker there takes the connection
(edge/transceiver/gateway.py) places what is asked for on its own host, and nowhere else.
"""

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

from attrs import evolve

from edge.fleet.map import FleetMap, Member
from edge.fleet.seal import KeyRing
from edge.fleet.secure import SecureEnd
from edge.fleet.states import HostState, StateTable
from edge.signal.host import Report, SessionRequest
from edge.signal.messages import Bye, ByeReason
from edge.transceiver.channel import Channel, NeighbourError
from edge.transceiver.neighbours import Neighbour, RemoteSession, Start
from edge.transceiver.remote import call_member

AVOID_TIME = 3.0
"""A host that could not be asked is not asked again for so long."""
FAIL_TIME = 1.0
"""Nobody tries to connect to it for so long."""
LOOK_INTERVAL = 0.25
"""What is known of the hosts' room is read again after so long."""
TELLING_TIME = 0.3
"""What a host tells may be so old when it is heard."""
RECENT_MAX = 10_000
"""Sessions of one host that are remembered until it has told that it has them."""
HOP_WORTH = 0.05
"""A session goes to another host of the cluster if that is emptier by so much of its size."""

HOST_LOST = Bye(
    reason=ByeReason.GOING_AWAY,
    message="the host of the session cannot be reached; a new offer will find another one",
)


class RemoteHost:
    """Another host of the fleet."""

    def __init__(
        self,
        member: Member,
        connect: Callable[[], Awaitable[Channel]],
        start: Start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.member = member
        self._connect = connect
        self._neighbour = Neighbour(self._try, start, regains=True, loss=HOST_LOST)
        self._clock = clock
        self._avoid_until = self._fail_until = -math.inf
        self._pending = 0
        self._opened: deque[float] = deque(maxlen=RECENT_MAX)

    def renew(self, *, at_once: bool) -> None:
        """Use a new connection from now on; sessions there are looked for over it."""
        self._neighbour.renew(at_once=at_once)

    @property
    def sessions(self) -> int:
        """What this worker is attached to there."""
        return self._neighbour.sessions

    @property
    def is_avoided(self) -> bool:
        """Whether it has just not answered."""
        return self._clock() < self._avoid_until

    def unheard(self, heard_at: float) -> int:
        """Return the sessions asked for that what the host told at that time cannot count."""
        while self._opened and self._opened[0] < heard_at - TELLING_TIME:
            self._opened.popleft()
        return len(self._opened) + self._pending

    async def open_session(self, request: SessionRequest, report: Report) -> RemoteSession:
        """``SessionHost.open_session`` on that host.

        Raises:
            SdpError, SignalError, AccessError: as the owner; ``busy``: the host has no room.
            NeighbourError: it does not answer. If it opens the session nevertheless, it ends it.

        """
        self._pending += 1
        try:
            opened = await self._neighbour.open_session(evolve(request, visitor=None), report)
        except NeighbourError:
            self._avoid_until = self._clock() + AVOID_TIME
            raise
        finally:
            self._pending -= 1
        self._opened.append(self._clock())
        return opened

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> RemoteSession:
        """``SessionHost.attach`` on that host; errors as those of ``open_session``."""
        return await self._neighbour.attach(session, secret, report)

    async def _try(self) -> Channel:
        """Connect; those who waited meanwhile do not wait once more if it cannot be reached."""
        if self._clock() < self._fail_until:
            raise NeighbourError(f"host {self.member.name} could not be reached")
        try:
            return await self._connect()
        except NeighbourError:
            self._fail_until = self._clock() + FAIL_TIME
            raise


class Peers:
    """All other hosts that have transceivers. ``start`` runs the tasks of connections."""

    def __init__(
        self,
        fleet: FleetMap,
        ring: KeyRing,
        states: StateTable,
        start: Start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._ring = ring
        self._states = states
        self._clock = clock
        self._looked_at = -LOOK_INTERVAL
        self._known: dict[str, tuple[HostState, float]] = {}
        self._hosts: dict[tuple[int, int], RemoteHost] = {}
        self._secure: dict[str, SecureEnd] = {}
        """The end of the latest connection to each host."""
        self._by_cluster: dict[int, list[RemoteHost]] = {}
        for member in fleet.peers:
            if member.cluster is None:
                continue
            host = RemoteHost(member, partial(self._connect, member), start, clock)
            self._hosts[member.cluster.id, member.number] = host
            self._by_cluster.setdefault(member.cluster.id, []).append(host)

    @property
    def sessions(self) -> int:
        """Sessions of other hosts that this worker's signaling is attached to."""
        return sum(host.sessions for host in self._hosts.values())

    def find(self, cluster: int, number: int) -> RemoteHost | None:
        """Return the host of that number in a cluster; None: there is none, or it is this one."""
        return self._hosts.get((cluster, number))

    def renew_connections(self) -> None:
        """Replace the connections that were not made by the ring's first key."""
        for host in self._hosts.values():
            end = self._secure.get(host.member.name)
            if end is not None and not end.key_is_first:
                host.renew(at_once=not end.key_in_force)

    def states(self) -> Mapping[str, HostState]:
        """Return what the other hosts have told lately, by name; those that only relay, too."""
        self._look()
        return {name: state for name, (state, _) in self._known.items()}

    def choose(
        self, cluster: int, tried: Collection[RemoteHost], own: HostState | None = None
    ) -> RemoteHost | None:
        """Return the host of a cluster to ask: the emptiest for its size that has room.

        None: none has room, or this host is as good. ``own`` is its room, if it may be chosen.
        """
        best: RemoteHost | None = None
        least = 1.0
        if own is not None and own.room:
            least = own.sessions / max(own.sessions_max, 1) - HOP_WORTH
        self._look()
        for host in self._by_cluster.get(cluster, ()):
            heard = self._known.get(host.member.name)
            if heard is None or host in tried or host.is_avoided:
                continue
            state, heard_at = heard
            unheard = host.unheard(heard_at)
            if unheard >= state.room:
                continue
            fullness = (state.sessions + unheard) / max(state.sessions_max, 1)
            if fullness < least:
                best, least = host, fullness
        return best

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_INTERVAL:
            return
        self._looked_at = now
        heard = {each.name: self._states.heard(each.name, now) for each in self._fleet.peers}
        self._known = {name: each for name, each in heard.items() if each is not None}

    async def _connect(self, member: Member) -> Channel:
        stream, end = await call_member(self._fleet, member, self._ring)
        self._secure[member.name] = end
        return Channel(stream, end)
