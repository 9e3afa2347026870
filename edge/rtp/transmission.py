"""What we send in our own stream: the figures of a sender report (RFC 3550 §6.4.1)."""

from edge.rtp.clock import CLOCK_RATE_HZ, ntp_from_unix
from edge.rtp.rtcp import ReportBlock, SenderReport


class Transmission:
    """Counters of one outgoing stream. Times: seconds on the caller's monotonic clock."""

    __slots__ = (
        "_clock_rate_hz",
        "_sent_at",
        "_ssrc",
        "_timestamp",
        "bytes_sent",
        "packets_sent",
    )

    def __init__(self, ssrc: int, clock_rate_hz: int = CLOCK_RATE_HZ) -> None:
        self.packets_sent = 0
        self.bytes_sent = 0
        """The payloads of those packets."""
        self._ssrc = ssrc
        self._clock_rate_hz = clock_rate_hz
        self._timestamp, self._sent_at = 0, 0.0

    def send(self, packet: bytes, now: float) -> None:
        """Count one packet, made by ``encode_rtp``, that leaves at ``now``."""
        self.packets_sent += 1
        self.bytes_sent += len(packet) - 12
        if packet[0] & 0x10:  # the extension is no payload
            self.bytes_sent -= 4 + 4 * int.from_bytes(packet[14:16])
        self._timestamp = int.from_bytes(packet[4:8])
        self._sent_at = now

    def report(
        self, blocks: tuple[ReportBlock, ...], wall_offset: float, now: float
    ) -> SenderReport:
        """Return the sender report for ``now``.

        Its RTP timestamp is that of the latest packet, advanced by the time since: the instant
        that the NTP timestamp names (§6.4.1). ``wall_offset``: Unix time minus ``now``'s clock.
        """
        elapsed = round((now - self._sent_at) * self._clock_rate_hz)
        return SenderReport(
            ssrc=self._ssrc,
            ntp_timestamp=ntp_from_unix(now + wall_offset),
            rtp_timestamp=(self._timestamp + elapsed) & 0xFFFF_FFFF,
            packet_count=self.packets_sent & 0xFFFF_FFFF,
            octet_count=self.bytes_sent & 0xFFFF_FFFF,
            blocks=blocks,
        )
