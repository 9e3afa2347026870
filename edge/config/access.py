"""The table ``[access]``: who may open sessions, with which keys, and how many."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

from msgspec import Meta

from edge.access.keys import PublicKey, SharedKey, TokenKey
from edge.access.origins import LOOPBACK, OriginPattern
from edge.access.settings import OWN_KEY_ID, ApiKey, api_key_digest
from edge.config.table import Problem, Table
from edge.config.values import RouteName, Secret

Count = Annotated[int, Meta(ge=0, le=10_000_000)]
"""0: no limit."""
Duration = Annotated[float, Meta(ge=0, le=604_800)]
"""Seconds up to a week. 0: no limit."""
Lifetime = Annotated[float, Meta(ge=1, le=3600)]
Places = Annotated[int, Meta(ge=16, le=1_000_000)]


class ApiKeyDigest(bytes):
    """What is kept of an API key: its SHA-256."""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(api_key_digest(text))

    def __repr__(self) -> str:
        return "<API key>"

    __str__ = __repr__


class KeyTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both kinds of keys may say of their holders."""

    routes: tuple[RouteName, ...] = ()
    sessions_max: Count = 0
    offers_per_minute: Count = 0
    session_duration_max: Duration = 0.0


class TokenKeyTable(KeyTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    secret: Secret | None = None
    public_key: str | None = None

    def key(self) -> TokenKey:
        """Return the key itself. Raises ValueError, without the secret."""
        if self.secret is not None:
            return SharedKey(self.id, self.secret.reveal().encode())
        return PublicKey(self.id, self.public_key or "")

    def problems(self) -> Iterator[Problem]:
        if (self.secret is None) == (self.public_key is None):
            yield Problem(("id",), "needs either a secret or a public_key")
            return
        if self.id == OWN_KEY_ID:
            yield Problem(("id",), f'"{OWN_KEY_ID}" is the appliance\'s own key')
        try:
            self.key()
        except ValueError as exc:
            name = "secret" if self.secret is not None else "public_key"
            yield Problem((name,), str(exc))


class ApiKeyTable(KeyTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    key: ApiKeyDigest

    def problems(self) -> Iterator[Problem]:
        try:
            ApiKey(self.name, self.key)
        except ValueError as exc:
            yield Problem(("name",), str(exc))


class AccessConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    open: Literal["auto", "on", "off"] = "auto"
    origins: tuple[OriginPattern, ...] = (OriginPattern(LOOPBACK),)
    default_lifetime: Lifetime = 60.0
    lifetime_max: Lifetime = 600.0
    session_duration_max: Duration = 0.0
    tenant_sessions_max: Count = 0
    tenant_offers_per_minute: Count = 0
    address_sessions_max: Count = 50
    address_offers_per_minute: Count = 120
    tokens_max: Places = 65_536
    accounts_max: Places = 16_384
    token_keys: tuple[TokenKeyTable, ...] = ()
    api_keys: tuple[ApiKeyTable, ...] = ()

    def is_open(self, *, on_loopback: bool) -> bool:
        """Whether strangers may call. ``auto`` means: only those on this machine."""
        return on_loopback if self.open == "auto" else self.open == "on"

    def problems(self) -> Iterator[Problem]:
        if self.default_lifetime > self.lifetime_max:
            yield Problem(("default_lifetime",), "must not be above lifetime_max")
        yield from _repeated("token_keys", "id", [each.id for each in self.token_keys])
        yield from _repeated("api_keys", "name", [each.name for each in self.api_keys])

    def cross_problems(self, routes: Sequence[str], *, on_loopback: bool) -> Iterator[Problem]:
        """Check what depends on other tables. Paths are relative to this one."""
        if not (self.is_open(on_loopback=on_loopback) or self.token_keys or self.api_keys):
            text = (
                "nobody could call: signaling is not on loopback only, so add token_keys or "
                'api_keys, or say open = "on"'
            )
            yield Problem(("open",), text)
        for list_name, keys in (("token_keys", self.token_keys), ("api_keys", self.api_keys)):
            for index, key in enumerate(keys):
                for place, route in enumerate(key.routes):
                    if route not in routes:
                        path = (list_name, index, "routes", place)
                        yield Problem(path, f'there is no route "{route}"')


def _repeated(list_name: str, key: str, values: Sequence[str]) -> Iterator[Problem]:
    for index, value in enumerate(values):
        if (first := values.index(value)) != index:
            text = f'"{value}" is already taken by {list_name}[{first}]'
            yield Problem((list_name, index, key), text)
