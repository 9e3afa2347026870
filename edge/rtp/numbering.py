"""A source's sequence numbers and timestamps, counted on over wraps and restarts.

A packet far off in the numbering (RFC 3550 appendix A.1) is no packet of this source, unless the
next one follows it: then the source has begun anew.
"""

from typing import Final

from edge.rtp.packet import RtpPacket
from edge.rtp.reception import MAX_DROPOUT, MAX_MISORDER

HISTORY: Final = 128
"""Packets back from the highest of which it is known whether they came."""

_HISTORY_MASK = (1 << HISTORY) - 1


class Numbering:
    """The numbering of the source that is being heard. Media times are in ticks."""

    __slots__ = ("_restart_at", "_seen", "_soundless", "_ssrc", "_timestamp", "front", "highest")

    def __init__(self) -> None:
        self.highest = 0
        """Highest sequence number that came."""
        self.front = 0
        """Media time of the packet with the highest number of those with sound."""
        self._timestamp = 0  # of that packet
        self._ssrc = -1
        self._seen = 0  # bit n: the packet n before the highest came
        self._soundless = 0  # bit n: and it had no sound
        self._restart_at = -1

    @property
    def started(self) -> bool:
        return self._ssrc >= 0

    def restart(self, packet: RtpPacket, media_ticks: int) -> None:
        """Begin a numbering in which ``packet`` comes next, at this media time."""
        self._ssrc = packet.ssrc
        self.highest = packet.sequence_number + 0xFFFF
        self.front, self._timestamp = media_ticks, packet.timestamp
        self._seen = self._soundless = 0
        self._restart_at = -1

    def follow(self, packet: RtpPacket) -> int | None:
        """Return a packet's sequence number counted on; None if it is not of this numbering."""
        step = ((packet.sequence_number - self.highest + 0x8000) & 0xFFFF) - 0x8000
        if packet.ssrc != self._ssrc or not -MAX_MISORDER < step < MAX_DROPOUT:
            return None
        self._restart_at = -1
        return self.highest + step

    def begins_anew(self, packet: RtpPacket) -> bool:
        """Tell whether a packet that does not follow shows that the source has begun anew."""
        if packet.ssrc != self._ssrc or packet.sequence_number == self._restart_at:
            return True
        self._restart_at = (packet.sequence_number + 1) & 0xFFFF
        return False

    def mark(self, sequence: int) -> bool:
        """Note that a packet came; False if it had come before."""
        step = sequence - self.highest
        if step > 0:
            self.highest = sequence
            self._seen = (self._seen << step | 1) & _HISTORY_MASK
            self._soundless = self._soundless << step & _HISTORY_MASK
            return True
        bit = 1 << -step & _HISTORY_MASK
        if self._seen & bit:
            return False
        self._seen |= bit
        return True

    def mark_soundless(self, sequence: int) -> None:
        """Note that a packet that came had no sound that could be missing."""
        self._soundless |= 1 << self.highest - sequence & _HISTORY_MASK

    def media_ticks(self, timestamp: int) -> int:
        """Return the media time of a timestamp."""
        step = ((timestamp - self._timestamp + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
        return self.front + step

    def advance(self, media_ticks: int, timestamp: int) -> None:
        """Take a packet with sound as the one to count from."""
        self.front, self._timestamp = media_ticks, timestamp

    def sounds_between(self, before: int, after: int) -> int:
        """Return how many packets between these two should have had sound, come or not."""
        between = after - before - 1
        if between <= 0:
            return 0
        soundless = self._soundless >> max(0, self.highest - after + 1)
        return between - (soundless & ((1 << between) - 1)).bit_count()
