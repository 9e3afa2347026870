"""The loopback: what the client says is decoded, buffered, encoded again and played to him.

It shows how a call sounds through the whole media path, without a backend. Sound that comes in
faster than it goes out, because the client's clock is fast or the jitter buffer has become shorter,
would make the delay grow for ever: beyond ``DELAY_MAX`` a frame is left out now and then.
"""

from collections import Counter

from edge.media.dialogue import Notice, Play
from edge.media.frames import AudioFrame
from edge.media.path import MediaPath

DELAY_MAX = 0.12
"""Seconds of sound that may wait to be played."""

_ITEM = "loopback"


class Loopback:
    """The listener of a media path that plays what it hears to the same path."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self._path: MediaPath | None = None

    def join(self, path: MediaPath) -> None:
        """Play into this path. What is heard before is lost."""
        self._path = path

    def hear(self, frame: AudioFrame) -> None:
        path = self._path
        if path is None:
            return
        if path.queued > DELAY_MAX:
            self.drops["loopback-delay"] += 1
            return
        path.command(Play(_ITEM, frame.audio), path.now)

    def tell(self, notice: Notice) -> None:
        """Digits and marks: nobody is interested."""
