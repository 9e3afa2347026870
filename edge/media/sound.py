"""Sound of a backend that waits to be sent: PCM16 in chunks of any size, or Opus packets.

Amounts are in units of 1/rate_hz seconds: samples of PCM, ticks of 48 kHz for packets. Adding and
taking cost the same however much waits.
"""

from collections import deque
from typing import Protocol

from edge.audio.opus import packet_ticks
from edge.errors import AudioError

PACKET_BYTES_MAX = 1_200
"""Longest packet taken from a backend, so that RTP and SRTP around it fit any path's MTU."""

SAMPLE_BYTES = 2
FRAMES_PER_SECOND = 50
"""Of 20 ms each."""


class Sound(Protocol):
    """A queue of sound."""

    @property
    def units(self) -> int:
        """How much waits."""

    def append(self, audio: bytes) -> None:
        """Add sound.

        Raises:
            AudioError: it is not sound; nothing was added.

        """

    def take(self) -> tuple[bytes, int]:
        """Take what the next packet is made of, and how long it is. Only if something waits."""

    def drop(self, units: int) -> int:
        """Throw away at least so much of the oldest sound, if there is; return how much it was."""

    def peek(self, units: int) -> bytes:
        """Return at most so much of the PCM that comes next; nothing of packets."""


class PcmSound:
    """PCM16. Half a sample stays until its other half comes."""

    __slots__ = ("_frame_bytes", "_pcm")

    def __init__(self, rate_hz: int) -> None:
        self._frame_bytes = rate_hz // FRAMES_PER_SECOND * SAMPLE_BYTES
        self._pcm = bytearray()  # cutting off its front only moves its start

    @property
    def units(self) -> int:
        return len(self._pcm) // SAMPLE_BYTES

    def append(self, audio: bytes) -> None:
        self._pcm += audio

    def take(self) -> tuple[bytes, int]:
        """Take 20 ms, or what there is, padded with silence; the length is without the padding."""
        pcm, frame_bytes = self._pcm, self._frame_bytes
        length = min(frame_bytes, len(pcm) & ~1)
        frame = bytes(pcm[:length])
        del pcm[:length]
        if length < frame_bytes:
            frame += bytes(frame_bytes - length)
        return frame, length // SAMPLE_BYTES

    def drop(self, units: int) -> int:
        units = min(units, self.units)
        del self._pcm[: units * SAMPLE_BYTES]
        return units

    def peek(self, units: int) -> bytes:
        return bytes(self._pcm[: min(units, self.units) * SAMPLE_BYTES])


class PacketSound:
    """Opus packets, each taken as it is."""

    __slots__ = ("_packets", "units")

    def __init__(self) -> None:
        self._packets: deque[tuple[bytes, int]] = deque()
        self.units = 0

    def append(self, audio: bytes) -> None:
        """Add one packet.

        Raises:
            AudioError: ``opus-malformed`` or ``opus-too-long``.

        """
        ticks = packet_ticks(audio)
        if len(audio) > PACKET_BYTES_MAX:
            raise AudioError("opus-too-long")
        self._packets.append((audio, ticks))
        self.units += ticks

    def take(self) -> tuple[bytes, int]:
        packet = self._packets.popleft()
        self.units -= packet[1]
        return packet

    def drop(self, units: int) -> int:
        dropped = 0
        while dropped < units and self._packets:
            dropped += self.take()[1]
        return dropped

    def peek(self, units: int) -> bytes:  # noqa: ARG002 - a packet has no PCM to look at
        return b""
