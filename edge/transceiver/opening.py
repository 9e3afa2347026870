"""Makes the sessions of a worker: from an offer an answer, a backend, a session that is driven."""

import os
import secrets
import time
from functools import lru_cache

import trio
from attrs import define, evolve

from edge.backend.dialect import SessionFacts
from edge.dtls.certificate import Fingerprint, Identity
from edge.dtls.context import DtlsContexts
from edge.dtls.keying import Role
from edge.errors import SignalError
from edge.ice.candidate import encode_candidate, host_candidates
from edge.ice.credentials import Credentials
from edge.media.payloads import Codec, PayloadTypes
from edge.routing.ufrag import RoutingKey, UfragIssuer, derive_password
from edge.signal.acceptance import RemoteFacts
from edge.signal.answer import Answer, LocalFacts, answer_offer
from edge.signal.formats import MediaPolicy
from edge.signal.host import Report, SessionRequest
from edge.signal.messages import ErrorCode
from edge.signal.renegotiation import answer_again
from edge.signal.sdp import Setup, decode_offer
from edge.transceiver.backends import BackendMaker, policy_for
from edge.transceiver.driven import Description, Driven
from edge.transceiver.driver import Driver
from edge.transceiver.reports import reports
from edge.transceiver.session import Ended, EndReason, LayerUp, Peer, Session
from edge.transceiver.settings import TransceiverSettings

IDENTITY_LIFETIME = 24 * 3600.0
"""How long one certificate is used for new sessions."""
CANDIDATE_LISTS_MAX = 256
"""That are kept for the next client with the same relays."""


