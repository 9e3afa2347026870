"""Two configurations compared: what a reload can apply, and what waits for a restart."""

from collections.abc import Iterator

from msgspec.structs import fields, replace

from edge.config.schema import Config

LIVE_KEYS = frozenset({"relay.workers", "keys.routing", "keys.file", "keys.password"})
"""Keys that need no restart. What the keys of ``keys`` lead to is judged by who loads it."""


def apply_live(old: Config, new: Config) -> Config:
    """Return ``old`` with the values that ``new`` has for live keys."""
    relay = replace(old.relay, workers=new.relay.workers)
    return replace(old, relay=relay, keys=new.keys)


def waiting_keys(old: Config, new: Config) -> list[str]:
    """Name the keys that differ and need a restart, as ``table.key``; routes as a whole."""
    return [key for key in _differing_keys(old, new) if key not in LIVE_KEYS]


def _differing_keys(old: Config, new: Config) -> Iterator[str]:
    for table in fields(old):
        before, after = getattr(old, table.name), getattr(new, table.name)
        if isinstance(before, dict):
            names = dict.fromkeys([*before, *after])
            differing = [name for name in names if before.get(name) != after.get(name)]
        else:
            names = dict.fromkeys(field.name for field in fields(before))
            differing = [name for name in names if getattr(before, name) != getattr(after, name)]
        for name in differing:
            yield f"{table.name}.{name}"
