"""What dialects have in common: queues both ways, a limit on faults, names per connection.

The playout outlives a connection to the backend, so a new connection may meet items and marks of
the one before. Ids and names get the connection's number before they go to the session (*tag*), and
what comes back with another connection's number is not for this backend.
"""

from collections import Counter, deque
from typing import Final

from edge.backend.dialect import Message
from edge.errors import BackendError
from edge.media.dialogue import Command

MESSAGES_MAX: Final = 256
COMMANDS_MAX: Final = 256
FAULTS_MAX: Final = 100
"""In one connection; the next one ends it."""
NAME_CHARS_MAX: Final = 256
"""Of a mark's name: names wait in the playout queue."""


class Exchange:
    """One session's messages and commands on their way, and the backend's faults."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        """What was ignored, by reason."""
        self._messages: deque[Message] = deque()
        self._commands: deque[Command] = deque()
        self._connection = 0  # counts from 1; 0 before the first
        self._faults = 0
        self._closed = False

    def next_message(self) -> Message | None:
        """Take the next message for the backend, oldest first."""
        return self._messages.popleft() if self._messages else None

    def next_command(self) -> Command | None:
        """Take the next command for the session, oldest first."""
        return self._commands.popleft() if self._commands else None

    def _connected(self) -> None:
        """Begin a connection: nothing meant for the one before it is left."""
        self._connection += 1
        self._faults = 0
        self._messages.clear()

    def _say(self, message: Message) -> None:
        if len(self._messages) >= MESSAGES_MAX:
            self.drops["message-queue-full"] += 1
            return
        self._messages.append(message)

    def _order(self, command: Command) -> None:
        if len(self._commands) >= COMMANDS_MAX:
            self.drops["command-queue-full"] += 1
            return
        self._commands.append(command)

    def _fault(self, reason: str) -> None:
        """Count a fault of the backend.

        Raises:
            BackendError: ``too-many-errors``.

        """
        self.drops[reason] += 1
        self._faults += 1
        if self._faults > FAULTS_MAX:
            raise BackendError("too-many-errors", f"more than {FAULTS_MAX} faults, last {reason}")

    def _tag(self, name: str) -> str:
        return f"{self._connection}:{name}"

    def _untag(self, tag: str) -> str | None:
        """Return the name if it is of this connection."""
        connection, _, name = tag.partition(":")
        return name if connection == str(self._connection) else None
