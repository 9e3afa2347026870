"""A connected TCP socket, with or without TLS, that never waits."""

import socket
import ssl
from contextlib import suppress
from functools import cache
from typing import Final

from edge.backend.policy import Failure
from edge.errors import BackendError

SLICE_BYTES: Final = 2048
"""What is read at once. A thousand messages at most are in it, two bytes each."""
_RECORD_BYTES: Final = 16384
_NOTSENT_BYTES: Final = 16384
"""Unsent bytes that the kernel takes. Beyond it sound waits here, where old sound is dropped."""


@cache
def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS settings for these authorities (None: the system's).

    Reads files the first time: a worker that uses TLS calls it once before it serves.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Transport:
    """Plain TCP. Raises BackendError when the connection is lost."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)  # noqa: FBT003 - the standard library's signature
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOTSENT_BYTES)
        self.unsent = bytearray()
        """What the socket has not taken yet."""
        self.drained = True
        """The last ``receive`` took all that has arrived."""
        self._socket = connected
        self._ended = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send as much as possible, and keep the rest."""
        if self.unsent:
            self.unsent += data
            return
        sent = self._write(data)
        if sent < len(data):
            self.unsent += memoryview(data)[sent:]

    def flush(self) -> None:
        """Send more of what was kept."""
        sent = self._write(self.unsent)
        del self.unsent[:sent]
        if self._ended and not self.unsent:
            self._shut_down()

    def receive(self) -> bytes | None:
        """Return what has arrived, at most a slice; b"" at its end, None if there is nothing."""
        data = self._read(SLICE_BYTES)
        self.drained = data is None or len(data) < SLICE_BYTES
        return data

    def end(self) -> None:
        """Send nothing more after what was kept."""
        self._ended = True
        if not self.unsent:
            self._shut_down()

    def close(self) -> None:
        self._socket.close()

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise BackendError(Failure.LOST, f"sending: {exc.strerror}") from exc

    def _read(self, size: int) -> bytes | None:
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise BackendError(Failure.LOST, f"receiving: {exc.strerror}") from exc

    def _shut_down(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)


class TlsTransport(Transport):
    """TLS over TCP. The handshake happens while receiving; what is sent before waits for it."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(connected)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._early: bytearray | None = bytearray()
        self._handshake()

    def send(self, data: bytes) -> None:
        if self._early is not None:
            self._early += data
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as exc:
            raise BackendError(Failure.LOST, f"TLS: {exc.reason}") from exc
        super().send(self._outgoing.read())

    def receive(self) -> bytes | None:
        self.drained = False
        while (plain := self._decrypt()) is None:
            data = self._read(_RECORD_BYTES)
            if data is None:
                self.drained = True
                return None
            if not data:
                return self._end_of_stream()
            self._incoming.write(data)
            if self._early is not None:
                self._handshake()
        return plain

    def _decrypt(self) -> bytes | None:
        if self._early is not None:
            return None
        try:
            return self._tls.read(SLICE_BYTES)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as exc:
            raise BackendError(Failure.LOST, f"TLS: {exc.reason}") from exc
        finally:
            self._push()  # alerts and key updates

    def _end_of_stream(self) -> bytes:
        if self._early is not None:
            raise BackendError(Failure.UNREACHABLE, "ended in the TLS handshake")
        return b""

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push()
            return
        except ssl.SSLCertVerificationError as exc:
            self._push()
            raise BackendError(Failure.UNTRUSTED, f"certificate: {exc.verify_message}") from exc
        except ssl.SSLError as exc:
            self._push()
            raise BackendError(Failure.UNREACHABLE, f"TLS: {exc.reason}") from exc
        self._push()
        early, self._early = self._early, None
        if early:
            self.send(bytes(early))

    def _push(self) -> None:
        if self._outgoing.pending:
            super().send(self._outgoing.read())