class SessionMaker:
    """Makes sessions for one worker's driver."""

    def __init__(
        self, settings: TransceiverSettings, driver: Driver, backends: BackendMaker
    ) -> None:
        self._settings = settings
        self._driver = driver
        self._backends = backends
        self._wall_offset = time.time() - trio.current_time()
        self._candidates = lru_cache(maxsize=CANDIDATE_LISTS_MAX)(self._encode_candidates)
        self.use_key(settings.routing_key)
        self._renew_identity()
        self.opened = 0

    def use_key(self, key: RoutingKey) -> None:
        """Seal new ufrags with this key."""
        self._key_id = key.id
        settings = self._settings
        self._issuer = UfragIssuer(settings.cluster, settings.number, key, os.urandom)

    def make(self, request: SessionRequest, report: Report) -> "OpenSession":
        """Answer an offer with a new session.

        Raises:
            SdpError: the offer cannot be accepted; the message says why.
            SignalError: ``unknown-route``.

        """
        settings = self._settings
        route_name = request.route or settings.default_route
        route = settings.routes.get(route_name)
        if route is None:
            raise SignalError(ErrorCode.UNKNOWN_ROUTE, f"there is no route {route_name}")
        offer = decode_offer(request.sdp)
        now = trio.current_time()
        if now - self._identity_made_at > IDENTITY_LIFETIME:
            self._renew_identity()
        local = self._issue_credentials(now)
        ssrc = int.from_bytes(os.urandom(4))
        cname = secrets.token_urlsafe(12)
        policy = policy_for(route, settings.media)
        answer = answer_offer(
            offer,
            LocalFacts(
                ufrag=local.ufrag,
                password=local.password,
                fingerprint=self._fingerprint,
                candidates=self._candidates(request.relays),
                session_id=int.from_bytes(os.urandom(8)) >> 1,
                ssrc=ssrc,
                cname=cname,
            ),
            policy,
        )
        session_id = f"{settings.cluster}.{settings.number}.{secrets.token_urlsafe(12)}"
        payloads = _payload_types(answer.remote)
        facts = SessionFacts(session_id, route_name, payloads.codec, request.metadata)
        backend = self._backends.make(route, ssrc, payloads, facts, now)
        session = Session(
            local,
            _peer(answer.remote, payloads),
            backend.media,
            self._contexts,
            settings.limits,
            cname=cname.encode(),
            wall_offset=self._wall_offset,
            entropy=os.urandom,
            now=now,
            quality=self._driver.tally.quality,
        )

        def tell(event: LayerUp | Ended) -> None:
            backend.follow(event)
            for each in reports(event, trio.current_time() - now):
                report(each)

        driven = Driven(
            session_id,
            local.ufrag.encode(),
            session,
            tell,
            self._key_id,
            description=Description(route_name, payloads.codec.value, now, backend.figures),
        )
        backend.attach(driven)
        self._driver.add(driven, now)
        self.opened += 1
        return OpenSession(self, driven, answer, policy)

    def restart(self, session: "OpenSession", text: str) -> Answer:
        """Answer a later offer of a session, or a fragment, and have the session follow it.

        Raises:
            SdpError: as ``answer_again``; nothing has changed.

        """
        now = trio.current_time()
        local = self._issue_credentials(now)
        fresh = evolve(session.agreed.local, ufrag=local.ufrag, password=local.password)
        answer = answer_again(text, session.agreed, fresh, session.policy)
        if answer.local is fresh:
            self._driver.restart_ice(session.driven, local, self._key_id, now)
        session.driven.session.redirect(
            may_send=answer.remote.may_send, may_receive=answer.remote.may_receive
        )
        return answer

    def end(self, driven: Driven, reason: EndReason) -> None:
        """End a session; nothing happens if it has ended already."""
        self._driver.end(driven, reason, trio.current_time())

    def _issue_credentials(self, now: float) -> Credentials:
        ufrag = self._issuer.issue(now + self._wall_offset)
        return Credentials(ufrag, derive_password(self._settings.password_key, ufrag))

    def _encode_candidates(self, relays: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
        """Return the lines for an answer. By TCP the host's own relays alone can be reached."""
        settings = self._settings
        found = host_candidates(relays or settings.advertised, settings.advertised_tcp)
        return tuple(encode_candidate(candidate) for candidate in found)

    def _renew_identity(self) -> None:
        """Make a new certificate; sessions that run keep theirs."""
        self._identity_made_at = trio.current_time()
        identity = Identity.create(os.urandom, time.time())
        self._fingerprint = str(identity.fingerprint())
        self._contexts = DtlsContexts(identity)


@define(eq=False)
class OpenSession:
    """A session in the driver, with what it has agreed on."""

    _maker: SessionMaker
    driven: Driven
    agreed: Answer
    policy: MediaPolicy

    @property
    def id(self) -> str:
        return self.driven.id

    @property
    def answer_sdp(self) -> str:
        return self.agreed.sdp

    def restart(self, offer_sdp: str) -> str:
        """Answer a later offer, or a fragment. Raises SdpError."""
        self.agreed = self._maker.restart(self, offer_sdp)
        return self.agreed.sdp

    def end(self, reason: EndReason) -> None:
        self._maker.end(self.driven, reason)


def _payload_types(remote: RemoteFacts) -> PayloadTypes:
    formats = remote.formats
    return PayloadTypes(
        codec=Codec(formats.codec),
        audio=formats.audio,
        redundancy=formats.redundancy,
        telephone_event=formats.telephone_event,
        comfort_noise=formats.comfort_noise,
        level_extension=remote.audio_level_extension,
    )


def _peer(remote: RemoteFacts, payloads: PayloadTypes) -> Peer:
    return Peer(
        role=Role.CLIENT if remote.setup is Setup.ACTIVE else Role.SERVER,
        fingerprints=tuple(Fingerprint.parse(str(each)) for each in remote.fingerprints),
        payload_types=payloads.all,
        mid=remote.mid.encode() if remote.mid is not None else None,
        mid_extension=remote.mid_extension,
        may_send=remote.may_send,
        may_receive=remote.may_receive,
        clock_rate_hz=payloads.clock_rate_hz,
    )
