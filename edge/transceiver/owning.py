"""The owner's end of the internal channel: opens and finds sessions as other workers ask.

If a connection ends, its accepting worker has. Its sessions are then left as a client's lost
signaling leaves them: for the grace time.
"""

import logging
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import assert_never

import trio

from edge.errors import AccessError, SdpError, SignalError
from edge.signal.host import Report, SessionRequest, StateReport
from edge.signal.messages import Bye, Error, ErrorCode
from edge.transceiver import neighbour_messages as wire
from edge.transceiver.channel import Channel
from edge.transceiver.residents import Attachment, Residents, unknown_session

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
        channel = Channel(stream)
        end = _OwnersEnd(channel, residents, room)
        try:
            await channel.run(end.take)
        except* Exception:
            logger.exception("the connection from another worker has failed")
        finally:
            end.leave()

    listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, serve, [listening]))
        task_status.started()


class _OwnersEnd:
    def __init__(self, channel: Channel, residents: Residents, room: Callable[[], None]) -> None:
        self._channel = channel
        self._residents = residents
        self._room = room
        self._attachments: dict[int, Attachment] = {}

    def take(self, data: bytes) -> None:
        message = wire.decode_to_owner(data)
        match message:
            case wire.Open(number, request):
                self._attach(number, partial(self._open, request))
            case wire.Attach(number, session, secret, reports):
                self._attach(number, partial(self._find, session, secret, reports=reports))
            case wire.Restart(number):
                self._answer(number, partial(self._restart, message))
            case wire.Close(number, reason):
                if (attachment := self._attachments.pop(number, None)) is not None:
                    attachment.close(reason)
            case wire.Detach(number):
                if (attachment := self._attachments.pop(number, None)) is not None:
                    attachment.detach()
            case _:
                assert_never(message)

    def leave(self) -> None:
        """The accepting worker is gone."""
        for attachment in self._attachments.values():
            attachment.detach()
        self._attachments.clear()

    def _open(self, request: SessionRequest, report: Report) -> Attachment:
        self._room()
        attachment = self._residents.open(request, report)
        self._residents.opened_for_others += 1
        return attachment

    def _find(
        self, session: str, secret: str | None, report: Report, *, reports: bool
    ) -> Attachment:
        return self._residents.attach(session, secret, report if reports else None)

    def _attach(self, number: int, make: Callable[[Report], Attachment]) -> None:
        def attach() -> wire.Opened:
            if len(self._attachments) >= ATTACHMENTS_MAX:
                raise SignalError(ErrorCode.BUSY, "there are too many sessions between two workers")
            attachment = self._attachments[number] = make(partial(self._tell, number))
            return wire.Opened(number, attachment.id, attachment.secret, attachment.answer_sdp)

        self._answer(number, attach)
        if (attachment := self._attachments.get(number)) is not None:
            attachment.begin()

    def _restart(self, restart: wire.Restart) -> wire.Answered:
        attachment = self._attachments.get(restart.attachment)
        if attachment is None:
            raise unknown_session()
        return wire.Answered(restart.number, attachment.restart_now(restart.sdp))

    def _answer(self, number: int, act: Callable[[], wire.Opened | wire.Answered]) -> None:
        try:
            self._channel.send(act())
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

    def _tell(self, number: int, report: StateReport) -> None:
        if not isinstance(report, Bye | Error) or self._attachments.pop(number, None) is not None:
            self._channel.send(wire.Told(number, report))


def _peer_uid(stream: trio.SocketStream) -> int:
    credentials = stream.socket.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size
    )
    uid: int = _PEER_CREDENTIALS.unpack(credentials)[1]
    return uid
