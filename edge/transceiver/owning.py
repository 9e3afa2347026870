"""The owner's end of the internal channel: opens and finds sessions as other workers ask.

If a connection ends, its accepting worker has. Its sessions are then left as a client's lost
signaling leaves them: for the grace time. Workers of other hosts ask over the same channel
(edge/transceiver/gateway.py); there, who answers may have to ask a neighbour in turn.
"""

import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, assert_never

import trio

from edge.errors import AccessError, SdpError, SignalError
from edge.signal.host import Report, SessionRequest, StateReport
from edge.signal.intake import serve_connections
from edge.signal.messages import Bye, ByeReason, Error, ErrorCode
from edge.transceiver import neighbour_messages as wire
from edge.transceiver.attachment import Attachment, unknown_session
from edge.transceiver.channel import Channel
from edge.transceiver.neighbours import REQUESTS_MAX, RemoteSession
from edge.transceiver.residents import Residents

logger = logging.getLogger(__name__)

ATTACHMENTS_MAX = 20_000
"""What one worker may have opened and attached to at another one."""

_PEER_CREDENTIALS = struct.Struct("3i")


async def serve_neighbours(
    listener: socket.socket,
    residents: Residents,
    room: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open sessions, and attach to them, as other workers ask.

    ``room`` raises SignalError if there is none for another session.
    """

    async def serve(stream: trio.SocketStream) -> None:
        if _peer_uid(stream) != os.geteuid():
            logger.error("a stranger has connected to a worker's socket")
            await trio.aclose_forcefully(stream)
            return
        channel = Channel(stream, wire.LengthFraming())

        def take(data: bytes) -> None:
            message = wire.decode_to_owner(data)
            if message is not None:
                end.take(message)

        try:
            async with trio.open_nursery() as requests:
                end = OwnersEnd(channel, _Residents(residents, room), requests.start_soon)
                await channel.run(take)
                requests.cancel_scope.cancel()
        except* Exception:
            logger.exception("the connection from another worker has failed")
        finally:
            end.leave()

    listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_connections, serve, [listening]))
        task_status.started()


class Owned(Protocol):
    """A session as whoever has opened or found it for others has it."""

    @property
    def id(self) -> str: ...

    @property
    def secret(self) -> str: ...

    @property
    def answer_sdp(self) -> str: ...

    async def restart(self, offer_sdp: str) -> str:
        """Answer a later offer. Raises SdpError or SignalError."""

    def close(self, reason: ByeReason) -> None:
        """End the session."""

    def detach(self) -> None:
        """Leave it."""


class Source(Protocol):
    """Where the sessions are that others ask for: ``SessionHost``, but of what is its own."""

    async def open_session(self, request: SessionRequest, report: Report) -> Owned: ...

    async def attach(self, session: str, secret: str | None, report: Report | None) -> Owned: ...


class OwnersEnd:
    """One connection. ``start`` runs the task of a request; who cancels it calls ``leave`` then.

    A request is undone if its asker says farewell before it is answered.
    """

    def __init__(
        self,
        channel: Channel,
        source: Source,
        start: Callable[[Callable[[], Awaitable[object]]], None],
    ) -> None:
        self._channel = channel
        self._source = source
        self._start = start
        self._requests = 0
        self._attachments: dict[int, Owned] = {}
        self._pending: dict[int, wire.Close | wire.Detach | None] = {}
        """Attachments that are being made, and the farewell that has come already."""

    def take(self, message: wire.ToOwner) -> None:
        match message:
            case wire.Open(number, request):
                self._attach(number, partial(self._source.open_session, request))
            case wire.Attach(number, session, secret, reports):
                self._attach(number, partial(self._find, session, secret, reports=reports))
            case wire.Restart(number):
                self._ask(number, partial(self._restart, message))
            case wire.Close() | wire.Detach():
                if (attachment := self._attachments.pop(message.attachment, None)) is not None:
                    _leave(attachment, message)
                elif message.attachment in self._pending:
                    self._pending[message.attachment] = message
            case _:
                assert_never(message)

    def leave(self) -> None:
        """The accepting worker is gone."""
        for attachment in self._attachments.values():
            attachment.detach()
        self._attachments.clear()

    async def _find(
        self, session: str, secret: str | None, report: Report, *, reports: bool
    ) -> Owned:
        return await self._source.attach(session, secret, report if reports else None)

    def _attach(self, number: int, make: Callable[[Report], Awaitable[Owned]]) -> None:
        self._pending[number] = None
        self._ask(number, partial(self._make, number, make))

    async def _make(
        self, number: int, make: Callable[[Report], Awaitable[Owned]]
    ) -> wire.Opened | None:
        if len(self._attachments) >= ATTACHMENTS_MAX:
            raise SignalError(ErrorCode.BUSY, "there are too many sessions between two workers")
        attachment = await make(partial(self._tell, number))
        if (farewell := self._pending.pop(number)) is not None:
            _leave(attachment, farewell)
            return None
        self._attachments[number] = attachment
        return wire.Opened(number, attachment.id, attachment.secret, attachment.answer_sdp)

    async def _restart(self, restart: wire.Restart) -> wire.Answered:
        attachment = self._attachments.get(restart.attachment)
        if attachment is None:
            raise unknown_session()
        return wire.Answered(restart.number, await attachment.restart(restart.sdp))

    def _ask(
        self, number: int, act: Callable[[], Awaitable[wire.Opened | wire.Answered | None]]
    ) -> None:
        if self._requests >= REQUESTS_MAX:
            self._pending.pop(number, None)
            text = "there are too many requests between two workers"
            self._channel.send(wire.Refused(number, "signal", ErrorCode.BUSY, text))
            return
        self._requests += 1
        self._start(partial(self._answer, number, act))

    async def _answer(
        self, number: int, act: Callable[[], Awaitable[wire.Opened | wire.Answered | None]]
    ) -> None:
        try:
            answer = await act()
        except SdpError as exc:
            self._channel.send(wire.Refused(number, "sdp", exc.reason, str(exc)))
        except SignalError as exc:
            refused = wire.Refused(number, "signal", exc.reason, str(exc), exc.retry_after)
            self._channel.send(refused)
        except AccessError as exc:
            refused = wire.Refused(number, "access", exc.reason, str(exc), exc.retry_after)
            self._channel.send(refused)
        except Exception:  # it must not end the other sessions of this connection
            logger.exception("a request of another worker has failed")
            text = "The server has failed."
            self._channel.send(wire.Refused(number, "signal", ErrorCode.INTERNAL, text))
        else:
            if answer is not None:
                self._channel.send(answer)
        finally:
            self._requests -= 1
            self._pending.pop(number, None)

    def _tell(self, number: int, report: StateReport) -> None:
        if not isinstance(report, Bye | Error) or self._attachments.pop(number, None) is not None:
            self._channel.send(wire.Told(number, report))


class _Residents:
    """What a worker has for its neighbours: its own sessions. Nothing here ever waits."""

    def __init__(self, residents: Residents, room: Callable[[], None]) -> None:
        self._residents = residents
        self._room = room

    async def open_session(self, request: SessionRequest, report: Report) -> Owned:
        self._room()
        attachment = self._residents.open(request, report)
        self._residents.opened_for_others += 1
        return begun(attachment)

    async def attach(self, session: str, secret: str | None, report: Report | None) -> Owned:
        return begun(self._residents.attach(session, secret, report))


def begun(session: Attachment | RemoteSession) -> Attachment | RemoteSession:
    """Let its reports flow as soon as whoever asked for the session has it."""
    trio.lowlevel.current_trio_token().run_sync_soon(session.begin)
    return session


def _leave(attachment: Owned, farewell: wire.Close | wire.Detach) -> None:
    match farewell:
        case wire.Close(_, reason):
            attachment.close(reason)
        case wire.Detach():
            attachment.detach()


def _peer_uid(stream: trio.SocketStream) -> int:
    credentials = stream.socket.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size
    )
    uid: int = _PEER_CREDENTIALS.unpack(credentials)[1]
    return uid
