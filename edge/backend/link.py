"""The link between a session and its backend: a dialect over a WebSocket that may fail.

The session's side never waits. ``hear`` and ``tell`` write to the socket at once if they can, and
otherwise leave what they have in a backlog, which keeps the newest sound. What the backend says
comes out as commands, called by the worker's poller. Only the link's life is a task, ``run``: it
connects, tries again as the settings say, pings, and closes.
"""

import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

import trio
from attrs import frozen

from edge.backend.backlog import MESSAGES_MAX, Backlog
from edge.backend.connection import Connection, open_connection
from edge.backend.dialect import SESSION_EXPIRED, Dialect, Message, SessionFacts
from edge.backend.endpoint import Endpoint
from edge.backend.policy import (
    STABLE_AFTER,
    Failure,
    LinkEnd,
    LinkSettings,
    OnFailure,
    Retries,
    end_after,
)
from edge.backend.tally import LinkTally
from edge.errors import BackendError
from edge.media.dialogue import HangUp, Notice, PlayoutCommand
from edge.media.frames import AudioFrame
from edge.poller import Poller

logger = logging.getLogger(__name__)

NOTICES_MAX: Final = 64
"""Notices that wait for a connection."""
FLUSH_MAX: Final = 50
"""Messages of the backlog that are sent at once, so that a second of sound takes some turns."""

# Close codes of RFC 6455 §7.4.1.
_NORMAL = 1000
_POLICY_VIOLATION = 1008
_INTERNAL_ERROR = 1011
_CLOSE_CODES: Final = {LinkEnd.PROTOCOL: _POLICY_VIOLATION, LinkEnd.CRASHED: _INTERNAL_ERROR}


class Control(Protocol):
    """The session's side. Neither method may wait."""

    def opened(self) -> None:
        """The backend is there; again after a connection that was lost."""

    def command(self, command: PlayoutCommand) -> None:
        """The backend wants this. A ``HangUp`` comes as ``end``."""

    def end(self, end: LinkEnd, detail: str) -> None:
        """The link is over, by itself. Called once, and never after ``finish``."""


class LinkState(StrEnum):
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


@frozen
class LinkStatistics:
    """A link so far."""

    endpoint: str
    """Scheme, host and port."""
    state: LinkState
    connects: int
    """Connections that were opened."""
    connect_time: float | None
    """Seconds that the present or last one took; with those that failed before it."""
    messages_sent: int
    messages_received: int
    frames_dropped: int
    """Oldest sound, dropped because the backend did not keep up or was not there."""
    queued: float
    """Seconds of sound that wait."""
    drops: Counter[str]
    """What else was lost, by reason, the dialect's drops included."""


