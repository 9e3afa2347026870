"""RTCP for one session: when to report, what to say, and what the client's reports tell us.

The reporter is told of every RTP packet, by ``note_received`` and ``note_sent``, and of every RTCP
compound, by ``receive``; all of it is plain text, SRTP is the caller's both ways. The first media
packet arms the timer: 0.5 s later the first compound is due, and from then on one every 2.5 s times
a random 0.5..1.5 (RFC 3550 §6.2). AVP's minimum of 5 s does not hold for AVPF (RFC 4585 §3.4), and
130 bytes per 2.5 s each way are far below 5 % of a voice session's bandwidth. With two participants
there is no timer reconsideration, hence no correction for it.

A compound is a sender report, if media was sent since the one before, or else a receiver report,
with a block for every source heard since the one before; then our CNAME; then, at the end, BYE.

Sources: the RTP of an SSRC makes its entry, BYE or 30 s of silence frees it, four are the limit.
Sender reports from any other SSRC are ignored.
"""

from collections import Counter, deque
from typing import Final

from attrs import frozen

from edge.errors import RtpError
from edge.machine import Entropy
from edge.rtp.clock import CLOCK_RATE_HZ, compact_ntp, ntp_from_unix
from edge.rtp.packet import RtpPacket
from edge.rtp.quality import Quality
from edge.rtp.reception import Reception
from edge.rtp.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    decode_rtcp,
    encode_rtcp,
)
from edge.rtp.serial import timestamp_difference
from edge.rtp.transmission import Transmission

FIRST_REPORT_DELAY: Final = 0.5
REPORT_INTERVAL: Final = 2.5
"""Mean time between compounds."""
SOURCES_MAX: Final = 4
SOURCE_SILENCE_LIMIT: Final = 30.0
EVENTS_MAX: Final = 16


@frozen
class SourceLeft:
    """The client said BYE for this source."""

    ssrc: int


@frozen
class StreamReported:
    """The client's report on our stream."""

    highest_sequence: int
    """Extended: cycles and sequence number, 32 bits."""
    fraction_lost: float
    """0..1, since its report before."""


ReporterEvent = SourceLeft | StreamReported


@frozen
class RtpStatistics:
    """What is known of the media both ways. None: the client has not reported it yet."""

    packets_received: int
    bytes_received: int
    """Payloads only, as in ``bytes_sent``."""
    packets_lost: int
    """Of the sources that are present, each since its numbering started; may be negative."""
    fraction_lost: float
    """0..1, in the interval before our latest report, of the source heard last."""
    jitter_ms: float
    """Of the source heard last."""
    packets_sent: int
    bytes_sent: int
    round_trip_ms: float | None
    remote_packets_lost: int | None
    remote_fraction_lost: float | None
    """0..1, of our stream in the interval before the client's latest report."""
    remote_jitter_ms: float | None


