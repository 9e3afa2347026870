"""The way to the Redis master: servers or Sentinels, TCP, TLS, authentication, role."""

import ssl
from collections.abc import Sequence
from typing import Final

import trio

from edge.errors import StoreError
from edge.redis.resp import Argument, Replies, Reply, encode_command
from edge.redis.settings import RedisSettings, RedisTls, Server

RECEIVE_BYTES: Final = 65_536
_HOST_BYTES_MAX: Final = 255
_PORT_MAX: Final = 65_535


class Connector:
    """Finds the master and connects to it."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None

    async def connect(self) -> tuple[trio.abc.Stream, Server]:
        """Return a connection to the master that takes commands, and where it is.

        Raises:
            StoreError: there is none; what the last server tried said of it.

        """
        failure = StoreError("redis-unreachable")
        for server in self._settings.servers:
            try:
                with trio.fail_after(self._settings.connect_timeout):
                    return await self._try(server)
            except trio.TooSlowError:
                failure = StoreError("redis-timeout", f"{name_server(server)}: no answer")
            except StoreError as exc:
                failure = StoreError(exc.reason, f"{name_server(server)}: {exc}")
        raise failure

    async def _try(self, server: Server) -> tuple[trio.abc.Stream, Server]:
        settings, master = self._settings, server
        if settings.sentinel is not None:
            master = await self._ask_sentinel(server, settings.sentinel)
        stream = await self._open(master)
        try:
            await _prepare(stream, self._greeting())
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream, master

    def _greeting(self) -> list[tuple[Argument, ...]]:
        """Return the commands that make a connection ready."""
        settings = self._settings
        commands = _authentication(settings.user, settings.password)
        if settings.database:
            commands.append(("SELECT", settings.database))
        alone = settings.sentinel is None and len(settings.servers) == 1
        commands.append(("PING",) if alone else ("ROLE",))
        return commands

    async def _ask_sentinel(self, sentinel: Server, name: str) -> Server:
        stream = await self._open(sentinel)
        try:
            commands = _authentication(None, self._settings.sentinel_password)
            commands.append(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name))
            return _master_address(await _prepare(stream, commands))
        finally:
            await trio.aclose_forcefully(stream)

    async def _open(self, server: Server) -> trio.abc.Stream:
        host, port = server
        try:
            stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
        except OSError as exc:
            raise StoreError("redis-unreachable", exc.strerror or "no connection") from exc
        except UnicodeError as exc:  # from a Sentinel
            raise StoreError("redis-unreachable", "not a host name") from exc
        if self._settings.tls is None:
            return stream
        try:
            return await self._secure(stream, self._settings.tls, host)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _secure(self, stream: trio.abc.Stream, tls: RedisTls, host: str) -> trio.abc.Stream:
        if self._tls is None:
            self._tls = await trio.to_thread.run_sync(_tls_context, tls.ca_file)
        try:
            secured = trio.SSLStream(
                stream,
                self._tls,
                server_hostname=tls.server_name or host,
                https_compatible=True,  # servers just hang up, and what is cut off has no reply
            )
        except (ValueError, TypeError) as exc:  # a name from a Sentinel may be anything
            raise StoreError("redis-untrusted", "not a name that a certificate can have") from exc
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as exc:
            self._tls = None  # the file with the authorities may have changed
            raise StoreError("redis-untrusted", _tls_failure(exc)) from exc
        return secured


def name_server(server: Server) -> str:
    """Return host and port as people write them."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _authentication(user: str | None, password: str | None) -> list[tuple[Argument, ...]]:
    if password is None:
        return []
    return [("AUTH", password) if user is None else ("AUTH", user, password)]


async def _prepare(stream: trio.abc.Stream, commands: Sequence[tuple[Argument, ...]]) -> Reply:
    """Send commands at once; return the last one's reply. A ROLE has to be the master's.

    What a server says of a refusal goes nowhere, as it may quote the password: Redis does, if it
    does not know AUTH.

    Raises:
        StoreError: one failed.

    """
    reader, replies = Replies(), list[Reply]()
    try:
        await stream.send_all(b"".join(encode_command(*each) for each in commands))
        while len(replies) < len(commands):
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise StoreError("redis-lost", "the server hung up")
            replies += reader.receive(bytes(data))
    except trio.BrokenResourceError as exc:
        raise StoreError("redis-lost", "the connection broke") from exc
    for command, reply in zip(commands, replies, strict=False):
        if isinstance(reply, StoreError):
            raise StoreError(reply.reason, f"{command[0]!s} is refused")
        if command[0] == "ROLE" and not (isinstance(reply, list) and reply[:1] == [b"master"]):
            raise StoreError("redis-not-master")
    return replies[len(commands) - 1]


def _master_address(reply: Reply) -> Server:
    match reply:
        case [bytes(host), bytes(port)] if (
            0 < len(host) <= _HOST_BYTES_MAX
            and port.isdigit()
            and len(port) <= 5
            and 0 < int(port) <= _PORT_MAX
        ):
            try:
                return host.decode("ascii"), int(port)
            except UnicodeDecodeError as exc:
                raise StoreError("redis-protocol", "a Sentinel's answer makes no sense") from exc
        case None:
            raise StoreError("redis-not-master", "the Sentinel knows no master of this name")
    raise StoreError("redis-protocol", "a Sentinel's answer makes no sense")


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Read the authorities."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        text = f"{ca_file}: no usable certificates: {exc.strerror or exc}"
        raise StoreError("redis-untrusted", text) from exc


def _tls_failure(failure: trio.BrokenResourceError) -> str:
    cause = failure.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate: {cause.verify_message}"
    return f"TLS: {cause.reason}" if isinstance(cause, ssl.SSLError) else "TLS handshake failed"
