"""One session's decoded media: receive path and send path as one endpoint.

What the client says goes to a listener, frame by frame; what the backend commands goes to the
playout. Nothing is played before the session has keys: a backend's greeting would be lost.
"""

from collections import Counter
from typing import Protocol

from attrs import frozen

from edge.media.dialogue import Notice, Pause, PlayoutCommand, Resume
from edge.media.endpoint import MediaEndpoint, PacedPacket
from edge.media.frames import AudioFrame
from edge.media.inbound import Inbound, InboundStatistics
from edge.media.outbound import Outbound, OutboundStatistics
from edge.rtp.packet import RtpPacket


class Listener(Protocol):
    """The backend's side. Nothing here waits or raises."""

    def hear(self, frame: AudioFrame) -> None: ...

    def tell(self, notice: Notice) -> None: ...


class _Nobody:
    def hear(self, frame: AudioFrame) -> None: ...

    def tell(self, notice: Notice) -> None: ...


_NOBODY = _Nobody()


@frozen
class MediaStatistics:
    """A snapshot of both directions."""

    inbound: InboundStatistics
    outbound: OutboundStatistics


class MediaPath(MediaEndpoint):
    """Times: seconds on the caller's monotonic clock."""

    def __init__(
        self, ssrc: int, inbound: Inbound, outbound: Outbound, listener: Listener, now: float
    ) -> None:
        super().__init__(ssrc)
        self._inbound = inbound
        self._outbound = outbound
        self._listener = listener
        self._started = False
        self._paused = False
        self.now = now
        """The time of the latest input."""
        outbound.receive(Pause(), now)

    def start(self, now: float) -> None:
        if not self._started:
            self._started = True
            if not self._paused:
                self._outbound.receive(Resume(), now)

    @property
    def queued(self) -> float:
        """Seconds of sound that wait to be played."""
        return self._outbound.queued

    def command(self, command: PlayoutCommand, now: float) -> None:
        """Carry out what the backend wants."""
        if isinstance(command, Pause | Resume):
            self._paused = isinstance(command, Pause)
            if not self._started:
                return
        self._outbound.receive(command, now)
        self._tell()

    def receive_audio(self, packet: RtpPacket, now: float) -> None:
        self._inbound.receive(packet, now)
        self._hear(now)

    def close(self) -> None:
        """The session is over: nobody listens any more."""
        self._listener = _NOBODY

    def next_wake(self) -> float | None:
        if not self._started:
            return None
        due, missing = self._outbound.next_due(), self._inbound.next_timeout()
        if due is None or missing is None:
            return missing if due is None else due
        return min(due, missing)

    def wake(self, now: float) -> PacedPacket | None:
        missing = self._inbound.next_timeout()
        if missing is not None and missing <= now:
            self._hear(now)
        due = self._outbound.next_due()
        if due is None or due > now:
            return None
        packet = self._outbound.next_packet(now)
        self._tell()
        return None if packet is None else PacedPacket(packet, due)

    def note_report(self, highest_sequence: int, fraction_lost: float, now: float) -> None:
        self._outbound.note_report(highest_sequence, fraction_lost, now)

    def all_drops(self) -> Counter[str]:
        return self.drops + self._inbound.drops + self._outbound.drops

    def statistics(self) -> MediaStatistics:
        return MediaStatistics(self._inbound.statistics(), self._outbound.statistics())

    def _hear(self, now: float) -> None:
        self.now = now
        listener = self._listener
        while (frame := self._inbound.next_frame(now)) is not None:
            listener.hear(frame)
        while (digit := self._inbound.next_digit()) is not None:
            listener.tell(digit)

    def _tell(self) -> None:
        while (notice := self._outbound.next_event()) is not None:
            self._listener.tell(notice)
