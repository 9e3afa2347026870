"""The session host of one worker: where all doors of its signaling end.

It chooses the owner of every new session among the workers of the host, and finds the owner of a
session by its id. What this worker owns itself does not leave it.
"""

from collections.abc import Mapping

import trio

from edge.errors import SignalError
from edge.signal.host import OpenedSession, Report, SessionRequest
from edge.signal.messages import ErrorCode
from edge.transceiver.channel import NeighbourError
from edge.transceiver.neighbours import REPLY_TIME, Neighbour, RemoteSession
from edge.transceiver.placement import Placement
from edge.transceiver.residents import Attachment, Residents, unknown_session

BUSY_RETRY = 5.0
"""When a client that was told ``busy`` may try again: late frames are forgotten by then."""

_INDEX_DIGITS_MAX = 4


class Host:
    """A ``SessionHost``. ``neighbours`` are the other workers by their index."""

    def __init__(
        self,
        cluster: int,
        worker: int,
        residents: Residents,
        neighbours: Mapping[int, Neighbour],
        placement: Placement,
    ) -> None:
        self._cluster = cluster
        self._worker = worker
        self._residents = residents
        self._neighbours = neighbours
        self._placement = placement
        self.opened_here = 0
        """Sessions that this worker has accepted and owns."""
        self.opened_elsewhere = 0
        """Sessions that it has accepted, and another worker owns."""
        self.refused = 0
        """Offers that no worker had room for."""

    @property
    def remote_sessions(self) -> int:
        """Sessions of other workers that this worker's signaling is attached to."""
        return sum(neighbour.sessions for neighbour in self._neighbours.values())

    def check_room(self) -> None:
        """Refuse another session of this worker's own if there is no room for it.

        Raises:
            SignalError: busy.

        """
        if not self._placement.has_room:
            raise self._busy()

    async def open_session(self, request: SessionRequest, report: Report) -> OpenedSession:
        """Open a session, on the worker that has the most room for it.

        Raises:
            SdpError, SignalError, AccessError: as its owner; ``busy`` only if no worker has room.

        """
        tried: set[int] = set()
        while True:
            worker = self._placement.choose(tried)
            if worker is None:
                self.refused += 1
                raise self._busy()
            tried.add(worker)
            if worker == self._worker:
                attachment = self._residents.open(request, report)
                self.opened_here += 1
                return _begun(attachment)
            opened = await self._open_there(worker, request, report)
            if opened is not None:
                self.opened_elsewhere += 1
                return _begun(opened)

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        """Find a living session of this host.

        Raises:
            SignalError: unknown-session; ``busy`` if its owner does not answer.

        """
        owner = self._owner(session)
        if owner == self._worker:
            return _begun(self._residents.attach(session, secret, report))
        neighbour = self._neighbours.get(owner)
        if neighbour is None:
            raise unknown_session()
        try:
            return _begun(await neighbour.attach(session, secret, report))
        except NeighbourError as exc:
            text = "The session's owner does not answer."
            raise SignalError(ErrorCode.BUSY, text, retry_after=REPLY_TIME) from exc

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
        else:
            text = "This server has no room for another session now."
        return SignalError(ErrorCode.BUSY, text, retry_after=BUSY_RETRY)

    def _owner(self, session: str) -> int:
        """Return the index in a session's id; -1 if it is not of this host."""
        cluster, _, rest = session.partition(".")
        index = rest.partition(".")[0]
        if cluster != str(self._cluster) or not (index.isascii() and index.isdecimal()):
            return -1
        return int(index) if len(index) <= _INDEX_DIGITS_MAX else -1


def _begun(session: "Attachment | RemoteSession") -> OpenedSession:
    """Let its reports flow as soon as whoever asked for the session has it."""
    trio.lowlevel.current_trio_token().run_sync_soon(session.begin)
    return session
