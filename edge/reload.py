"""What a changed configuration means for an appliance that runs."""

from collections.abc import Iterator
from typing import Any

from attrs import frozen
from msgspec.structs import fields, replace

from edge.config import Config
from edge.keys import KeySet


@frozen
class Changes:
    """The difference between two configurations, by how it can be applied."""

    relay_workers: bool
    routing_keys: bool
    after_restart: tuple[str, ...]
    """Key paths of changes that wait for a restart."""

    @property
    def live(self) -> bool:
        return self.relay_workers or self.routing_keys


def compare(old: Config, old_keys: KeySet, new: Config, new_keys: KeySet) -> Changes:
    """Sort the differences into what can be applied live and what cannot."""
    waiting = [path for path in _differences(old, new, ()) if path not in _LIVE]
    if old_keys.password_key != new_keys.password_key:
        waiting.append("keys.password")
    return Changes(
        relay_workers=old.relay.workers != new.relay.workers,
        routing_keys=old_keys.routing != new_keys.routing,
        after_restart=tuple(waiting),
    )


def apply_live(old: Config, new: Config) -> Config:
    """Return ``old`` with those changes of ``new`` that are applied live."""
    return replace(old, relay=replace(old.relay, workers=new.relay.workers), keys=new.keys)


_LIVE = frozenset({"relay.workers", "keys.routing", "keys.file", "keys.password"})
"""Keys of the file that need no restart; of the key material itself ``compare`` judges."""


def _differences(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[str]:
    for each in fields(old):
        before, after = getattr(old, each.name), getattr(new, each.name)
        here = (*path, each.name)
        if before == after:
            continue
        if len(here) == 1:
            yield from _differences(before, after, here)
        else:
            yield ".".join(here)
