"""The values that configuration strings are parsed into. Each has ``parse``: ValueError if bad."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar, Self
from urllib.parse import SplitResult, urlsplit

from attrs import field, frozen

_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<v4>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_PORT_MAX = 65535

_BROADCAST = IPv4Address("255.255.255.255")


class IpAddress(str):
    """A numeric IPv4 or IPv6 address in its canonical text form, without zone, never v4-mapped."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            address = ip_address(text)
        except ValueError as exc:
            raise ValueError(f"{text!r} is not an IP address (names are not looked up)") from exc
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                raise ValueError(f"{text!r} has a zone; link-local addresses are not supported")
            if address.ipv4_mapped is not None:
                raise ValueError(f"{text!r} is IPv4 in disguise; write {address.ipv4_mapped}")
        if address.is_multicast:
            raise ValueError(f"{text!r} is a multicast address")
        if address == _BROADCAST:
            raise ValueError(f"{text!r} is the broadcast address")
        return cls(address)


@frozen
class ListenAddress:
    """Where to bind. Port 0: the kernel chooses."""

    host: IpAddress
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        match = _HOST_AND_PORT.fullmatch(text)
        if match is None:
            raise ValueError(f'{text!r} is not like "127.0.0.1:3478" or "[::1]:3478"')
        host = IpAddress.parse(match["v4"] if match["v6"] is None else match["v6"])
        if match["v6"] is not None and ":" not in host:
            raise ValueError(f"{text!r}: brackets are for IPv6")
        port = int(match["port"])
        if port > _PORT_MAX:
            raise ValueError(f"{text!r}: a port is at most {_PORT_MAX}")
        return cls(host, port)

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        return ip_address(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class PublicAddress:
    """Where clients reach a listen address from outside. Port None: the port that was bound."""

    host: IpAddress
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        if _HOST_AND_PORT.fullmatch(text):
            listen = ListenAddress.parse(text)
            if listen.port == 0:
                raise ValueError(f"{text!r}: nobody can reach port 0")
            return cls(listen.host, listen.port)
        bracketed = re.fullmatch(r"\[(.*:.*)\]", text)  # the colon: brackets are for IPv6
        return cls(IpAddress.parse(bracketed[1] if bracketed else text))


class UrlPath(str):
    """Path of the signaling endpoint. Without dots, so that no file of the page has this name."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"(/[A-Za-z0-9_~-]+)+", text):
            raise ValueError(f'{text!r} is not like "/v1/session" (letters, digits, "-", "_", "~")')
        return cls(text)


class Name(str):
    """What something is called in the configuration."""

    __slots__ = ()
    bearer = "something"
    """Who has such a name, for people."""

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
            raise ValueError(
                f'{cls.bearer}\'s name is 1 to 64 letters, digits, "_", "." and "-"',
            )
        return cls(text)


class RouteName(Name):
    """What clients call a route."""

    __slots__ = ()
    bearer = "a route"


def split_url(text: str) -> tuple[SplitResult, int | None]:
    """Take a URL apart; return its parts and its port.

    Raises:
        ValueError: it is malformed; nothing is quoted, as a part may be secret.

    """
    if not re.fullmatch(r"[\x21-\x7e]{1,2048}", text):
        raise ValueError("a URL is 1 to 2048 printable ASCII characters without blanks")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise ValueError("not a URL: its host or port is malformed") from exc
    return parts, port


class BackendUrl(str):
    """Where a backend listens for WebSockets. Its query may hold a key, so errors quote nothing."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        parts, port = split_url(text)
        if parts.scheme not in {"ws", "wss"}:
            raise ValueError("a backend's URL starts with ws:// or wss://")
        if not parts.hostname or port == 0:
            raise ValueError("the URL names no host or no usable port")
        if "@" in parts.netloc:
            raise ValueError("no user or password in the URL; use headers")
        if "#" in text:
            raise ValueError("a WebSocket URL has no fragment")
        return cls(text)

    @property
    def is_encrypted(self) -> bool:
        return self._parts.scheme == "wss"

    @property
    def is_near(self) -> bool:
        """Whether the host is this machine or an address of a private network. Names are not."""
        host = self._parts.hostname
        if host == "localhost":
            return True
        try:
            return ip_address(host or "").is_private
        except ValueError:
            return False

    @property
    def without_query(self) -> str:
        """For people: what follows the path may be secret."""
        return str(self).partition("?")[0]

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self)

    def __repr__(self) -> str:
        return repr(self.without_query)


class HeaderName(str):
    """Name of an HTTP header that the handshake with a backend does not set itself."""

    __slots__ = ()

    _TAKEN = frozenset({"connection", "content-length", "host", "transfer-encoding", "upgrade"})

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text):
            raise ValueError("not a header name: a token of at most 64 characters (RFC 9110)")
        if text.lower() in cls._TAKEN or text.lower().startswith("sec-websocket-"):
            raise ValueError("this header belongs to the WebSocket handshake")
        return cls(text)


@frozen
class Secret:
    """Text that never shows itself, in errors neither; fit for an HTTP header."""

    _text: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]{0,4094}[\x21-\x7e])?", text):
            raise ValueError(
                "expected 1 to 4096 printable ASCII characters, no blanks at either end"
            )
        return cls(text)

    def reveal(self) -> str:
        return self._text


class AbsolutePath(str):
    """A path that does not depend on the directory that the service is started in."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if not text.startswith("/"):
            raise ValueError(f"{text!r} is not an absolute path")
        if "\0" in text:
            raise ValueError("a path cannot contain a NUL character")
        return cls(text)


class SecretBytes(bytes):
    """Key material of a fixed length, written in hex. It never shows itself, in errors neither."""

    length: ClassVar[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * cls.length}}}", text):
            raise ValueError(f"expected {2 * cls.length} hex digits ({cls.length} bytes)")
        return cls.fromhex(text)

    def __repr__(self) -> str:
        return f"<{len(self)} secret bytes>"

    __str__ = __repr__


class RoutingSecret(SecretBytes):
    """AES-128 key that seals ufrags."""

    length = 16


class PasswordSecret(SecretBytes):
    """HMAC-SHA256 key that ICE passwords are derived with."""

    length = 32
