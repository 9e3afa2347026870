"""The values that configuration strings are parsed into. Each has ``parse``: ValueError if bad."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar, Self

from attrs import frozen

_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<v4>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_PORT_MAX = 65535


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