class Link:
    """One session's backend. ``poller`` and ``tally`` are the worker's. Start ``run`` as a task."""

    def __init__(
        self,
        dialect: Dialect,
        settings: LinkSettings,
        facts: SessionFacts,
        control: Control,
        poller: Poller,
        tally: LinkTally,
    ) -> None:
        self.state = LinkState.CONNECTING
        self._dialect, self._settings, self._facts = dialect, settings, facts
        self._control, self._poller, self._tally = control, poller, tally
        self._endpoint = Endpoint.parse(
            settings.url, settings.headers, settings.subprotocol, settings.ca_file
        )
        self._fields = {"session_id": facts.session, "backend": str(self._endpoint)}
        self._backlog = Backlog(settings.queue_max)
        self._notices: deque[Notice] = deque()
        self._drops: Counter[str] = Counter()
        self._connection: Connection | None = None
        self._opened_at = 0.0
        self._connects = 0
        self._connect_time: float | None = None
        self._messages_sent = 0
        self._messages_received = 0
        self._behind = False  # frames have been dropped since the backlog was last empty
        self._over = False  # finished, or ended by itself
        self._life = trio.CancelScope()

    # The session's side

    def hear(self, frame: AudioFrame) -> None:
        """Give the backend what the client says, now or as soon as it takes it."""
        if self._over:
            return
        connection = self._connection
        if connection is None or not connection.ready or self._backlog:
            self._keep(frame)
            return
        try:
            message = self._dialect.hear(frame)
        except Exception as exc:  # noqa: BLE001 - the crash scope of a link
            self._crash(exc)
            return
        if message is not None:
            self._send(connection, message)

    def tell(self, notice: Notice) -> None:
        """Tell the backend, now or when it is there."""
        if self._over:
            return
        if self._connection is None or not self._connection.open:
            if len(self._notices) >= NOTICES_MAX:
                self._notices.popleft()
                self._drops["notice-queue-full"] += 1
            self._notices.append(notice)
            return
        self._guard(lambda: self._dialect.notify(notice))

    def finish(self, reason: str) -> None:
        """Say goodbye and close. ``run`` returns when that is done; nothing happens if it is over.

        ``reason`` is one of the words of docs/backend-protocol.md.
        """
        if self._over:
            return
        if self._connection is not None:
            self._guard(lambda: self._say_goodbye(reason))
        self._over = True
        if self._connection is not None and not self._backlog:
            self._connection.close(_NORMAL)
        self._life.cancel()

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(
            endpoint=str(self._endpoint),
            state=self.state,
            connects=self._connects,
            connect_time=self._connect_time,
            messages_sent=self._messages_sent,
            messages_received=self._messages_received,
            frames_dropped=self._backlog.frames_dropped,
            queued=self._backlog.seconds,
            drops=self._drops + self._dialect.drops,
        )

    # The task

    async def run(self) -> None:
        """Connect and stay connected until the session or the backend has enough."""
        states = self._tally.states
        states[self.state] += 1
        try:
            with self._life:
                await self._live()
            await self._leave()
        except Exception as exc:  # noqa: BLE001 - the crash scope of a link
            self._crash(exc)
        finally:
            if self._connection is not None:
                self._connection.abort()
            self._backlog.clear()
            states[self.state] -= 1
            self.state = LinkState.CLOSED
            self._tally.drops.update(self._drops + self._dialect.drops)

    async def _live(self) -> None:
        retries = Retries(self._settings, again=False, now=trio.current_time())
        while await self._connect(retries):
            failure = await self._watch()
            self._tally.failures[failure.reason] += 1
            end = end_after(failure)
            if end is not None or self._settings.on_failure is OnFailure.END:
                self._end(end or LinkEnd.LOST, str(failure))
                return
            self._forget_connection()
            now = trio.current_time()
            if not retries.again or now - self._opened_at >= STABLE_AFTER:
                retries = Retries(self._settings, again=True, now=now)
            if not await self._back_off(retries, failure):
                return

    async def _connect(self, retries: Retries) -> bool:
        """Try until a connection is open; report the end if there will be none."""
        began = trio.current_time()
        while True:
            try:
                with trio.fail_after(self._settings.connect_timeout):
                    await open_connection(self._endpoint, self._poller, self)
            except trio.TooSlowError:
                failure = BackendError(Failure.TIMEOUT, "no answer in time")
            except BackendError as exc:
                failure = exc
            else:
                self._connect_time = self._opened_at - began
                self._tally.connect.note(self._connect_time)
                return True
            self._tally.failures[failure.reason] += 1
            if not await self._back_off(retries, failure):
                return False

    async def _back_off(self, retries: Retries, failure: BackendError) -> bool:
        """Wait for the next attempt; report the end if there is none."""
        delay = retries.next_delay(failure, random.random(), trio.current_time())  # noqa: S311 - no secret
        if delay is None:
            self._end(retries.end(failure), str(failure))
            return False
        logger.info(
            "session %s: backend %s: %s",
            self._facts.session,
            self._endpoint,
            failure,
            extra=self._fields,
        )
        await trio.sleep(delay)
        return True

    async def _watch(self) -> BackendError:
        """Ping until the connection has ended; return why."""
        connection = self._connection
        assert connection is not None  # _connect has just opened it
        while not connection.ended.is_set():
            with trio.move_on_after(self._settings.ping_interval):
                await connection.ended.wait()
                break
            if connection.answered:
                if connection.round_trip is not None:
                    self._tally.round_trip.note(connection.round_trip)
                connection.ping()
            else:
                connection.lose("does not answer pings")
        if connection.crashed is not None:
            raise connection.crashed
        assert connection.failure is not None  # it has ended and not crashed
        return connection.failure

    async def _leave(self) -> None:
        """Let the rest go out and the close handshake happen."""
        if self._connection is not None:
            with trio.move_on_after(self._settings.close_timeout):
                await self._connection.closed.wait()

    # The connection's side

    def opened(self, connection: Connection) -> None:
        if self._over:
            return
        again = self._connects > 0
        self._connects += 1
        self._opened_at = trio.current_time()
        self._enter(LinkState.OPEN)
        logger.info(
            "session %s: backend %s is open",
            self._facts.session,
            self._endpoint,
            extra=self._fields,
        )
        self._dialect.open(self._facts, again=again)
        while (message := self._dialect.next_message()) is not None:
            self._send(connection, message)
        self._connection = connection
        self._control.opened()
        while self._notices:
            self._dialect.notify(self._notices.popleft())
        self._carry_out()

    def received(self, message: Message) -> None:
        if self._over:
            return
        self._messages_received += 1
        self._tally.messages_received += 1
        try:
            self._dialect.receive(message)
        except BackendError as exc:
            if exc.reason == SESSION_EXPIRED and self._connection is not None:
                self._connection.lose("ended the session after its time")
            else:
                self._end(LinkEnd.PROTOCOL, str(exc))
            return
        self._carry_out()

    def writable(self) -> None:
        self._flush()

    # Between the two

    def _say_goodbye(self, reason: str) -> None:
        self._backlog.settle(self._dialect.hear)
        self._dialect.close(reason)

    def _carry_out(self) -> None:
        """Pull what the dialect has to say to either side."""
        while not self._over and (message := self._dialect.next_message()) is not None:
            if not self._backlog.add_message(message):
                self._drops["message-queue-full"] += 1
                assert self._connection is not None  # the dialect has been opened
                self._connection.lose(f"leaves {MESSAGES_MAX} messages unread")
                return
        if self._backlog:
            self._flush()
        while not self._over and (command := self._dialect.next_command()) is not None:
            if isinstance(command, HangUp):
                self._end(LinkEnd.HUNG_UP, command.reason)
            else:
                self._control.command(command)

    def _flush(self) -> None:
        """Send of the backlog what the connection takes; after the last of it, the close frame."""
        connection, backlog = self._connection, self._backlog
        if connection is None:
            return
        for _ in range(FLUSH_MAX):
            if not backlog or not connection.ready:
                break
            item = backlog.pop()
            message = self._dialect.hear(item) if isinstance(item, AudioFrame) else item
            if message is not None:
                self._send(connection, message)
        if backlog:
            if connection.ready:
                connection.call_back()
            return
        if self._behind:
            self._behind = False
            logger.info(
                "session %s: the backend keeps up again",
                self._facts.session,
                extra=self._fields,
            )
        if self._over:
            connection.close(_NORMAL)

    def _keep(self, frame: AudioFrame) -> None:
        dropped = self._backlog.frames_dropped
        self._backlog.add_frame(frame)
        self._tally.frames_dropped += self._backlog.frames_dropped - dropped
        if self._backlog.frames_dropped > dropped and not self._behind:
            self._behind = True
            logger.warning(
                "session %s: the backend does not keep up: sound is dropped",
                self._facts.session,
                extra=self._fields,
            )

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        self._drops["message-lost"] += self._backlog.forget_messages()
        self._enter(LinkState.RECONNECTING if self._connects else LinkState.CONNECTING)

    def _send(self, connection: Connection, message: Message) -> None:
        self._messages_sent += 1
        self._tally.messages_sent += 1
        connection.send(message)

    def _enter(self, state: LinkState) -> None:
        self._tally.states[self.state] -= 1
        self._tally.states[state] += 1
        self.state = state

    def _guard(self, verb: Callable[[], None]) -> None:
        """Run a verb of the dialect and what follows; an exception ends the link."""
        try:
            verb()
            self._carry_out()
        except Exception as exc:  # noqa: BLE001 - the crash scope of a link
            self._crash(exc)

    def _crash(self, error: Exception) -> None:
        logger.error(
            "session %s: the backend link crashed",
            self._facts.session,
            exc_info=error,
            extra=self._fields,
        )
        self._end(LinkEnd.CRASHED, type(error).__name__)

    def _end(self, end: LinkEnd, detail: str) -> None:
        """End by ourselves, once: tell the session, and close what is open."""
        if self._over:
            return
        self._over = True
        self._tally.ends[end] += 1
        logger.info(
            "session %s: backend link ended: %s: %s",
            self._facts.session,
            end,
            detail,
            extra={**self._fields, "reason": end.value},
        )
        self._backlog.clear()
        if self._connection is not None:
            self._connection.close(_CLOSE_CODES.get(end, _NORMAL))
        self._life.cancel()
        self._control.end(end, detail)
