"""What we receive from one source: the figures of a report block (RFC 3550 appendix A).

Sequence numbers are followed as in A.1 but without probation: only packets that SRTP has
authenticated get here, so the first one already counts. SRTP's replay protection has also taken out
duplicates.
"""

from typing import Final

from edge.rtp.clock import CLOCK_RATE_HZ, compact_ntp
from edge.rtp.packet import RtpPacket
from edge.rtp.rtcp import ReportBlock
from edge.rtp.serial import timestamp_difference

MAX_DROPOUT: Final = 3000
"""A step forward of fewer sequence numbers than this is loss; a longer one may be a restart."""
MAX_MISORDER: Final = 100
"""A step back of fewer sequence numbers than this is reordering."""
MAX_DRIFT: Final = 5.0
"""A timestamp that differs from the arrival time by more is a jump of the clock, not jitter."""

_MODULUS = 0x1_0000
_LOST_MAX = 0x7F_FFFF


class Reception:
    """Statistics of one source. Times: seconds on the caller's monotonic clock."""

    __slots__ = (
        "_arrival",
        "_base",
        "_clock_rate_hz",
        "_expected_before",
        "_highest",
        "_jitter",
        "_received",
        "_received_before",
        "_restart_at",
        "_sender_report",
        "_ssrc",
        "_timestamp",
        "bytes_received",
        "fraction_lost",
        "heard_at",
        "packets_received",
    )

    _base: int
    _highest: int
    """Highest sequence number received plus 65536 for each cycle since ``_base``."""
    _restart_at: int
    """The sequence number that would confirm a restart, or -1."""
    _received: int
    _received_before: int
    """At the latest report, like ``_expected_before``."""
    _expected_before: int
    _timestamp: int
    _arrival: float

    def __init__(self, first: RtpPacket, now: float, clock_rate_hz: int = CLOCK_RATE_HZ) -> None:
        self.packets_received = 0
        """Every packet of this source, restarts of its numbering included."""
        self.bytes_received = 0
        """The payloads of those packets."""
        self.fraction_lost = 0
        """As in the latest report block, in 1/256."""
        self._ssrc = first.ssrc
        self._clock_rate_hz = clock_rate_hz
        self._jitter = 0.0  # ticks
        self._sender_report: tuple[int, float] | None = None  # compact NTP time, arrival
        self._restart(first, now)
        self.receive(first, now)

    def receive(self, packet: RtpPacket, now: float) -> None:
        """Count one packet of this source that arrived at ``now``."""
        self.packets_received += 1
        self.bytes_received += len(packet.payload)
        self.heard_at = now
        sequence_number = packet.sequence_number
        step = (sequence_number - self._highest) & 0xFFFF
        if step < MAX_DROPOUT:
            self._highest += step
        elif step <= _MODULUS - MAX_MISORDER:
            if sequence_number != self._restart_at:
                self._restart_at = (sequence_number + 1) & 0xFFFF
                return
            self._restart(packet, now)  # two in a row: the source started anew (A.1)
        self._received += 1
        if packet.timestamp != self._timestamp:
            self._note_timestamp(packet.timestamp, now)

    def note_sender_report(self, ntp_timestamp: int, now: float) -> None:
        """Remember the source's sender report for LSR and DLSR."""
        self._sender_report = (compact_ntp(ntp_timestamp), now)

    def report(self, now: float) -> ReportBlock:
        """Return the block for a report sent at ``now``, and begin the next loss interval."""
        expected = self._expected
        expected_interval = expected - self._expected_before
        lost_interval = expected_interval - (self._received - self._received_before)
        self._expected_before = expected
        self._received_before = self._received
        self.fraction_lost = max(0, lost_interval << 8) // max(1, expected_interval)
        last_sender_report, delay = 0, 0.0
        if self._sender_report is not None:
            last_sender_report, arrival = self._sender_report
            delay = now - arrival
        return ReportBlock(
            ssrc=self._ssrc,
            fraction_lost=self.fraction_lost,
            packets_lost=max(-_LOST_MAX - 1, min(self.packets_lost, _LOST_MAX)),
            highest_sequence=self._highest & 0xFFFF_FFFF,
            jitter=int(self._jitter),
            last_sender_report=last_sender_report,
            delay_since_last=min(round(delay * 65536), 0xFFFF_FFFF),
        )

    @property
    def packets_lost(self) -> int:
        """Packets lost since the numbering started (A.3); late packets can make it negative."""
        return self._expected - self._received

    @property
    def jitter_ms(self) -> float:
        return self._jitter * 1000 / self._clock_rate_hz

    @property
    def _expected(self) -> int:
        return self._highest - self._base + 1

    def _restart(self, packet: RtpPacket, now: float) -> None:
        """Begin to count at ``packet``, which the caller counts next."""
        self._base = self._highest = packet.sequence_number
        self._restart_at = -1
        self._received = self._received_before = self._expected_before = 0
        self._timestamp, self._arrival = packet.timestamp, now

    def _note_timestamp(self, timestamp: int, now: float) -> None:
        """Update the jitter (A.8).

        Called for new timestamps only: telephone events repeat theirs in packet after packet
        (RFC 4733 §2.5.1.2), so that the time since the first of them is the one to compare with.
        In DTX timestamp and arrival jump alike, which adds no jitter.
        """
        ticks = timestamp_difference(timestamp, self._timestamp)
        deviation = abs((now - self._arrival) * self._clock_rate_hz - ticks)
        self._timestamp, self._arrival = timestamp, now
        if deviation <= MAX_DRIFT * self._clock_rate_hz:
            self._jitter += (deviation - self._jitter) / 16
