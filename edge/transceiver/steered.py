"""The session host of a worker in a fleet: which cluster a session goes to, and over which relays.

Around the host's own: a client that another cluster is nearer to is redirected there, or its
session is opened there through the control channel between hosts. A cluster that refuses for want
of room, or does not answer, is followed by the next nearest. The own cluster is always asked, if
nobody else has room, and says why it has none.
"""

from collections.abc import Sequence
from typing import Protocol

from attrs import evolve

from edge.errors import RedirectError
from edge.fleet.guidance import FleetView
from edge.signal.host import OpenedSession, Report, SessionRequest
from edge.steering.choice import Steering
from edge.steering.visitor import Visitor


class FleetHost(Protocol):
    """A ``SessionHost`` that reaches other clusters."""

    async def open_in(
        self, clusters: Sequence[int], request: SessionRequest, report: Report
    ) -> OpenedSession:
        """Open a session in the first of these clusters that has room. Raises as SessionHost."""

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        """``SessionHost.attach``."""


class SteeredHost:
    """A ``SessionHost`` around the one of this host."""

    def __init__(self, host: FleetHost, steering: Steering, view: FleetView) -> None:
        self._host = host
        self._steering = steering
        self._view = view
        self.redirected = 0
        """Clients that were sent to another cluster."""

    async def open_session(self, request: SessionRequest, report: Report) -> OpenedSession:
        """Open a session in the cluster that is best for the client.

        Raises:
            SdpError, SignalError, AccessError: as its owner.
            RedirectError: the client is to go there by itself.

        """
        steering, visitor = self._steering, request.visitor or Visitor(request.source)
        vacancies = self._view.vacancies()
        elsewhere = steering.redirect(visitor, vacancies)
        if elsewhere is not None:
            self.redirected += 1
            raise RedirectError(elsewhere)
        clusters = [each.id for each in steering.order(visitor, vacancies)]
        if steering.own is not None and steering.own not in clusters:
            clusters.append(steering.own)
        relays = steering.relays(visitor, self._view.sites_down())
        placed = evolve(request, visitor=None, relays=relays)
        return await self._host.open_in(clusters, placed, report)

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        """Find a living session, whoever owns it. Raises SignalError."""
        return await self._host.attach(session, secret, report)
