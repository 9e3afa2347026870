"""What signaling needs of whoever owns the sessions. All doors end here."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import field, frozen

from edge.access.tokens import Grant
from edge.signal.messages import Bye, ByeReason, Error, GoingAway, State, Staying
from edge.steering.visitor import Visitor

StateReport = State | GoingAway | Staying | Bye | Error
"""What a session tells its client on its own. A Bye is the last of it. An Error, ``replaced``, is
the last that this receiver gets, because another one has attached."""

Report = Callable[[StateReport], None]
"""Takes a session's reports. It never blocks and never raises."""


@frozen
class SessionRequest:
    """What a client asks for."""

    sdp: str = field(repr=False)
    """Its offer."""
    route: str | None = None
    """None: the default one."""
    metadata: Mapping[str, Any] = field(factory=dict, repr=False)
    """For the backend: JSON, not to be trusted."""
    source: str = ""
    """The client's numeric address, as signaling sees it."""
    grant: Grant | None = field(default=None, repr=False)
    """What it may do, for the owner of the session to use up (``AccessPolicy.admit``). None where
    no policy is in force."""
    lasting: bool = False
    """The client keeps no signaling connection: the session lives on when nobody is attached."""
    visitor: Visitor | None = None
    """Where the client is, for whoever chooses the session's owner; the owner needs none of it."""
    relays: tuple[tuple[str, int], ...] = ()
    """Public relay addresses for the answer, the one to prefer first. Empty: the owner's own."""


class OpenedSession(Protocol):
    """A session that was opened or attached to through signaling."""

    @property
    def id(self) -> str:
        """``cluster.transceiver.random``: names its owner, and is fit for logs."""

    @property
    def answer_sdp(self) -> str:
        """The latest answer."""

    @property
    def secret(self) -> str:
        """Whoever has it may attach. Unguessable, URL-safe without a dot, and not for logs."""

    async def restart(self, offer_sdp: str) -> str:
        """Answer a later offer, an ICE restart or a renegotiation.

        ``offer_sdp`` may be a fragment (RFC 8840 section 9) with the client's new ICE credentials;
        then so is what is returned, with ours. A failed restart leaves the session as it was.

        Raises:
            SdpError: it is malformed, or asks for what this session cannot follow.
            SignalError: ``unknown-session``: it has ended.

        """

    def close(self, reason: ByeReason) -> None:
        """End the session. Does nothing if it is over; reports from now on are ignored."""

    def detach(self) -> None:
        """Leave the session without signaling: it lives on for the grace time, then it ends."""


class SessionHost(Protocol):
    """Opens sessions and finds them again, whichever worker owns them."""

    async def open_session(self, request: SessionRequest, report: Report) -> OpenedSession:
        """Open a session for an offer.

        ``report`` may be called from when this returns until the Bye.

        Raises:
            SdpError: the offer is malformed or refused.
            SignalError: with an ``ErrorCode`` as its reason: ``busy`` or ``unknown-route``.
            AccessError: the request's grant is used up, or a quota is.
            RedirectError: the client is to ask another cluster.

        """

    async def attach(
        self, session: str, secret: str | None, report: Report | None
    ) -> OpenedSession:
        """Find a living session; its reports go to ``report`` from now on.

        First of all, when this has returned, come the states that its layers have. None is for a
        visit: reports go on to whoever has them, and ``detach`` ends the visit and nothing else.

        ``secret`` is the session's own; None if the caller has authenticated the client by itself.

        Raises:
            SignalError: ``unknown-session``: there is none, or the secret is wrong.

        """
