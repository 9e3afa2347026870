"""The session host of one worker: where all doors of its signaling end.

It chooses the owner of every new session among the workers of the host, in a fleet first among the
hosts of a cluster, and finds the owner of a session by its id. What this worker owns itself does
not leave it. Each host, and on a host each worker, is asked at most once for an offer.
"""

from collections.abc import Mapping, Sequence

from edge.errors import SignalError
from edge.routing.numbers import split_number
from edge.signal.host import OpenedSession, Report, SessionRequest
from edge.signal.messages import ErrorCode
from edge.transceiver.attachment import unknown_session
from edge.transceiver.channel import NeighbourError
from edge.transceiver.neighbours import REPLY_TIME, Neighbour, RemoteSession
from edge.transceiver.owning import Owned, begun
from edge.transceiver.peers import Peers, RemoteHost
from edge.transceiver.placement import Placement
from edge.transceiver.residents import Residents

BUSY_RETRY = 5.0
"""When a client that was told ``busy`` may try again: late frames are forgotten by then."""

_NUMBER_DIGITS_MAX = 5


class Host:
    """A ``SessionHost``. ``neighbours`` are the other workers by their slot.

    ``number`` is that of the host in its cluster; ``peers`` are the other hosts of its fleet.
    """

    def __init__(
        self,
        cluster: int,
        worker: int,
        residents: Residents,
        neighbours: Mapping[int, Neighbour],
        placement: Placement,
        number: int = 0,
        peers: Peers | None = None,
    ) -> None:
        self._cluster = cluster
        self._number = number
        self._peers = peers
        self._worker = worker
        self._residents = residents
        self._neighbours = neighbours
        self._placement = placement
        self.opened_here = 0
        """Sessions that this worker has accepted, from clients or other hosts, and owns."""
        self.opened_elsewhere = 0
        """Sessions that it has accepted, and another worker owns."""
        self.opened_at_peers = 0
        """Sessions that it has accepted, and another host owns."""
        self.opened_for_peers = 0
        """Sessions that other hosts have asked it for."""
        self.refused = 0
        """Offers that no worker had room for."""

    @property
    def remote_sessions(self) -> int:
        """Sessions of other workers and hosts that this worker's signaling is attached to."""
        at_peers = self._peers.sessions if self._peers is not None else 0
        return at_peers + sum(neighbour.sessions for neighbour in self._neighbours.values())

    def check_room(self) -> None:
        """Refuse another session of this worker's own if there is no room for it.

        Raises:
            SignalError: busy.

        """
        if not self._placement.has_room:
            raise self._busy()

    async def open_session(self, request: SessionRequest, report: Report) -> OpenedSession:
        """Open a session in this host's cluster.

        Raises:
            SdpError, SignalError, AccessError: as its owner; ``busy`` only if nobody has room.

        """
        return await self.open_in((self._cluster,), request, report)

    async def open_in(
        self, clusters: Sequence[int], request: SessionRequest, report: Report
    ) -> OpenedSession:
        """Open a session in the first of these clusters that has room, on its emptiest host.

        Raises:
            SdpError, SignalError, AccessError: as ``open_session``.

        """
        for cluster in clusters:
            opened = await self._open_in_one(cluster, request, report)
            if opened is not None:
                return opened
        self.refused += 1
        raise self._busy()

    async def open_here(self, request: SessionRequest, report: Report) -> Owned:
        """Open a session on this host, on the worker that has the most room for it.

        Raises:
            SdpError, SignalError, AccessError: as its owner; ``busy`` only if no worker has room.

        """
        tried: set[int] = set()
        while True:
            worker = self._placement.choose(tried)
            if worker is None:
                raise self._busy()
            tried.add(worker)
            if worker == self._worker:
                attachment = self._residents.open(request, report)
                self.opened_here += 1
                return begun(attachment)
            opened = await self._open_there(worker, request, report)
            if opened is not None:
                self.opened_elsewhere += 1
                return begun(opened)

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        """Find a living session of this host or its fleet.

        Raises:
            SignalError: unknown-session; ``busy`` if its owner does not answer.

        """
        peer = self._peer_of(session)
        if peer is None:
            return await self.attach_here(session, secret, report)
        try:
            return begun(await peer.attach(session, secret, report))
        except NeighbourError as exc:
            raise _no_answer() from exc

    async def attach_here(self, session: str, secret: str | None, report: Report | None) -> Owned:
        """Find a living session of this host; errors as those of ``attach``."""
        owner = self._owner(session)
        if owner == self._worker:
            return begun(self._residents.attach(session, secret, report))
        neighbour = self._neighbours.get(owner)
        if neighbour is None or not self._placement.has_worker(owner):
            raise unknown_session()
        try:
            return begun(await neighbour.attach(session, secret, report))
        except NeighbourError as exc:
            raise _no_answer() from exc

    async def _open_in_one(
        self, cluster: int, request: SessionRequest, report: Report
    ) -> OpenedSession | None:
        """Open a session in a cluster; None if it has no room."""
        is_own = cluster == self._cluster
        tried: set[RemoteHost] = set()
        while True:
            own = self._placement.of_host() if is_own else None
            peer = self._peers.choose(cluster, tried, own) if self._peers is not None else None
            try:
                if peer is not None:
                    tried.add(peer)
                    opened = await peer.open_session(request, report)
                    self.opened_at_peers += 1
                    return begun(opened)
                if not is_own:
                    return None
                is_own = False
                return await self.open_here(request, report)
            except NeighbourError:
                continue
            except SignalError as exc:
                if exc.reason != ErrorCode.BUSY:
                    raise

    async def _open_there(
        self, worker: int, request: SessionRequest, report: Report
    ) -> RemoteSession | None:
        """Ask another worker; None if it has no room, or is gone."""
        self._placement.pending[worker] += 1
        try:
            return await self._neighbours[worker].open_session(request, report)
        except NeighbourError:
            return None
        except SignalError as exc:
            if exc.reason != ErrorCode.BUSY:
                raise
            return None
        finally:
            self._placement.pending[worker] -= 1

    def _busy(self) -> SignalError:
        if self._placement.draining:
            text = "This server is shutting down."
        elif self._placement.paused:
            text = "This server takes no new sessions for now."
        else:
            text = "This server has no room for another session now."
        return SignalError(ErrorCode.BUSY, text, retry_after=BUSY_RETRY)

    def _peer_of(self, session: str) -> RemoteHost | None:
        """Return the other host that a session's id names."""
        parsed = _parse_id(session)
        if parsed is None or self._peers is None:
            return None
        cluster, number = parsed
        return self._peers.find(cluster, split_number(number)[0])

    def _owner(self, session: str) -> int:
        """Return the slot in a session's id; -1 if it is not of this host."""
        parsed = _parse_id(session)
        if parsed is None or parsed[0] != self._cluster:
            return -1
        host, slot = split_number(parsed[1])
        return slot if host == self._number else -1


class ForPeers:
    """What a host does for the others of its fleet: a ``Source`` that passes nothing on to them."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def open_session(self, request: SessionRequest, report: Report) -> Owned:
        opened = await self._host.open_here(request, report)
        self._host.opened_for_peers += 1
        return opened

    async def attach(self, session: str, secret: str | None, report: Report | None) -> Owned:
        return await self._host.attach_here(session, secret, report)


def _parse_id(session: str) -> tuple[int, int] | None:
    """Return the numbers of cluster and transceiver in a session's id."""
    parts = session.split(".", 2)[:2]
    for each in parts:
        if not (each.isascii() and each.isdecimal() and len(each) <= _NUMBER_DIGITS_MAX):
            return None
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else None


def _no_answer() -> SignalError:
    text = "The session's owner does not answer."
    return SignalError(ErrorCode.BUSY, text, retry_after=REPLY_TIME)
