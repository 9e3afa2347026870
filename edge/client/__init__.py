"""A client of ``edge.v1`` for scripts and tests (docs/clients.md)."""

from edge.client.call import SIGNALING_LOST, Call, Event, Lost, Reconnecting
from edge.client.opening import open_call, take_over

__all__ = [
    "SIGNALING_LOST",
    "Call",
    "Event",
    "Lost",
    "Reconnecting",
    "open_call",
    "take_over",
]
