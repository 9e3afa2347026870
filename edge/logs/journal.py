"""The journal's native protocol: one datagram per record, with fields.

A field is ``NAME=value`` and a line feed, or, for values of several lines, ``NAME``, a line feed,
the length as 8 bytes in little-endian order, the value, and a line feed
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL). Values are short enough for a datagram.
"""

import fcntl
import logging
import select
import socket
import struct
import termios
import time
from collections.abc import Iterable
from typing import Any

from edge.logs.fields import fields_of
from edge.logs.text import priority_of, safe_lines

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "edge"
FLUSH_TIME = 0.5
"""Seconds that the end of a process waits for the journal to have read its last words."""

_LENGTH = struct.Struct("<Q")


class JournalHandler(logging.Handler):
    """Send records to the journal without ever waiting for it.

    A record that it does not take goes to ``stream``, standard error, as a line of text, unless
    that would have to wait too. Then it is lost, and the next one says so.
    """

    def __init__(
        self, process: str, stream: "logging.StreamHandler[Any]", path: str = SOCKET
    ) -> None:
        super().__init__()
        self._process = process
        self._stream = stream
        self._path = path
        self._lost = 0
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )

    def emit(self, record: logging.LogRecord) -> None:
        lines = safe_lines(record)
        if self._lost:
            lines.append(f"({self._lost} lines before this one were lost: the journal was busy)")
        try:
            self._socket.sendto(encode_fields(self._fields(record, lines)), self._path)
        except OSError:
            self._write_instead(record)
        else:
            self._lost = 0

    def flush(self) -> None:
        """Wait a moment until the journal has read everything.

        It looks up whose a record is when it reads it, and knows little of a process that is gone.
        """
        deadline = time.monotonic() + FLUSH_TIME
        while self._is_unread() and time.monotonic() < deadline:
            time.sleep(0.002)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord, lines: list[str]) -> Iterable[tuple[str, str]]:
        yield "MESSAGE", f"{self._process}: " + "\n    ".join(lines)
        yield "PRIORITY", str(priority_of(record))
        yield "SYSLOG_IDENTIFIER", IDENTIFIER
        yield "WORKER", self._process
        yield from fields_of(record)
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName or ""

    def _write_instead(self, record: logging.LogRecord) -> None:
        _, writable, _ = select.select([], [self._stream.stream], [], 0)
        if writable:
            self._stream.emit(record)
        else:
            self._lost += 1

    def _is_unread(self) -> bool:
        """Whether the kernel still holds something that we sent (unix(7), SIOCOUTQ)."""
        try:
            unread = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return any(unread)


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return the datagram of a record."""
    encoded = bytearray()
    for name, value in fields:
        content = value.encode(errors="backslashreplace")
        if b"\n" in content:
            encoded += b"%s\n%s%s\n" % (name.encode(), _LENGTH.pack(len(content)), content)
        else:
            encoded += b"%s=%s\n" % (name.encode(), content)
    return bytes(encoded)
