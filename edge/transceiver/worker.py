"""The transceiver worker: receives frames, makes sessions for offers, serves signaling.

One internal UDP socket for all sessions, one signaling listener of its own per address, the public
sockets to send on. What sessions do is in session.py, how they are driven in driver.py.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping

import trio
from attrs import field, frozen

from edge import control, process
from edge.audio.opus import opus_version
from edge.backend.dialect import SessionFacts
from edge.backend.poller import Poller
from edge.dtls.certificate import Fingerprint, Identity
from edge.dtls.context import DtlsContexts
from edge.dtls.keying import Role
from edge.errors import LocalProtocolError, SignalError
from edge.ice.candidate import encode_candidate, host_candidates
from edge.ice.credentials import Credentials
from edge.media.payloads import Codec, PayloadTypes
from edge.media.punctuality import BUCKETS, Punctuality, PunctualityStatistics
from edge.routing.ufrag import RoutingKey, UfragIssuer, derive_password
from edge.signal.answer import LocalFacts, RemoteFacts, answer_offer
from edge.signal.host import SessionRequest, StateReport
from edge.signal.messages import ByeReason, ErrorCode
from edge.signal.page import PageFile
from edge.signal.sdp import Setup, decode_offer
from edge.signal.server import serve_signaling
from edge.signal.settings import SignalSettings
from edge.transceiver.backends import BackendMaker, MediaSettings, Route, policy_for
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.receiver import FrameReceiver
from edge.transceiver.reports import END_REASONS, reports
from edge.transceiver.session import Ended, EndReason, LayerUp, Peer, Session, SessionLimits

IDENTITY_LIFETIME = 24 * 3600.0
"""How long one certificate is used for new sessions."""
FAREWELL_TIME = 0.5
"""How long signaling connections get to deliver the last word when the worker ends."""


@frozen
class TransceiverSettings:
    """What one transceiver worker needs to know."""

    index: int
    cluster: int
    public: tuple[socket.socket, ...]
    """One socket per public address, to send on."""
    advertised: tuple[tuple[str, int], ...]
    """Where clients reach those, for the answer's candidates."""
    internal: socket.socket
    relays: tuple[tuple[str, int], ...]
    """Internal addresses of the relay workers: frames from elsewhere are not taken."""
    listeners: tuple[socket.socket, ...]
    signal: SignalSettings
    page: Mapping[str, PageFile] | None
    routing_key: RoutingKey
    """Seals new ufrags."""
    password_key: bytes = field(repr=False)
    sessions_max: int
    limits: SessionLimits
    routes: Mapping[str, Route]
    default_route: str
    media: MediaSettings


def run(frame: process.Frame, settings: TransceiverSettings) -> None:
    """Entry point of the worker process."""
    process.run_worker(frame, lambda: Transceiver(settings))


@frozen
class Opened:
    """A session as the signaling connection that opened it sees it."""

    id: str
    answer_sdp: str
    _driver: Driver
    _driven: Driven

    def close(self, reason: ByeReason) -> None:
        """End the session; nothing happens if it has ended already."""
        self._driver.end(self._driven, END_REASONS[reason], trio.current_time())


