"""The control socket: its listener, and who is connected to it.

The supervisor's own loop answers. A client that sends nothing, reads nothing or says nonsense costs
one of a few places for a bounded time, and nobody else waits for it. A defect in an answer ends
that conversation, and nothing else: all calls hang on the supervisor.
"""

import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from edge.errors import BootError
from edge.operate.protocol import (
    REQUEST_BYTES_MAX,
    OperatorError,
    RefusalCode,
    Refused,
    Reply,
    Request,
    decode_request,
    encode_line,
)
from edge.signal.intake import serve_connections

logger = logging.getLogger(__name__)

CLIENTS_MAX = 16
IDLE_TIME = 60.0
"""Seconds from one request to the next."""
SEND_TIME = 5.0
STALE_TIME = 5.0

_CREDENTIALS = struct.Struct("@iII")  # pid, uid, gid: unix(7)

Answer = Callable[[Request], Awaitable[Reply]]
"""Carries out a request. Raises OperatorError."""


def open_control_socket(path: Path) -> socket.socket:
    """Listen at ``path``; a socket that a killed predecessor left behind is replaced.

    Raises:
        BootError: an appliance is running there already, or the path cannot be used.

    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with contextlib.ExitStack() as undo:
        undo.enter_context(listener)
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(0o660)
            listener.listen(CLIENTS_MAX)
        except OSError as exc:
            text = f"cannot open the control socket {path}: {exc.strerror or exc}"
            raise BootError(text) from exc
        undo.pop_all()
    return listener


async def serve_operators(listener: socket.socket, answer: Answer) -> None:
    """Answer everybody who connects."""
    clients = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal clients
        clients += 1
        try:
            async with stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    if clients > CLIENTS_MAX:
                        text = f"{CLIENTS_MAX} commands are connected already"
                        await _send(stream, Refused(code=RefusalCode.BUSY, message=text))
                    else:
                        await _attend(stream, answer)
        finally:
            clients -= 1

    await serve_connections(serve, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])


async def _attend(stream: trio.SocketStream, answer: Answer) -> None:
    """Answer a client; if that fails for a reason of ours, tell it so."""
    try:
        await _converse(stream, answer)
    except trio.BrokenResourceError:
        raise
    except Exception:
        logger.exception("a request of a command has failed")
        text = "a fault of edge itself: its log says which"
        await _send(stream, Refused(code=RefusalCode.FAULT, message=text))


async def _converse(stream: trio.SocketStream, answer: Answer) -> None:
    """Answer one line after the other, until there is none in time."""
    buffered = bytearray()
    while True:
        with trio.move_on_after(IDLE_TIME) as waiting:
            line = await _next_line(stream, buffered)
        if waiting.cancelled_caught or line is None:
            return
        try:
            request = decode_request(line)
            if request.is_order:
                order = encode_line(request).decode().rstrip()
                logger.info("process %d of user %d orders: %s", *_client(stream), order)
            reply = await answer(request)
        except OperatorError as exc:
            reply = Refused(code=exc.code, message=str(exc))
        if not await _send(stream, reply):
            return


async def _next_line(stream: trio.SocketStream, buffered: bytearray) -> bytes | None:
    """Return the next line without its end; None at the end of the stream, or if it is too long."""
    while (end := buffered.find(b"\n", 0, REQUEST_BYTES_MAX + 1)) < 0:
        if len(buffered) > REQUEST_BYTES_MAX:
            text = f"a request has {REQUEST_BYTES_MAX} bytes at most"
            await _send(stream, Refused(code=RefusalCode.BAD_REQUEST, message=text))
            return None
        chunk = await stream.receive_some(REQUEST_BYTES_MAX)
        if not chunk:
            return None
        buffered += chunk
    line = bytes(buffered[:end])
    del buffered[: end + 1]
    return line


async def _send(stream: trio.SocketStream, reply: Reply) -> bool:
    """Send a reply; tell whether the client took it in time."""
    with trio.move_on_after(SEND_TIME):
        await stream.send_all(encode_line(reply))
        return True
    return False


def _client(stream: trio.SocketStream) -> tuple[int, int]:
    """Return the process and the user that have connected."""
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return pid, uid


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(STALE_TIME)
        try:
            connection.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise BootError(f"an appliance is already running: it answers at {path}")
