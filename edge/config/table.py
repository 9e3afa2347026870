"""What every table of a TOML document is made of."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from edge.config.keypath import KeyPath

Seconds = Annotated[float, Meta(gt=0, le=3600)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=3600)]


class Problem(NamedTuple):
    """One thing that is wrong. The text never contains key material."""

    path: KeyPath
    text: str


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables of a TOML document."""

    def problems(self) -> Iterator[Problem]:
        """Values that are fine alone but not together. Paths are relative to this table."""
        return iter(())
