"""What a session needs of the other end of its media."""

from collections import Counter
from typing import NamedTuple

from edge.rtp.packet import RtpPacket


class PacedPacket(NamedTuple):
    """An RTP packet of ours, to be protected and sent now."""

    packet: bytes
    due: float
    """When it should have left."""


class MediaEndpoint:
    """Where received packets go and where sent ones come from.

    All methods are called by the session, with ``now`` on its clock. This class only answers
    nothing; an echo needs ``receive_audio`` alone, what sends by itself the others, too.
    """

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        """Of our stream."""
        self.drops: Counter[str] = Counter()
        """What this object dropped, by reason."""

    def all_drops(self) -> Counter[str]:
        """Return the drops of all parts."""
        return self.drops

    def start(self, now: float) -> None:
        """There are keys: from now on what is sent can reach the client."""

    def close(self) -> None:
        """The session is over."""

    def receive_audio(self, packet: RtpPacket, now: float) -> bytes | None:
        """Take one packet; return the RTP packet to send in answer, if any."""
        raise NotImplementedError

    def next_wake(self) -> float | None:
        """When ``wake`` wants to be called next; never before ``start``."""
        return None

    def wake(self, now: float) -> PacedPacket | None:  # noqa: ARG002 - nothing is ever due
        """Do what is due. There may be more: ask ``next_wake`` again."""
        return None

    def note_report(self, highest_sequence: int, fraction_lost: float, now: float) -> None:
        """The client's latest report on our stream: extended sequence number, and 0..1."""
