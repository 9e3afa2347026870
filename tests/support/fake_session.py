"""The two ends of a link, as small as they can be: a dialect and a session that records."""

from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field

from edge.backend.dialect import Message, SessionFacts
from edge.backend.link import Link
from edge.backend.policy import LinkEnd, LinkSettings
from edge.backend.tally import LinkTally
from edge.errors import BackendError
from edge.media.dialogue import Command, HangUp, Notice, Play, PlayoutCommand
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.payloads import Codec
from edge.poller import Poller

FACTS = SessionFacts("1.0.test", "default", Codec.OPUS)


class PlainDialect:
    """Binary messages are audio, either way; a few texts are what they say."""

    def __init__(self) -> None:
        self.format = AudioFormat(Encoding.PCM16, 16000)
        self.drops: Counter[str] = Counter()
        self.messages: deque[Message] = deque()
        self.commands: deque[Command] = deque()

    def open(self, facts: SessionFacts, *, again: bool) -> None:
        assert facts is FACTS
        self.messages.append("again" if again else "start")

    def hear(self, frame: AudioFrame) -> Message | None:
        if frame.audio == b"crash":
            raise ValueError("hear")
        return frame.audio or None

    def notify(self, notice: Notice) -> None:
        self.messages.append(type(notice).__name__)

    def receive(self, message: Message) -> None:
        if isinstance(message, bytes):
            self.commands.append(Play("1", message))
        elif message == "hang-up":
            self.commands.append(HangUp("enough"))
        elif message == "bad":
            raise BackendError("bad-message", "it was bad")
        elif message == "crash":
            raise ValueError("receive")
        else:
            self.messages.append(f"answer to {message}")

    def close(self, reason: str) -> None:
        self.messages.append(f"stop {reason}")

    def next_message(self) -> Message | None:
        return self.messages.popleft() if self.messages else None

    def next_command(self) -> Command | None:
        return self.commands.popleft() if self.commands else None


@define(eq=False)
class Session:
    """Records what the link says, and can wait for it."""

    tally: LinkTally = field(factory=LinkTally)
    link: Link = field(init=False)
    openings: int = 0
    commands: list[PlayoutCommand] = field(factory=list)
    ends: list[tuple[LinkEnd, str]] = field(factory=list)
    returned: trio.Event = field(factory=trio.Event)
    """The link's task has ended."""

    def opened(self) -> None:
        self.openings += 1

    def command(self, command: PlayoutCommand) -> None:
        self.commands.append(command)

    def end(self, end: LinkEnd, detail: str) -> None:
        self.ends.append((end, detail))

    async def wait_until(self, condition: str) -> None:
        """Poll a condition on ``s``, the session: what it is about has no event of its own."""
        code = compile(condition, "<condition>", "eval")
        while not eval(code, {"s": self, "len": len}):  # the tests' own text
            await trio.sleep(0.002)


SETTINGS: dict[str, Any] = {
    "connect_timeout": 1.0,
    "backoff": 0.02,
    "backoff_max": 0.1,
    "close_timeout": 1.0,
}


@asynccontextmanager
async def linked(
    url: str, *, poller: Poller | None = None, **changes: Any
) -> AsyncIterator[Session]:
    """Run a link to ``url``, without a poller's task if one is given."""
    session = Session()
    own = Poller()
    settings = LinkSettings(url, **{**SETTINGS, **changes})
    session.link = Link(PlainDialect(), settings, FACTS, session, poller or own, session.tally)

    async def run() -> None:
        await session.link.run()
        session.returned.set()

    async with trio.open_nursery() as nursery:
        if poller is None:
            nursery.start_soon(own.run)
        nursery.start_soon(run)
        with trio.fail_after(20):
            yield session
        nursery.cancel_scope.cancel()


def frame(number: int, audio: bytes | None = None) -> AudioFrame:
    """Return 20 ms of sound that says which it is."""
    sound = number.to_bytes(4) * 160 if audio is None else audio
    return AudioFrame(Label.RECEIVED, number * 0.02, 0.02, 0.0, sound, None)
