"""A Redis client for workers that must not wait: commands in a pipeline, over one connection.

``run`` keeps a connection to the master, for ever. While there is none, and when too many commands
have no reply, commands are refused at once. A lost connection is made anew after a pause that grows
and is never quite the same, so that a fleet does not come back as one.
"""

import contextlib
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

import trio
from attrs import frozen

from edge.errors import StoreError
from edge.redis.connecting import RECEIVE_BYTES, Connector, name_server
from edge.redis.pipeline import Done, Pipeline
from edge.redis.resp import Argument, Reply
from edge.redis.settings import RedisSettings

logger = logging.getLogger(__name__)

PAUSE_MIN: Final = 0.1
PAUSE_MAX: Final = 5.0
STEADY_TIME: Final = 10.0
"""A connection that lasted so long was a good one: the next pause is short again."""
LOG_INTERVAL: Final = 10.0
"""At most one line about a lost connection in so many seconds."""


class State(Enum):
    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


@frozen
class ClientStatistics:
    state: State
    server: str
    """The master; empty while there is none."""
    connected: int
    """How often a connection was made."""
    lost: dict[str, int]
    """Lost and failed connections, by reason."""
    pending: int
    """Commands without a reply."""


class RedisClient:
    """One connection, and the commands on it."""

    def __init__(self, settings: RedisSettings, title: str = "Redis") -> None:
        """``title``: what log lines call it, if the process has several."""
        self._settings = settings
        self._title = title
        self._connector = Connector(settings)
        self._pipeline: Pipeline | None = None
        self._work = trio.Event()
        self._state = State.CONNECTING
        self._server = ""
        self._connected = 0
        self._lost: Counter[str] = Counter()
        self._told_at = -math.inf
        self._told_down = False

    @property
    def is_up(self) -> bool:
        """Whether commands are taken."""
        return self._pipeline is not None

    @property
    def connected(self) -> int:
        """How often a connection was made: who sees it grow knows that Redis may be another."""
        return self._connected

    def submit(self, done: Done | None, *arguments: Argument) -> None:
        """Send a command and return; ``done`` gets its reply, or a StoreError instead.

        Raises:
            StoreError: ``redis-down`` or ``redis-busy``; ``done`` is not called.

        """
        if self._pipeline is None:
            raise StoreError("redis-down")
        self._pipeline.submit(done, *arguments, now=time.monotonic())
        self._work.set()

    async def call(self, *arguments: Argument) -> Reply:
        """Send a command and return its reply.

        Raises:
            StoreError: there is none, or it is an error.

        """
        (reply,) = await self.call_all([arguments])
        return reply

    async def call_all(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send commands at once and return their replies, in order.

        Raises:
            StoreError: one has no reply, or an error.

        """
        answered = trio.Event()
        replies: list[Reply] = []

        def take(reply: Reply) -> None:
            replies.append(reply)
            if len(replies) == len(commands):
                answered.set()

        for command in commands:
            self.submit(take, *command)
        if commands:
            await answered.wait()
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        pause = PAUSE_MIN
        while True:
            began = time.monotonic()
            failure = await self._serve_once()
            self._lost[failure.reason] += 1
            self._tell_down(failure)
            pause = PAUSE_MIN if time.monotonic() - began > STEADY_TIME else pause
            await trio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            pause = min(2 * pause, PAUSE_MAX)

    def statistics(self) -> ClientStatistics:
        return ClientStatistics(
            state=self._state,
            server=self._server,
            connected=self._connected,
            lost=dict(self._lost),
            pending=0 if self._pipeline is None else self._pipeline.pending,
        )

    async def _serve_once(self) -> StoreError:
        """Connect and serve, as long as it goes well; return what ended it."""
        try:
            stream, server = await self._connector.connect()
        except StoreError as exc:
            self._state = State.DOWN
            return exc
        pipeline = Pipeline(self._settings.command_timeout)
        self._pipeline, self._work = pipeline, trio.Event()
        self._state, self._server = State.UP, name_server(server)
        self._connected += 1
        self._tell_up()
        failure = StoreError("redis-lost", "the connection ended")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, stream, pipeline)
                nursery.start_soon(self._watch, pipeline)
                await self._receive(stream, pipeline)
        except* StoreError as group:
            failure = next(each for each in group.exceptions if isinstance(each, StoreError))
        finally:
            self._pipeline, self._server, self._state = None, "", State.DOWN
            pipeline.fail(failure)
            await trio.aclose_forcefully(stream)
        return failure

    async def _send(self, stream: trio.abc.Stream, pipeline: Pipeline) -> None:
        while True:
            await self._work.wait()
            self._work = trio.Event()
            with _lost_if_broken():
                await stream.send_all(pipeline.take_outgoing())

    async def _receive(self, stream: trio.abc.Stream, pipeline: Pipeline) -> None:
        while True:
            with _lost_if_broken():
                data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise StoreError("redis-lost", "the server hung up")
            wrong_server = pipeline.receive(bytes(data))
            if wrong_server is not None:
                raise wrong_server

    async def _watch(self, pipeline: Pipeline) -> None:
        """Give up a connection whose oldest command has no reply in time."""
        limit = self._settings.command_timeout
        while True:
            deadline, now = pipeline.deadline, time.monotonic()
            if deadline is not None and deadline <= now:
                raise StoreError("redis-timeout", f"no reply for {limit:g} s")
            await trio.sleep(limit / 2 if deadline is None else min(deadline - now, limit / 2))

    def _tell_up(self) -> None:
        if self._told_down or self._connected == 1:
            logger.info("%s at %s: connected", self._title, self._server)
        self._told_down = False

    def _tell_down(self, failure: StoreError) -> None:
        now = time.monotonic()
        if not self._told_down and now - self._told_at >= LOG_INTERVAL:
            text = "%s: %s: calls go on without (%s)"
            logger.warning(text, self._title, failure, failure.reason)
            self._told_at, self._told_down = now, True


@contextlib.contextmanager
def _lost_if_broken() -> Iterator[None]:
    try:
        yield
    except trio.BrokenResourceError as exc:
        raise StoreError("redis-lost", "the connection broke") from exc
