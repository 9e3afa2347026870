"""The table ``[redis]``: a Redis that the hosts of a fleet, or the starts of a host, share."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta
from msgspec.structs import replace

from edge.config.table import Problem, Table
from edge.config.values import AbsolutePath, IpAddress, Secret

RedisTimeout = Annotated[float, Meta(ge=0.05, le=60)]
_PORT_MAX = 65_535
_ADDRESSES_MAX = 16
_HOST_NAME_MAX = 253
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class RedisAddress(str):
    """Host and port. The host may be a name; it is looked up at every connection."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}):(\d+)", text)
        if match is None or not 0 < int(match[2]) <= _PORT_MAX or ".." in match[1]:
            raise ValueError(f'{text!r} is not like "redis.example.com:6379" or "[::1]:6379"')
        return cls(text)

    @property
    def host(self) -> str:
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.rpartition(":")[2])


class RedisName(str):
    """A user, a master or a prefix: text that is sent as it is."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[\x21-\x7e]{0,128}", text):
            raise ValueError("at most 128 printable ASCII characters without blanks")
        return cls(text)


class RedisServerName(str):
    """What a certificate has to name: a host's name or an address. Empty: what is connected to."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if ":" in text:
            return cls(IpAddress.parse(text))
        labels = text.split(".") if text else []
        if len(text) > _HOST_NAME_MAX or not all(map(_LABEL.fullmatch, labels)):
            raise ValueError(
                f'{text!r} is not like "redis.example.com", "192.0.2.1" or "2001:db8::1"'
            )
        return cls(text)


class RedisConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    addresses: tuple[RedisAddress, ...] = ()
    sentinel: RedisName | None = None
    user: RedisName | None = None
    password: Secret | None = None
    password_file: AbsolutePath | None = None
    sentinel_password: Secret | None = None
    tls: bool = False
    ca_file: AbsolutePath | None = None
    server_name: RedisServerName | None = None
    database: Annotated[int, Meta(ge=0, le=65_535)] = 0
    prefix: RedisName = RedisName("edge:")
    flow_lifetime: Annotated[float, Meta(ge=60, le=3600)] = 300.0
    connect_timeout: RedisTimeout = 2.0
    command_timeout: RedisTimeout = 1.0

    def with_password(self, read: Callable[[Path], Secret]) -> "RedisConfig":
        """Return the same with the password itself instead of its file; ``read`` reads one."""
        if self.password_file is None or not self.addresses:
            return self
        return replace(self, password=read(Path(self.password_file)), password_file=None)

    def problems(self) -> Iterator[Problem]:
        if len(self.addresses) > _ADDRESSES_MAX:
            yield Problem(("addresses",), f"at most {_ADDRESSES_MAX}")
        if self.password is not None and self.password_file is not None:
            yield Problem(("password_file",), "either a file or a password written here, not both")
        has_password = self.password is not None or self.password_file is not None
        if self.user is not None and not has_password:
            yield Problem(("user",), "needs a password or a password_file")
        if self.sentinel is not None and not self.addresses:
            yield Problem(("sentinel",), "needs the Sentinels' addresses")
        if self.sentinel_password is not None and self.sentinel is None:
            yield Problem(("sentinel_password",), "there is no sentinel")
        for key in ("ca_file", "server_name"):
            if getattr(self, key) is not None and not self.tls:
                yield Problem((key,), "needs tls = true")
