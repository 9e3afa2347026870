"""A client as a machine: the full, controlling ICE agent, DTLS and SRTP side of one call.

What a browser does, reduced to what the appliance can tell apart: checks every 50 ms until one is
answered, then nominated ones every 2.5 s; DTLS in the role that the answer leaves; a 20 ms stream
of numbered frames once keys exist, for as long as ``frames`` says; and a record of what comes back.
"""

import struct
from collections import Counter

from attrs import define, field, frozen

from edge.demux import Kind, classify
from edge.dtls.certificate import Fingerprint
from edge.dtls.context import DtlsContexts
from edge.dtls.transport import DtlsTransport, HandshakeCompleted, HandshakeFailed, PeerClosed, Role
from edge.errors import RtpError, SrtpError, StunError
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.machine import Address, Entropy, Machine
from edge.rtp.packet import RtpPacket, decode_rtp, encode_rtp
from edge.rtp.rtcp import Goodbye, RtcpPacket, decode_rtcp
from edge.srtp.session import SrtpSession

FRAME_TIME = 0.02
FIRST_CHECK_INTERVAL = 0.05
CHECK_INTERVAL = 2.5
PRIORITY = 0x6E7F00FF
PAYLOAD_TYPE = 111

_NUMBER = struct.Struct("!Qd")


@frozen
class Connected:
    """Keys exist: media may flow."""


@frozen
class Failed:
    reason: str


@frozen
class ServerClosed:
    """DTLS close_notify or RTCP BYE came."""

    by: str


PeerEvent = Connected | Failed | ServerClosed


@define
class Record:
    """What came back."""

    sent: int = 0
    checks_answered: int = 0
    echoed: int = 0
    first_echo_at: float | None = None
    longest_gap: float = 0.0
    last_echo_at: float | None = None
    round_trips: list[float] = field(factory=list)
    sequence_numbers: list[int] = field(factory=list)
    ssrcs: set[int] = field(factory=set)
    rtcp: list[RtcpPacket] = field(factory=list)


