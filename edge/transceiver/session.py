"""One peer: ICE, DTLS, SRTP and RTP composed into a single machine.

Theory. A session is made when its offer is answered and lives until one of its parts, its owner or
its peer ends it. Its layers come up in order, each the condition of the next:

- *ICE*: the first authenticated check makes an address valid. DTLS starts there at once, without
  waiting for nomination (browsers send their ClientHello earlier, too), and follows the selected
  address afterwards. DTLS and media from addresses that ICE has not validated are dropped unread.
- *DTLS*: handshake done and fingerprint right. From here on SRTP can be read and written.
- *media*: the first authenticated RTP packet that was negotiated.

If ICE or DTLS are not up when ``setup_timeout`` is over, the session ends with the layer's name in
the reason. Authenticated media counts as a sign of life for ICE's consent.

A restart of ICE (``restart_ice``) concerns ICE alone. DTLS, SRTP and the media endpoint stay as
they are, and send where ICE then says; sequence numbers, timestamps and reports go on.

Media does not pass the event queue: every received packet goes straight to the media endpoint. Its
answer does not pass the queue of datagrams either if the owner uses ``answer_datagram``, because
this is the path that costs: draining took a fifth of the time that an echoed packet takes
(bench/echo). What the endpoint sends by itself is due at times of its own, ``next_media``, which
the owner schedules apart from the session's time-outs, for the same reason.
"""

from typing import assert_never

from edge.demux import Kind, classify
from edge.dtls.context import DtlsContexts
from edge.dtls.transport import DtlsTransport, HandshakeCompleted, HandshakeFailed, PeerClosed
from edge.errors import RtpError, SrtpError
from edge.ice.agent import (
    ConsentLost,
    CredentialsRetired,
    IceLiteAgent,
    PairSelected,
    PeerValidated,
)
from edge.ice.credentials import Credentials
from edge.machine import Address, Entropy, Machine
from edge.media.endpoint import MediaEndpoint, PacedPacket
from edge.rtp.extensions import decode_extensions
from edge.rtp.packet import RtpPacket, decode_rtp
from edge.rtp.quality import Quality
from edge.rtp.reporter import Reporter, SourceLeft, StreamReported
from edge.srtp.session import SrtpSession
from edge.transceiver.vocabulary import (
    AddressValidated,
    Ended,
    EndReason,
    Layer,
    LayerUp,
    Peer,
    SessionEvent,
    SessionLimits,
    SessionStatistics,
    UfragRetired,
)

__all__ = [
    "AddressValidated",
    "EndReason",
    "Ended",
    "Layer",
    "LayerUp",
    "Peer",
    "Session",
    "SessionEvent",
    "SessionLimits",
    "SessionStatistics",
    "UfragRetired",
]

SOURCES_BOUND_MAX = 8
"""SSRCs that are remembered as ours; SRTP takes no more of them either."""


_DTLS_REASONS = {
    "timeout": EndReason.DTLS_TIMEOUT,
    "fingerprint-mismatch": EndReason.FINGERPRINT_MISMATCH,
    "no-srtp-profile": EndReason.NO_SRTP_PROFILE,
}


