"""The commands' side of the control socket. It blocks: a command has nothing else to do."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.control.status import Status
from edge.errors import EdgeError
from edge.operate.protocol import (
    REPLY_BYTES_MAX,
    AskStatus,
    OrderReload,
    OrderUpgrade,
    RefusalCode,
    Refused,
    Reply,
    Request,
    TheStatus,
    decode_reply,
    encode_line,
)

REPLY_TIME = 15.0
"""Seconds: longer than the supervisor waits for its workers."""
_CHUNK_BYTES = 65_536

_STATUSES = {
    RefusalCode.BAD_REQUEST: os.EX_PROTOCOL,
    RefusalCode.VERSION: os.EX_PROTOCOL,
    RefusalCode.BUSY: os.EX_TEMPFAIL,
    RefusalCode.UNKNOWN_SESSION: os.EX_DATAERR,
    RefusalCode.TIMEOUT: os.EX_TEMPFAIL,
    RefusalCode.NOT_NOW: os.EX_TEMPFAIL,
    RefusalCode.FAULT: os.EX_SOFTWARE,
}


class ControlError(EdgeError):
    """The appliance could not be asked, or refused. The text is for the operator."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class AwayError(ControlError):
    """Nobody answers, or not now. It may be otherwise in a moment."""


class Connection:
    """A connection to the appliance at the first of ``paths`` that has a control socket.

    Raises:
        ControlError: none has, nobody listens there, or it is not for this user.

    """

    def __init__(self, paths: Sequence[Path], *, reply_time: float = REPLY_TIME) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(reply_time)
        self._buffered = bytearray()
        try:
            self.path = self._connect(paths)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: Request) -> Reply:
        """Send a request and return what is said to it.

        Raises:
            ControlError: it was refused, or nothing came that makes sense.

        """
        try:
            with suppress(BrokenPipeError):  # whoever refused us before we spoke has said why
                self._socket.sendall(encode_line(request))
            line = self._next_line()
        except TimeoutError as exc:
            text = f"edge does not answer at {self.path}: no reply in time"
            if isinstance(request, OrderReload | OrderUpgrade):
                text += "; it goes on with it, and its log says what comes of it"
            raise AwayError(text, os.EX_TEMPFAIL) from exc
        except OSError as exc:
            text = f"the connection to {self.path} was lost: {exc.strerror or exc}"
            raise AwayError(text, os.EX_UNAVAILABLE) from exc
        try:
            reply = decode_reply(line)
        except ValueError as exc:
            text = f"what answers at {self.path} is not this version of edge: {exc}"
            raise ControlError(text, os.EX_PROTOCOL) from exc
        if isinstance(reply, Refused):
            kind = AwayError if reply.code is RefusalCode.BUSY else ControlError
            raise kind(reply.message, _STATUSES[reply.code])
        return reply

    def _connect(self, paths: Sequence[Path]) -> Path:
        left_behind: list[Path] = []
        for path in paths:
            try:
                self._socket.connect(str(path))
            except FileNotFoundError:
                continue
            except ConnectionRefusedError:
                left_behind.append(path)
                continue
            except PermissionError as exc:
                text = f"no permission to use {path}: be root or a member of its group (edge)"
                raise ControlError(text, os.EX_NOPERM) from exc
            except OSError as exc:
                text = f"no appliance answers at {path}: {exc.strerror or exc}"
                raise AwayError(text, os.EX_UNAVAILABLE) from exc
            return path
        path, what = paths[-1], "no control socket"
        if left_behind:
            path, what = left_behind[-1], "nobody listens"
        raise AwayError(
            f"edge is not running: {what} at {path}; {_remedy(path)}", os.EX_UNAVAILABLE
        )

    def _next_line(self) -> bytes:
        buffered = self._buffered
        searched = 0
        while (end := buffered.find(b"\n", searched)) < 0:
            searched = len(buffered)
            chunk = self._socket.recv(_CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("edge closed it")
            buffered += chunk
            if len(buffered) > REPLY_BYTES_MAX:
                raise ConnectionResetError("the reply is too long")
        line = bytes(buffered[:end])
        del buffered[: end + 1]
        return line


def fetch_status(path: Path) -> Status:
    """Ask the appliance that listens at ``path`` for its status. Raises ControlError."""
    with Connection([path]) as connection:
        reply = connection.ask(AskStatus())
    if not isinstance(reply, TheStatus):
        raise ControlError(f"what answers at {path} gives no status", os.EX_PROTOCOL)
    return reply.status


def _remedy(path: Path) -> str:
    of_service = path.is_relative_to("/run/edge")
    return f"start it with {'systemctl start edge' if of_service else 'edge run'}"