class Peer(Machine[PeerEvent]):
    """One client. ``remote`` and ``fingerprint`` are the server's, from its answer."""

    def __init__(
        self,
        local: Credentials,
        remote: Credentials,
        server: Address,
        role: Role,
        contexts: DtlsContexts,
        fingerprint: Fingerprint,
        entropy: Entropy,
        *,
        frames: int | None = None,
        keep_details: bool = True,
    ) -> None:
        super().__init__()
        self.record = Record()
        self.frames = frames
        """Stop sending media after so many; None: never."""
        self.srtp: SrtpSession | None = None
        self.server = server
        self.mapped: Address | None = None
        """Our address as the server sees it."""
        self.ssrc = int.from_bytes(entropy(4))
        self._local, self._remote = local, remote
        self._entropy = entropy
        self._dtls = DtlsTransport(role, contexts, [fingerprint])
        self._tie_breaker = int.from_bytes(entropy(8))
        self._check_at: float | None = None
        self._frame_at: float | None = None
        self._nominating = False
        self._met = False
        self._keep_details = keep_details
        self._closed = False

    def start(self, now: float) -> None:
        self._check_at = now
        self.handle_timeout(now)

    def restart(self, local: Credentials, remote: Credentials, now: float) -> None:
        """Check anew, with other credentials, and go on with everything else."""
        self._local, self._remote = local, remote
        self._nominating = False
        self._check_at = now

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        if self._closed:
            return
        match classify(data):
            case Kind.STUN:
                self._receive_response(data, now)
            case Kind.DTLS:
                self._dtls.receive_datagram(data, source, now)
                self._follow_dtls(now)
            case Kind.RTP:
                self._receive_rtp(data, now)
            case Kind.RTCP:
                self._receive_rtcp(data)
            case Kind.UNKNOWN:
                self.drops["unknown-protocol"] += 1

    def handle_timeout(self, now: float) -> None:
        if self._closed:
            return
        if self._check_at is not None and now >= self._check_at:
            self.check(now)
            self._check_at = now + (CHECK_INTERVAL if self._nominating else FIRST_CHECK_INTERVAL)
        self._dtls.handle_timeout(now)
        self._follow_dtls(now)
        while self._frame_at is not None and now >= self._frame_at:
            self.send_frame(now)
            done = self.frames is not None and self.record.sent >= self.frames
            self._frame_at = None if done else self._frame_at + FRAME_TIME

    def next_timeout(self) -> float | None:
        if self._closed:
            return None
        times = (self._check_at, self._dtls.next_timeout(), self._frame_at)
        return min((time for time in times if time is not None), default=None)

    def close(self, now: float) -> None:
        """Say close_notify and stop."""
        self._dtls.close(now)
        while (transmit := self._dtls.next_datagram()) is not None:
            self._transmit(*transmit)
        self._closed = True

    def check(self, now: float) -> None:  # noqa: ARG002 - a verb like the others
        """Send one connectivity check."""
        request = stun.encode_request(
            local=self._local,
            remote=self._remote,
            priority=PRIORITY,
            tie_breaker=self._tie_breaker,
            use_candidate=self._nominating,
            transaction_id=self._entropy(12),
        )
        self._transmit(request, self.server)

    def send_frame(self, now: float) -> None:
        """Send one numbered media packet, about the size of 20 ms of Opus."""
        assert self.srtp is not None
        number = self.record.sent
        packet = RtpPacket(
            PAYLOAD_TYPE,
            number == 0,
            number & 0xFFFF,
            number * 960 & 0xFFFF_FFFF,
            self.ssrc,
            _NUMBER.pack(number, now) + bytes(64),
        )
        self._transmit(self.srtp.protect_rtp(encode_rtp(packet)), self.server)
        self.record.sent += 1

    def _receive_response(self, data: bytes, now: float) -> None:
        try:
            response = stun.decode_response(data, self._remote)
        except StunError as exc:
            self.drops[exc.reason] += 1
            return
        if not isinstance(response, stun.Success):
            self.drops["refused"] += 1
            return
        self.mapped = response.mapped
        self.record.checks_answered += 1
        if not self._nominating:
            self._nominating = True
            self._check_at = now  # nominate at once
            if not self._met:
                self._met = True
                self._dtls.start(self.server, now)
                self._follow_dtls(now)

    def _follow_dtls(self, now: float) -> None:
        while (transmit := self._dtls.next_datagram()) is not None:
            self._transmit(*transmit)
        while (event := self._dtls.next_event()) is not None:
            match event:
                case HandshakeCompleted(keying):
                    self.srtp = SrtpSession(keying)
                    if self.frames != 0:
                        self._frame_at = now
                    self._emit(Connected())
                case HandshakeFailed(reason):
                    self._emit(Failed(reason.value))
                case PeerClosed():
                    self._emit(ServerClosed("close_notify"))

    def _receive_rtp(self, data: bytes, now: float) -> None:
        if self.srtp is None:
            self.drops["media-before-keys"] += 1
            return
        try:
            packet = decode_rtp(self.srtp.unprotect_rtp(data))
        except (SrtpError, RtpError) as exc:
            self.drops[exc.reason] += 1
            return
        _, sent_at = _NUMBER.unpack_from(packet.payload)
        record = self.record
        record.echoed += 1
        if record.first_echo_at is None:
            record.first_echo_at = now
        if record.last_echo_at is not None:
            record.longest_gap = max(record.longest_gap, now - record.last_echo_at)
        record.last_echo_at = now
        record.ssrcs.add(packet.ssrc)
        if self._keep_details:
            record.round_trips.append(now - sent_at)
            record.sequence_numbers.append(packet.sequence_number)

    def _receive_rtcp(self, data: bytes) -> None:
        if self.srtp is None:
            self.drops["media-before-keys"] += 1
            return
        try:
            packets = decode_rtcp(self.srtp.unprotect_rtcp(data))
        except (SrtpError, RtpError) as exc:
            self.drops[exc.reason] += 1
            return
        self.record.rtcp += packets
        if any(isinstance(packet, Goodbye) for packet in packets):
            self._emit(ServerClosed("bye"))


def all_drops(peers: list[Peer]) -> Counter[str]:
    total: Counter[str] = Counter()
    for peer in peers:
        total.update(peer.drops)
    return total
