"""A call's signaling, which survives the WebSocket that carries it. Media is the caller's.

A task of the call reads one WebSocket after another. When one breaks under a session, the next one
takes the session over with its secret, as long as a server may keep it; what the caller asks for
meanwhile waits. An offer that is redirected is sent again over the next one.
``web/edge-signaling.js`` is the same for browsers.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any, assert_never

import trio
from attrs import define, evolve, field, frozen
from trio_websocket import ConnectionClosed, WebSocketConnection

from edge.client.connection import PING_INTERVAL, Endpoint, connect, is_safe_redirect
from edge.client.messages import decode_server_message, encode_client_message
from edge.errors import SignalError
from edge.signal.messages import (
    Answer,
    Bye,
    ClientMessage,
    Error,
    ErrorCode,
    GoingAway,
    HangUp,
    Heartbeat,
    Offer,
    Redirect,
    Resume,
    Resumed,
    ServerMessage,
    State,
    Staying,
)

EVENTS_MAX = 256
REPLY_TIMEOUT = 10.0
LEAVE_TIMEOUT = 2.0
RESUME_TIME = 30.0
"""How long to try to resume if the server has not said how long it keeps the session."""
MARGIN = 5.0
"""How much longer than that to try: the server may notice the loss later than we do."""
REDIRECTS_MAX = 3
FIRST_PAUSE = 0.25
PAUSE_MAX = 4.0

SIGNALING_LOST = "signaling-lost"
"""The reason of an error or an end: the WebSocket broke."""

_FINAL = frozenset(
    {
        ErrorCode.UNKNOWN_SESSION,
        ErrorCode.UNAUTHORIZED,
        ErrorCode.FORBIDDEN,
        ErrorCode.REPLACED,
    }
)
"""What makes another try to resume useless."""


@frozen
class Reconnecting:
    """The WebSocket broke; the session may go on. Resumed, Bye or Lost follows."""


@frozen
class Lost:
    """The conversation is over, and no bye has said why."""

    reason: str
    """An ``ErrorCode`` or ``SIGNALING_LOST``."""
    message: str


Event = State | GoingAway | Staying | Bye | Reconnecting | Resumed | Lost


class Call:
    """One session's signaling. ``opening.py`` makes it."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        route: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        resume: bool = True,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        self.session: str | None = None
        """The server's name of it, once there is an answer."""
        self.secret: str | None = None
        """Whoever has it may take the session over."""
        self.grace = RESUME_TIME
        """How long the session stays, and is tried for, without a WebSocket."""
        self.ended: Bye | Lost | None = None
        self.drops: Counter[str] = Counter()
        self._endpoint = endpoint
        self._route = route
        self._metadata = None if metadata is None else dict(metadata)
        self._resume = resume
        self._ping_interval = ping_interval
        self._events, self.events = trio.open_memory_channel[Event](EVENTS_MAX)
        self._asking = trio.Lock()
        self._reply: _Reply | None = None
        self._complaint: Error | None = None
        """The latest error that was no reply: the server closes next."""
        self._websocket: WebSocketConnection | None = None
        """The one that is usable; None while there is none."""
        self._changed = trio.Event()
        """Set when ``_websocket`` or ``ended`` is another than it was."""
        self._connection = trio.CancelScope()
        self._redirects = 0
        self._moving = False
        """It is being redirected: the next WebSocket goes elsewhere, and the offer with it."""

    async def offer(self, sdp: str) -> str:
        """Send an SDP offer and return the answer: first to open the session, later to restart ICE.

        While the WebSocket is broken it waits.

        Raises:
            SignalError: the server refuses it, or the reason is ``SIGNALING_LOST``. A session that
                there is lives on, and the offer may be sent again.

        """
        opening = self.session is None
        message = (
            Offer(sdp=sdp, route=self._route, metadata=self._metadata)
            if opening
            else Offer(sdp=sdp)
        )
        answer = await self._ask(message)
        self.session = answer.session
        self.secret = answer.secret or self.secret
        self.grace = answer.grace if answer.grace is not None else self.grace
        return answer.sdp

    async def next_event(self) -> Event:
        """Wait for the next event. While ``EVENTS_MAX`` wait, more are dropped and counted.

        Raises:
            trio.EndOfChannel: it is over.

        """
        return await self.events.receive()

    async def wait_ended(self) -> Bye | Lost:
        """Wait until the session or the conversation is over."""
        while self.ended is None:
            await self._changed.wait()
        return self.ended

    async def hang_up(self) -> None:
        """End the session, and wait for the server's bye. Does nothing if it is over."""
        if self.ended is None and self._websocket is not None and self.session is not None:
            await self._send(self._websocket, HangUp())
            with trio.move_on_after(LEAVE_TIMEOUT):
                await self.wait_ended()

    def drop_connection(self) -> None:
        """Close the TCP connection without a word, as a network that is lost does."""
        self._use(None)
        self._connection.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry the conversation until it is over; started once it is usable for the first time.

        Raises:
            SignalError: it never was.

        """
        with self._events:
            await self._carry(task_status.started)
            while self.ended is None:
                if self._moving:
                    await self._move()
                elif self.session is None or not self._resume:
                    self._end(self._loss())
                else:
                    await self._resume_session()

    async def _move(self) -> None:
        """Go on where the server has sent us."""
        try:
            await self._carry(self._arrive)
        except SignalError as exc:
            self._end(Lost(exc.reason, str(exc)))

    def _arrive(self) -> None:
        self._moving = False

    async def _resume_session(self) -> None:
        """Try until a WebSocket has carried the session for a while, or none will."""
        self._emit(Reconnecting())
        carried = trio.Event()
        deadline = trio.current_time() + self.grace + MARGIN
        longest = FIRST_PAUSE
        while self.ended is None and not carried.is_set():
            pause = longest * random.random()  # noqa: S311 - not all clients of a server at once
            if trio.current_time() + pause > deadline:
                self._end(self._loss())
                return
            await trio.sleep(pause)
            longest = min(PAUSE_MAX, 2 * longest)
            try:
                await self._carry(carried.set, deadline)
            except SignalError as exc:
                if exc.reason in _FINAL:
                    self._end(Lost(exc.reason, str(exc)))

    async def _carry(self, usable: Callable[[], None], deadline: float = inf) -> None:
        """Connect, and take messages until the WebSocket closes.

        What is not usable by the ``deadline`` is given up.

        Raises:
            SignalError: it does not open, or does not come to carry the session that there is.

        """
        try:
            with trio.CancelScope(deadline=deadline) as self._connection:
                async with connect(self._endpoint, self._ping_interval) as websocket:
                    if self.session is not None:
                        await self._attach(websocket, self.session)
                    self._connection.deadline = inf
                    self._use(websocket)
                    usable()
                    await self._read(websocket)
        finally:
            self._use(None)

    async def _attach(self, websocket: WebSocketConnection, session: str) -> None:
        assert self.secret is not None
        await self._send(websocket, Resume(session=session, secret=self.secret))
        with trio.move_on_after(REPLY_TIMEOUT):
            while (message := await self._receive(websocket)) is not None:
                if isinstance(message, Error):
                    raise _refusal(message)
                if isinstance(message, Resumed):
                    self._emit(message)
                    return
        raise SignalError(SIGNALING_LOST, "the server does not answer")

    async def _read(self, websocket: WebSocketConnection) -> None:
        """Take messages until the WebSocket closes or the conversation is over."""
        while self.ended is None and (message := await self._receive(websocket)) is not None:
            match message:
                case Answer():
                    if self._reply is not None:
                        self._reply.settle(message)
                case Error():
                    self._receive_error(message)
                case Redirect(url=url):
                    self._follow(url)
                    return
                case State() | GoingAway() | Staying():
                    self._emit(message)
                case Bye():
                    self._end(message)
                case Resumed() | Heartbeat():
                    pass
                case _:
                    assert_never(message)

    def _follow(self, url: str) -> None:
        """Leave this WebSocket for one at ``url``, if one may go there."""
        self._redirects += 1
        if self._redirects > REDIRECTS_MAX or not is_safe_redirect(self._endpoint.url, url):
            self._complaint = Error(
                code=ErrorCode.INTERNAL, message=f"the server has redirected us to {url}"
            )
            return
        self._endpoint = evolve(self._endpoint, url=url)
        self._moving = True
        if self._reply is not None:
            self._reply.settle(None)
        self._use(None)

    def _receive_error(self, error: Error) -> None:
        if error.code == ErrorCode.REPLACED:
            self._end(Lost(error.code, error.message))
        elif self._reply is not None:
            self._reply.settle(_refusal(error))
        else:
            self._complaint = error

    async def _receive(self, websocket: WebSocketConnection) -> ServerMessage | None:
        """Return the next message that is known here; None: the WebSocket is closed."""
        while True:
            try:
                text = await websocket.get_message()
            except ConnectionClosed:
                return None
            message = decode_server_message(text)
            if message is not None:
                return message
            self.drops["unknown-type"] += 1

    async def _ask(self, offer: Offer) -> Answer:
        async with self._asking:
            while (answer := await self._ask_once(offer)) is None:
                pass  # redirected, and not for ever
            return answer

    async def _ask_once(self, offer: Offer) -> Answer | None:
        """Return the answer; None: the offer is to be sent over the next WebSocket."""
        websocket = await self._wait_usable()
        self._reply = reply = _Reply()
        try:
            await self._send(websocket, offer)
            with trio.fail_after(REPLY_TIMEOUT):
                await reply.settled.wait()
        except trio.TooSlowError as exc:
            self.drop_connection()
            raise SignalError(SIGNALING_LOST, "the server does not answer") from exc
        finally:
            self._reply = None
        if isinstance(reply.content, SignalError):
            raise reply.content
        return reply.content

    async def _wait_usable(self) -> WebSocketConnection:
        while self._websocket is None:
            if self.ended is not None:
                raise SignalError(self.ended.reason, self.ended.message)
            await self._changed.wait()
        return self._websocket

    async def _send(self, websocket: WebSocketConnection, message: ClientMessage) -> None:
        with suppress(ConnectionClosed):  # the reader sees it too
            await websocket.send_message(encode_client_message(message))

    def _use(self, websocket: WebSocketConnection | None) -> None:
        self._websocket = websocket
        self._change()
        if websocket is None and self._reply is not None:
            loss = self._loss()
            self._reply.settle(SignalError(loss.reason, loss.message))

    def _end(self, end: Bye | Lost) -> None:
        self.ended = end
        self._emit(end)
        self._change()

    def _loss(self) -> Lost:
        if self._complaint is not None:
            return Lost(self._complaint.code, self._complaint.message)
        return Lost(SIGNALING_LOST, "the connection to the server was lost")

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _emit(self, event: Event) -> None:
        try:
            self._events.send_nowait(event)
        except trio.WouldBlock:
            self.drops["event-queue-full"] += 1


@define
class _Reply:
    """What is awaited for one offer. Content None: it is to be sent again, elsewhere."""

    settled: trio.Event = field(factory=trio.Event)
    content: Answer | SignalError | None = None

    def settle(self, content: Answer | SignalError | None) -> None:
        if not self.settled.is_set():
            self.content = content
            self.settled.set()


def _refusal(error: Error) -> SignalError:
    return SignalError(error.code, error.message, retry_after=error.retry_after)
