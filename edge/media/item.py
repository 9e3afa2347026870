"""One piece of a backend's speech on its way to the client."""

from collections import deque

from edge.media.sound import Sound


class Item:
    """Sound that waits, and how far it has got. Amounts in the units of ``edge.media.sound``."""

    __slots__ = ("consumed", "ended", "id", "interrupted", "marks", "received", "sent", "sound")

    def __init__(self, id_: str, sound: Sound) -> None:
        self.id = id_
        self.sound = sound
        self.consumed = 0
        """What has left ``sound``: sent, or dropped."""
        self.sent = 0
        self.received: float | None = None
        """Of ``sent``; None until a receiver report tells."""
        self.ended = False
        """No more sound will come."""
        self.interrupted = False
        """It could not fill its last frame, or ran dry behind it."""
        self.marks: deque[tuple[int, str]] = deque()
        """Names by the amount that has to be consumed before, ascending."""
