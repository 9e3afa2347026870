"""Where a backend is, and the way there: name resolution, TCP, TLS."""

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import trio
from attrs import field, frozen

from edge.backend.policy import Failure
from edge.backend.transport import TlsTransport, Transport, client_context
from edge.errors import BackendError, ConfigError


@frozen
class Endpoint:
    """A URL taken apart, and what the handshake says. The ``repr`` shows no keys."""

    url: str = field(repr=False)
    secure: bool
    host: str
    port: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    subprotocol: str | None
    ca_file: str | None

    @classmethod
    def parse(
        cls,
        url: str,
        headers: Iterable[tuple[str, str]] = (),
        subprotocol: str | None = None,
        ca_file: str | None = None,
    ) -> "Endpoint":
        """Check a URL.

        Raises:
            ConfigError: it is none for a WebSocket. The text does not repeat it.

        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise ConfigError("not a ws:// or wss:// URL") from exc
        if parts.scheme not in {"ws", "wss"} or not parts.hostname or parts.fragment:
            raise ConfigError("not a ws:// or wss:// URL")
        if (parts.username is None) != (parts.password is None):
            raise ConfigError("a URL with a user and no password, or the reverse")
        secure = parts.scheme == "wss"
        port = port or (443 if secure else 80)
        return cls(url, secure, parts.hostname, port, tuple(headers), subprotocol, ca_file)

    def __str__(self) -> str:
        """Scheme, host and port: what may be logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}"

    async def connect(self) -> Transport:
        """Connect. A TLS handshake has begun and goes on while the transport receives.

        Raises:
            BackendError: ``unreachable``.

        """
        try:
            stream = await trio.open_tcp_stream(self.host, self.port)
        except OSError as exc:
            raise BackendError(Failure.UNREACHABLE, exc.strerror or "no connection") from exc
        connected = socket.socket(fileno=stream.socket.detach())
        try:
            if self.secure:
                return TlsTransport(connected, client_context(self.ca_file), self.host)
            return Transport(connected)
        except BaseException:
            connected.close()
            raise