class Reporter:
    """One session's RTCP. Times: seconds on the caller's monotonic clock.

    ``ssrc`` and ``cname`` are our stream's, the same as in the SDP answer. The CNAME is random for
    each session (RFC 7022 §4.2), so that it links nobody to anything. ``wall_offset`` is Unix time
    minus the monotonic clock, fixed for the session, so that no step of the wall clock disturbs a
    round-trip time. Every report, either way, is also counted in ``quality``.
    """

    def __init__(
        self,
        ssrc: int,
        cname: bytes,
        wall_offset: float,
        entropy: Entropy,
        *,
        clock_rate_hz: int = CLOCK_RATE_HZ,
        quality: Quality | None = None,
    ) -> None:
        self.drops: Counter[str] = Counter()
        """What was not taken into account, by reason."""
        self.ssrc = ssrc
        self._cname = cname
        self._wall_offset = wall_offset
        self._entropy = entropy
        self._clock_rate_hz = clock_rate_hz
        self._quality = quality or Quality()
        self._receptions: dict[int, Reception] = {}
        self._transmission = Transmission(ssrc, clock_rate_hz)
        self._events: deque[ReporterEvent] = deque()
        self._due: float | None = None  # unarmed until the first media packet
        self._reported_at: float | None = None
        self._packets_sent_then = 0  # at that report
        self._packets_forgotten = self._bytes_forgotten = 0  # of sources that are gone
        self._round_trip: float | None = None
        self._remote: ReportBlock | None = None
        self._closed = False

    def note_received(self, packet: RtpPacket, now: float) -> None:
        """Count one RTP packet from the client."""
        if self._closed:
            return
        reception = self._receptions.get(packet.ssrc)
        if reception is not None:
            reception.receive(packet, now)
        else:
            self._admit(packet, now)

    def note_sent(self, packet: bytes, now: float) -> None:
        """Count one packet of our stream, as ``encode_rtp`` made it."""
        if self._closed:
            return
        self._transmission.send(packet, now)
        if self._due is None:
            self._due = now + FIRST_REPORT_DELAY

    def receive(self, compound: bytes, now: float) -> None:
        """Take one RTCP compound from the client; a malformed one is dropped whole."""
        if self._closed:
            return
        try:
            packets = decode_rtcp(compound)
        except RtpError as exc:
            self.drops[exc.reason] += 1
            return
        for packet in packets:
            self._receive_packet(packet, now)

    def next_event(self) -> ReporterEvent | None:
        """Take the next event, oldest first."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called next."""
        return self._due

    def handle_timeout(self, now: float) -> bytes | None:
        """Return the compound to protect and send, if one is due."""
        if self._due is None or now < self._due:
            return None
        self._due = now + REPORT_INTERVAL * (0.5 + int.from_bytes(self._entropy(2)) / 0x1_0000)
        for ssrc, reception in list(self._receptions.items()):
            if now - reception.heard_at > SOURCE_SILENCE_LIMIT:
                self._forget(ssrc)
        return encode_rtcp(self._compound(now))

    def close(self, now: float) -> bytes | None:
        """Return the compound that ends with BYE, once; None if we never sent anything.

        Who has sent nothing must not say BYE (RFC 3550 §6.3.7).
        """
        ended, self._closed, self._due = self._closed, True, None
        if ended or (self._reported_at is None and not self._transmission.packets_sent):
            return None
        return encode_rtcp((*self._compound(now), Goodbye((self.ssrc,))))

    def statistics(self) -> RtpStatistics:
        """Return the figures of this moment."""
        receptions = self._receptions.values()
        latest = max(receptions, key=lambda reception: reception.heard_at, default=None)
        remote = self._remote
        return RtpStatistics(
            packets_received=self._packets_forgotten + sum(r.packets_received for r in receptions),
            bytes_received=self._bytes_forgotten + sum(r.bytes_received for r in receptions),
            packets_lost=sum(r.packets_lost for r in receptions),
            fraction_lost=latest.fraction_lost / 256 if latest else 0.0,
            jitter_ms=latest.jitter_ms if latest else 0.0,
            packets_sent=self._transmission.packets_sent,
            bytes_sent=self._transmission.bytes_sent,
            round_trip_ms=None if self._round_trip is None else self._round_trip * 1000,
            remote_packets_lost=remote.packets_lost if remote else None,
            remote_fraction_lost=remote.fraction_lost / 256 if remote else None,
            remote_jitter_ms=remote.jitter * 1000 / self._clock_rate_hz if remote else None,
        )

    def _admit(self, packet: RtpPacket, now: float) -> None:
        """Make an entry for a source not heard before."""
        if packet.ssrc == self.ssrc:
            self.drops["rtp-ssrc-collision"] += 1
            return
        if len(self._receptions) == SOURCES_MAX:
            quietest = min(self._receptions, key=lambda ssrc: self._receptions[ssrc].heard_at)
            if now - self._receptions[quietest].heard_at <= SOURCE_SILENCE_LIMIT:
                self.drops["rtp-source-limit"] += 1
                return
            self._forget(quietest)
        self._receptions[packet.ssrc] = Reception(packet, now, self._clock_rate_hz)
        if self._due is None:
            self._due = now + FIRST_REPORT_DELAY

    def _forget(self, ssrc: int) -> None:
        reception = self._receptions.pop(ssrc)
        self._packets_forgotten += reception.packets_received
        self._bytes_forgotten += reception.bytes_received

    def _receive_packet(self, packet: RtcpPacket, now: float) -> None:
        match packet:
            case SenderReport(ssrc, ntp_timestamp, blocks=blocks):
                reception = self._receptions.get(ssrc)
                if reception is not None:
                    reception.note_sender_report(ntp_timestamp, now)
                self._receive_blocks(blocks, now)
            case ReceiverReport(blocks=blocks):
                self._receive_blocks(blocks, now)
            case Goodbye(ssrcs):
                for ssrc in ssrcs:
                    self._receive_goodbye(ssrc)
            case _:  # SDES names nobody we need to tell apart; feedback was not negotiated
                pass

    def _receive_blocks(self, blocks: tuple[ReportBlock, ...], now: float) -> None:
        for block in blocks:
            if block.ssrc == self.ssrc:
                self._remote = block
                self._emit(StreamReported(block.highest_sequence, block.fraction_lost / 256))
                round_trip = self._time_since(block, now) if block.last_sender_report else None
                if round_trip is not None:
                    self._round_trip = round_trip
                jitter = block.jitter / self._clock_rate_hz
                self._quality.note_report(jitter, block.fraction_lost / 256, round_trip)

    def _time_since(self, block: ReportBlock, now: float) -> float:
        """Return the round-trip time: now - LSR - DLSR (§6.4.1).

        Both ends round to 1/65536 s, so the shortest ones can come out negative: they are zero.
        """
        answered = (block.last_sender_report + block.delay_since_last) & 0xFFFF_FFFF
        arrived = compact_ntp(ntp_from_unix(now + self._wall_offset))
        return max(0, timestamp_difference(arrived, answered)) / 65536

    def _receive_goodbye(self, ssrc: int) -> None:
        if ssrc not in self._receptions:
            return
        self._forget(ssrc)
        self._emit(SourceLeft(ssrc))

    def _emit(self, event: ReporterEvent) -> None:
        if len(self._events) >= EVENTS_MAX:
            self.drops["event-queue-full"] += 1
            return
        self._events.append(event)

    def _compound(self, now: float) -> tuple[RtcpPacket, ...]:
        """Return report and CNAME, and begin the next report interval."""
        blocks = tuple(
            reception.report(now)
            for reception in self._receptions.values()
            if self._reported_at is None or reception.heard_at >= self._reported_at
        )
        for block in blocks:
            self._quality.note_reception(
                block.jitter / self._clock_rate_hz, block.fraction_lost / 256
            )
        description = SourceDescription(((self.ssrc, self._cname),))
        sent = self._transmission.packets_sent
        sent_before, self._packets_sent_then = self._packets_sent_then, sent
        self._reported_at = now
        if sent > sent_before:
            return self._transmission.report(blocks, self._wall_offset, now), description
        return ReceiverReport(self.ssrc, blocks), description
