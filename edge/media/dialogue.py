"""What a session and its backend tell each other beside audio frames.

A backend speaks in *items*: pieces of speech with an id, an answer of the model as a rule. Their
positions count what has really been sent to the client, in seconds of their own sound.
"""

from typing import NamedTuple

from attrs import frozen


class Play(NamedTuple):
    """Append sound to an item. A new id begins a new item behind all others."""

    item: str
    audio: bytes
    """In the backend's format: PCM16 of any length (also odd parts of a frame), or one packet."""


class EndItem(NamedTuple):
    """No more sound for this item: what is left of its last frame is padded and played."""

    item: str


class Mark(NamedTuple):
    """Ask for ``MarkReached`` when all that was appended before has been sent, or was cleared."""

    name: str


class Clear(NamedTuple):
    """Forget everything that has not been sent. Answered by ``Cleared``."""


class Pause(NamedTuple):
    """Stop sending with the next frame, and keep the queue."""


class Resume(NamedTuple):
    """Go on where a pause stopped."""


class HangUp(NamedTuple):
    """End the call; what is queued is not played. ``reason`` is for logs."""

    reason: str


PlayoutCommand = Play | EndItem | Mark | Clear | Pause | Resume
"""From the backend, about sound."""

Command = PlayoutCommand | HangUp
"""From the backend."""


@frozen
class ItemPosition:
    """How far an item has got. Seconds of its sound."""

    item: str
    sent: float
    received: float | None
    """Of that, what the client's receiver reports say has arrived; None before the first report.
    Reports come every few seconds, so this lags behind ``sent``."""


@frozen
class ItemStarted:
    """The item's first frame has been sent."""

    item: str


@frozen
class ItemEnded:
    """All of the item has been sent."""

    position: ItemPosition


@frozen
class MarkReached:
    name: str
    cleared: bool
    """The sound before the mark was cleared, not played."""


@frozen
class Cleared:
    """What a ``Clear`` cut off: every item that was begun or queued, in order."""

    positions: tuple[ItemPosition, ...]


@frozen
class Digit:
    """A key of the client's telephone pad (RFC 4733): one of ``0123456789*#ABCD``."""

    digit: str
    media_time: float
    """As in ``AudioFrame``."""


@frozen
class SoundDropped:
    """The playout queue was full: so many seconds of its oldest sound were thrown away."""

    seconds: float


Notice = ItemStarted | ItemEnded | MarkReached | Cleared | Digit | SoundDropped
"""To the backend."""
