"""What every kind of backend connection has in common: a dialect, without I/O.

A dialect is the translation between a session (edge/media) and the messages of one kind of backend:
str is a text message, bytes a binary one. Its owner, the link, moves the messages. After ``open``,
``receive``, ``notify`` or ``close`` the owner pulls ``next_message`` and ``next_command`` until
None. Audio goes out apart from that, as what ``hear`` returns: it may be thrown away when the
backend does not keep up, which messages are not.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from attrs import field, frozen

from edge.media.dialogue import Command, Notice
from edge.media.frames import AudioFormat, AudioFrame
from edge.media.payloads import Codec

Message = str | bytes

SESSION_EXPIRED = "session-expired"
"""The reason of a ``BackendError`` that a new connection cures."""


@frozen
class SessionFacts:
    """What a backend is told about a session."""

    session: str
    """The session's id."""
    route: str
    codec: Codec
    """What the client speaks; the backend gets its own format whatever this is."""
    metadata: Mapping[str, Any] = field(factory=dict)
    """What the client's offer said about itself: JSON, not to be trusted."""


class Dialect(Protocol):
    """One session's translation."""

    format: AudioFormat
    """What ``hear`` takes and ``Play`` commands carry."""
    drops: Counter[str]
    """What was ignored, by reason."""

    def open(self, facts: SessionFacts, *, again: bool) -> None:
        """The connection is up. ``again``: it was up before, and this is a new one."""

    def hear(self, frame: AudioFrame) -> Message | None:
        """Return the message that carries a frame, if it is to be sent now."""

    def notify(self, notice: Notice) -> None:
        """Tell the backend."""

    def receive(self, message: Message) -> None:
        """Take one message of the backend.

        Raises:
            BackendError: the message breaks the protocol so that going on makes no sense. What can
                be ignored is counted in ``drops`` instead.

        """

    def close(self, reason: str) -> None:
        """The session is over: say so. ``reason`` is one of the documented words."""

    def next_message(self) -> Message | None: ...

    def next_command(self) -> Command | None: ...
