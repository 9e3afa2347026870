"""Telephone events (RFC 4733) and the keys that they say were pressed.

| bytes | content |
| --- | --- |
| 0 | event |
| 1 | end (1 bit), reserved (1), volume (6) |
| 2..3 | duration so far, in ticks |

An event is sent again and again while it lasts, and its end three times. All packets of an event
have the timestamp of its beginning, which is what tells one from the next. An event that outlasts
the duration field goes on in a new segment with a timestamp of its own (§2.5.1.3).
"""

from typing import Final, NamedTuple

from edge.errors import RtpError
from edge.rtp.packet import RtpPacket
from edge.rtp.serial import timestamp_difference

DIGITS: Final = "0123456789*#ABCD"
"""The keys, by event."""

_DURATION_MAX = 0xFFFF
_SEGMENT_TOLERANCE = 0.1
"""Seconds by which a segment may begin before or after the full length of the one before."""
_MEMORY = 10.0
"""Seconds for which a packet older than the latest event can only be a late one."""


class TelephoneEvent(NamedTuple):
    event: int
    end: bool
    volume: int
    """Power of the tone in -dBm0, 0..63."""
    duration: int
    """Ticks since the packet's timestamp."""


def decode_event(payload: bytes) -> TelephoneEvent:
    """Return the event in one payload.

    Raises:
        RtpError: ``event-length``, it is not four bytes long.

    """
    if len(payload) != 4:
        raise RtpError("event-length")
    return TelephoneEvent(
        payload[0], payload[1] >= 0x80, payload[1] & 0x3F, int.from_bytes(payload[2:])
    )


class KeyPresses:
    """The keys pressed in one source's telephone events, each told once."""

    def __init__(self, clock_rate_hz: int) -> None:
        self._tolerance = int(_SEGMENT_TOLERANCE * clock_rate_hz)
        self._memory = int(_MEMORY * clock_rate_hz)
        self._ssrc = -1
        self._event = -1
        self._timestamp = 0
        self._ended = True

    def receive(self, packet: RtpPacket) -> str | None:
        """Return the key whose press begins for us with this packet, if one does.

        Whichever packet of an event comes first counts, so that a lost one loses no key.

        Raises:
            RtpError: ``event-length``, ``event-zero-duration`` (kept for states, §2.3.5) or
                ``event-not-a-digit``.

        """
        event = decode_event(packet.payload)
        if not event.duration:
            raise RtpError("event-zero-duration")
        if event.event >= len(DIGITS):
            raise RtpError("event-not-a-digit")
        new = packet.ssrc != self._ssrc or self._begins(event, packet)
        if new is None:
            return None
        self._ssrc = packet.ssrc
        self._event, self._timestamp, self._ended = event.event, packet.timestamp, event.end
        return DIGITS[event.event] if new else None

    def _begins(self, event: TelephoneEvent, packet: RtpPacket) -> bool | None:
        """Tell whether a packet begins a press (True) or goes on with one; None if it is old."""
        if self._event < 0:
            return True
        later = timestamp_difference(packet.timestamp, self._timestamp)
        if later == 0:
            self._ended = self._ended or event.end
            return None
        if -self._memory < later < 0:
            return None
        segment = (
            event.event == self._event
            and not self._ended
            and not packet.marker
            and abs(later - _DURATION_MAX) <= self._tolerance
        )
        return not segment