class Session(Machine[SessionEvent]):
    """One peer's session. Times: seconds on the caller's monotonic clock.

    ``wall_offset`` is Unix time minus that clock. What RTCP tells is counted in ``quality``, too.
    """

    def __init__(
        self,
        local: Credentials,
        peer: Peer,
        media: MediaEndpoint,
        contexts: DtlsContexts,
        limits: SessionLimits,
        *,
        cname: bytes,
        wall_offset: float,
        entropy: Entropy,
        now: float,
        quality: Quality | None = None,
    ) -> None:
        super().__init__()
        self._peer = peer
        self._media = media
        self._ice = IceLiteAgent(local, silence_limit=limits.consent_timeout)
        self._dtls = DtlsTransport(
            peer.role, contexts, peer.fingerprints, handshake_timeout=limits.setup_timeout
        )
        self._srtp: SrtpSession | None = None
        self._reporter = Reporter(
            media.ssrc,
            cname,
            wall_offset,
            entropy,
            clock_rate_hz=peer.clock_rate_hz,
            quality=quality,
        )
        self._sources: set[int] = set()
        self._made_at = now
        self._setup_until: float | None = now + limits.setup_timeout
        self._layers: dict[Layer, float] = {}
        self._media_up = False
        self._media_expected = peer.may_receive
        self._may_send = peer.may_send
        self._dtls_datagrams = 0
        self._duration: float | None = None
        self._closed = False

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        answer = self.answer_datagram(data, source, now)
        if answer is not None:
            assert self.destination is not None  # see answer_datagram
            self._transmit(answer, self.destination)

    def answer_datagram(self, data: bytes, source: Address, now: float) -> bytes | None:
        """Take one datagram as ``receive_datagram`` does, but return an answer to media at once.

        The answer is for ``destination``. After media or RTCP, answered or not, there is nothing to
        drain and no earlier time-out unless ``pending``, as it is after the first packet of media;
        only ``next_media`` may be earlier.
        """
        if self._closed:
            return None
        kind = classify(data)
        if kind is Kind.RTP:  # first and not in the match: nearly all that comes is this
            return self._receive_rtp(data, source, now)
        match kind:
            case Kind.RTCP:
                self._receive_rtcp(data, source, now)
            case Kind.STUN:
                self._ice.receive_datagram(data, source, now)
                self._follow_ice(now)
            case Kind.DTLS:
                self._receive_dtls(data, source, now)
            case Kind.UNKNOWN:
                self.drops["unknown-protocol"] += 1
        return None

    @property
    def destination(self) -> Address | None:
        """Where media goes; there is one as soon as there are keys."""
        return self._ice.selected

    @property
    def pending(self) -> bool:
        """Whether a datagram or an event waits to be taken."""
        return bool(self._events or self._transmits)

    def next_media(self) -> float | None:
        """When ``send_media`` wants to be called next."""
        return None if self._closed else self._media.next_wake()

    def send_media(self, now: float) -> PacedPacket | None:
        """Return the protected packet that is due, if any, for ``destination``."""
        paced = self._media.wake(now)
        srtp = self._srtp
        if paced is None or srtp is None or not self._may_send:
            return None
        protected = self._send_rtp(srtp, paced.packet, now)
        return None if protected is None else PacedPacket(protected, paced.due)

    def restart_ice(self, local: Credentials, now: float) -> None:
        """Let the peer connect anew with these credentials of ours.

        Until it has done so, and if it does not, everything stays where it is. ``UfragRetired``
        tells which credentials are over: the old ones, or these.
        """
        if not self._closed:
            self._ice.restart(local, now)
            self._follow_ice(now)

    def redirect(self, *, may_send: bool, may_receive: bool) -> None:
        """Follow a later offer: whether the peer wants media from us, and announces media to us."""
        self._may_send = may_send
        self._media_expected = self._media_expected or may_receive

    def handle_timeout(self, now: float) -> None:
        if self._closed:
            return
        if self._setup_until is not None and now >= self._setup_until:
            ice_up = Layer.ICE in self._layers
            self.end(EndReason.DTLS_TIMEOUT if ice_up else EndReason.ICE_TIMEOUT, now)
            return
        self._ice.handle_timeout(now)
        self._follow_ice(now)
        self._dtls.handle_timeout(now)
        self._follow_dtls(now)
        report = self._reporter.handle_timeout(now)
        if report is not None:
            self._send_rtcp(report)

    def next_timeout(self) -> float | None:
        if self._closed:
            return None
        times = (
            self._setup_until,
            self._ice.next_timeout(),
            self._dtls.next_timeout(),
            self._reporter.next_timeout(),
        )
        return min((time for time in times if time is not None), default=None)

    def end(self, reason: EndReason, now: float) -> None:
        """Say goodbye on every layer that is up, and end."""
        if self._closed:
            return
        farewell = self._reporter.close(now)
        if farewell is not None:
            self._send_rtcp(farewell)
        self._dtls.close(now)
        self._take_dtls_datagrams()
        self._ice.close(now)
        if reason is EndReason.CONSENT_LOST:
            self._transmits.clear()  # nothing may be sent any more (RFC 7675 §5.1)
        self._closed = True
        self._duration = now - self._made_at
        self._emit(Ended(reason, self.statistics()))

    def close(self, now: float) -> None:
        self.end(EndReason.GOING_AWAY, now)

    def forget(self, address: Address, now: float) -> None:
        """Give up an address that cannot be reached any more."""
        self._ice.forget(address)
        self._follow_ice(now)

    def valid(self, address: Address) -> bool:
        """Whether the peer has authenticated itself from this address."""
        return self._ice.valid(address)

    def heard_at(self, address: Address) -> float | None:
        """When the latest new check or authentic media came from a valid address."""
        return self._ice.heard_at(address)

    def statistics(self) -> SessionStatistics:
        drops = self._media.all_drops()
        for part in (self, self._ice, self._dtls, self._reporter):
            drops = drops + part.drops
        return SessionStatistics(
            layers=dict(self._layers),
            ice=self._ice.statistics(),
            dtls_datagrams=self._dtls_datagrams,
            rtp=self._reporter.statistics(),
            media_expected=self._media_expected,
            drops=dict(drops),
            duration=self._duration,
        )

    # ICE

    def _follow_ice(self, now: float) -> None:
        """Pass on what the agent wants to send, and act on what it has found out."""
        while (transmit := self._ice.next_datagram()) is not None:
            self._transmit(*transmit)
        while (event := self._ice.next_event()) is not None:
            match event:
                case PeerValidated(address):
                    self._emit(AddressValidated(address))
                    if Layer.ICE not in self._layers:
                        self._bring_up(Layer.ICE, now)
                        self._dtls.start(address, now)
                        self._follow_dtls(now)
                case PairSelected(address):
                    self._dtls.destination = address
                case CredentialsRetired(ufrag):
                    self._emit(UfragRetired(ufrag))
                case ConsentLost():
                    self.end(EndReason.CONSENT_LOST, now)

    # DTLS

    def _receive_dtls(self, data: bytes, source: Address, now: float) -> None:
        if not self._ice.valid(source):
            self.drops["dtls-unvalidated-address"] += 1
            return
        self._dtls_datagrams += 1
        self._dtls.receive_datagram(data, source, now)
        self._follow_dtls(now)

    def _follow_dtls(self, now: float) -> None:
        self._take_dtls_datagrams()
        while (event := self._dtls.next_event()) is not None:
            match event:
                case HandshakeCompleted(keying):
                    self._srtp = SrtpSession(keying)
                    self._setup_until = None
                    self._bring_up(Layer.DTLS, now)
                    self._media.start(now)
                case HandshakeFailed(reason):
                    self.end(_DTLS_REASONS.get(reason.value, EndReason.DTLS_FAILED), now)
                case PeerClosed():
                    self.end(EndReason.PEER_CLOSED, now)

    def _take_dtls_datagrams(self) -> None:
        while (transmit := self._dtls.next_datagram()) is not None:
            self._transmit(*transmit)

    # Media

    def _receive_rtp(self, data: bytes, source: Address, now: float) -> bytes | None:
        """Take one SRTP packet; return the one that answers it."""
        srtp = self._srtp
        if srtp is None or not self._ice.valid(source):
            self.drops["media-before-keys" if srtp is None else "media-unvalidated-address"] += 1
            return None
        try:
            packet = decode_rtp(srtp.unprotect_rtp(data))
        except (SrtpError, RtpError) as exc:
            self.drops[exc.reason] += 1
            return None
        self._ice.note_liveness(source, now)
        if packet.ssrc not in self._sources and not self._bind_source(packet):
            return None
        if packet.payload_type not in self._peer.payload_types:
            self.drops["rtp-unknown-payload-type"] += 1
            return None
        self._reporter.note_received(packet, now)
        if not self._media_up:
            self._media_up = True
            self._bring_up(Layer.MEDIA, now)
        answer = self._media.receive_audio(packet, now)
        if answer is None or not self._may_send:
            return None
        return self._send_rtp(srtp, answer, now)

    def _bind_source(self, packet: RtpPacket) -> bool:
        """Tell whether a new SSRC belongs to the audio section (RFC 8843 §9.2).

        There is one media section, so a packet is its own unless it names another one's mid.
        """
        extension_id = self._peer.mid_extension
        if packet.extension is not None and extension_id is not None:
            try:
                elements = decode_extensions(*packet.extension)
            except RtpError as exc:
                self.drops[exc.reason] += 1
                return False
            if elements.get(extension_id, self._peer.mid) != self._peer.mid:
                self.drops["rtp-unknown-mid"] += 1
                return False
        if len(self._sources) >= SOURCES_BOUND_MAX:
            self.drops["rtp-source-limit"] += 1
            return False
        self._sources.add(packet.ssrc)
        return True

    def _receive_rtcp(self, data: bytes, source: Address, now: float) -> None:
        srtp = self._srtp
        if srtp is None or not self._ice.valid(source):
            self.drops["media-before-keys" if srtp is None else "media-unvalidated-address"] += 1
            return
        try:
            compound = srtp.unprotect_rtcp(data)
        except SrtpError as exc:
            self.drops[exc.reason] += 1
            return
        self._ice.note_liveness(source, now)
        self._reporter.receive(compound, now)
        while (event := self._reporter.next_event()) is not None:
            match event:
                case SourceLeft(ssrc):
                    self._sources.discard(ssrc)
                case StreamReported(highest_sequence, fraction_lost):
                    self._media.note_report(highest_sequence, fraction_lost, now)
                case _:
                    assert_never(event)

    def _send_rtp(self, srtp: SrtpSession, packet: bytes, now: float) -> bytes | None:
        """Return the protected packet, counted as sent; None if it cannot be protected."""
        try:
            protected = srtp.protect_rtp(packet)
        except SrtpError as exc:
            self.drops[f"send-{exc.reason}"] += 1
            return None
        self._reporter.note_sent(packet, now)
        return protected

    def _send_rtcp(self, compound: bytes) -> None:
        destination = self._ice.selected
        if self._srtp is None or destination is None:
            return
        try:
            self._transmit(self._srtp.protect_rtcp(compound), destination)
        except SrtpError as exc:
            self.drops[f"send-{exc.reason}"] += 1

    def _bring_up(self, layer: Layer, now: float) -> None:
        elapsed = now - self._made_at
        self._layers[layer] = elapsed
        self._emit(LayerUp(layer, elapsed))