class Transceiver:
    """One transceiver worker."""

    def __init__(self, settings: TransceiverSettings) -> None:
        opus_version()  # what cannot be loaded should not be found out by the first caller
        self._settings = settings
        self._punctuality = Punctuality()
        self._driver = Driver(
            settings.public, settings.internal, settings.relays, self._punctuality
        )
        self._receiver = FrameReceiver(
            settings.internal, self._driver.receive_frame, self._driver.fire
        )
        self._poller = Poller()
        self._use_key(settings.routing_key)
        self._candidates = tuple(
            encode_candidate(candidate) for candidate in host_candidates(settings.advertised)
        )
        self._wall_offset = time.time() - trio.current_time()
        self._renew_identity()
        self._opened = 0
        self._draining = False
        self._signaling = trio.CancelScope()
        self._signaling_ended = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        settings = self._settings
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receiver.run)
            nursery.start_soon(self._driver.run_timers)
            nursery.start_soon(self._poller.run)
            self._backends = BackendMaker(
                settings.media,
                self._driver,
                self._punctuality,
                self._poller,
                nursery.start_soon,
                os.urandom,
            )
            await nursery.start(self._serve_signaling)
            task_status.started()

    async def drain(self, grace: float) -> None:
        """Refuse new sessions; end those that are left after ``grace`` seconds."""
        self._draining = True
        with trio.move_on_after(grace):
            while len(self._driver):
                await self._driver.empty.wait()
        self._driver.end_all(EndReason.GOING_AWAY, trio.current_time())
        self._signaling.cancel()
        with trio.move_on_after(FAREWELL_TIME):
            await self._signaling_ended.wait()

    def obey(self, order: control.Order) -> None:
        match order:
            case control.IssueWith(_, key):
                self._use_key(RoutingKey(key.id, key.key))
            case control.TrustRelays(_, relays):
                self._driver.trust(relays)
            case control.AcceptKeys():
                raise LocalProtocolError("accepting keys is for relays")

    def statistics(self) -> control.TransceiverStatistics:
        driver = self._driver
        return control.TransceiverStatistics(
            sessions=len(driver),
            sessions_by_key=dict(driver.sessions_by_key()),
            opened=self._opened,
            reached_media=driver.reached_media,
            ended=dict(driver.ended),
            packets_received=driver.packets_received,
            packets_sent=driver.packets_sent,
            punctuality=_punctuality(self._punctuality.statistics()),
            drops=dict(driver.all_drops()),
        )

    def open_session(
        self, request: SessionRequest, report: Callable[[StateReport], None]
    ) -> Opened:
        """Answer an offer with a new session.

        Raises:
            SdpError: the offer cannot be accepted; the message says why.
            SignalError: ``busy``, also while draining; ``unknown-route``.

        """
        settings = self._settings
        if self._draining:
            raise SignalError(ErrorCode.BUSY, "this server is shutting down")
        if len(self._driver) >= settings.sessions_max:
            raise SignalError(ErrorCode.BUSY, "this server has no room for another session")
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
        answer = answer_offer(
            offer,
            LocalFacts(
                ufrag=local.ufrag,
                password=local.password,
                fingerprint=self._fingerprint,
                candidates=self._candidates,
                session_id=int.from_bytes(os.urandom(8)) >> 1,
                ssrc=ssrc,
                cname=cname,
            ),
            policy_for(route, settings.media),
        )
        session_id = f"{settings.cluster}.{settings.index}.{secrets.token_urlsafe(12)}"
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
        )

        def tell(event: LayerUp | Ended) -> None:
            backend.follow(event)
            for each in reports(event, trio.current_time() - now):
                report(each)

        driven = Driven(session_id, local.ufrag.encode(), session, tell, self._key_id)
        backend.attach(driven)
        self._driver.add(driven, now)
        self._opened += 1
        return Opened(session_id, answer.sdp, self._driver, driven)

    def _use_key(self, key: RoutingKey) -> None:
        """Seal new ufrags with this key."""
        self._key_id = key.id
        settings = self._settings
        self._issuer = UfragIssuer(settings.cluster, settings.index, key, os.urandom)

    def _issue_credentials(self, now: float) -> Credentials:
        ufrag = self._issuer.issue(now + self._wall_offset)
        return Credentials(ufrag, derive_password(self._settings.password_key, ufrag))

    def _renew_identity(self) -> None:
        """Make a new certificate; sessions that run keep theirs."""
        self._identity_made_at = trio.current_time()
        identity = Identity.create(os.urandom, time.time())
        self._fingerprint = str(identity.fingerprint())
        self._contexts = DtlsContexts(identity)

    async def _serve_signaling(
        self,
        *,
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        settings = self._settings
        listeners = [
            trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in settings.listeners
        ]
        with self._signaling:
            await serve_signaling(
                listeners, settings.signal, self, settings.page, task_status=task_status
            )
        self._signaling_ended.set()


def _punctuality(figures: PunctualityStatistics) -> control.Punctuality:
    bounds = [f"{bound * 1000:g}" for bound in BUCKETS]
    return control.Punctuality(
        frames=figures.frames,
        skipped=figures.skipped,
        on_time_ratio=figures.on_time_ratio,
        late_up_to=dict(zip([*bounds, "more"], figures.histogram, strict=True)),
    )


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
        clock_rate_hz=payloads.clock_rate_hz,
    )
