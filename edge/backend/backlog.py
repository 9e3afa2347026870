"""What waits for a backend that is not connected yet or does not keep up."""

from collections import deque
from collections.abc import Callable
from typing import Final

from edge.backend.dialect import Message
from edge.media.frames import AudioFrame

MESSAGES_MAX: Final = 1024
"""Messages that wait, audio apart. They are never dropped, so more of them end the connection."""
_EPSILON: Final = 1e-6
"""Sums of frame durations are not exact."""


class Backlog:
    """Frames and messages in the order they came in; of frames, only the newest ``seconds_max``.

    Frames are kept as they are. They become messages when they leave, so that numbers which a
    dialect gives them have no gaps, and they can go to another connection.
    """

    def __init__(self, seconds_max: float) -> None:
        self.seconds = 0.0
        """Of sound that waits."""
        self.frames_dropped = 0
        self._seconds_max = seconds_max
        self._order = 0
        self._frames: deque[tuple[int, AudioFrame]] = deque()
        self._messages: deque[tuple[int, Message]] = deque()

    def __bool__(self) -> bool:
        return bool(self._frames or self._messages)

    @property
    def messages(self) -> int:
        return len(self._messages)

    def add_frame(self, frame: AudioFrame) -> None:
        """Append a frame, and drop the oldest ones that there is no room for."""
        self._order += 1
        self._frames.append((self._order, frame))
        self.seconds += frame.duration
        while self.seconds > self._seconds_max + _EPSILON:
            self.seconds -= self._frames.popleft()[1].duration
            self.frames_dropped += 1

    def add_message(self, message: Message) -> bool:
        """Append a message; return False if there is no room for it."""
        if len(self._messages) >= MESSAGES_MAX:
            return False
        self._order += 1
        self._messages.append((self._order, message))
        return True

    def pop(self) -> AudioFrame | Message:
        """Take what came first; there has to be something."""
        if self._messages and (not self._frames or self._messages[0][0] < self._frames[0][0]):
            return self._messages.popleft()[1]
        frame = self._frames.popleft()[1]
        self.seconds = self.seconds - frame.duration if self._frames else 0.0
        return frame

    def settle(self, encode: Callable[[AudioFrame], Message | None]) -> None:
        """Turn all frames into messages now, which their dialect can do until it is closed."""
        items = [self.pop() for _ in range(len(self._frames) + len(self._messages))]
        for item in items:
            message = encode(item) if isinstance(item, AudioFrame) else item
            if message is not None:
                self._messages.append((self._order, message))

    def forget_messages(self) -> int:
        """Drop the messages, which were for a connection that is lost; return how many."""
        count = len(self._messages)
        self._messages.clear()
        return count

    def clear(self) -> None:
        self._frames.clear()
        self._messages.clear()
        self.seconds = 0.0
