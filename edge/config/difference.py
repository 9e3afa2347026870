"""Two configurations compared: what a reload can apply, and what waits for a restart.

Sockets and shared memory are made once, and so is what the host is called. Everything else is
live: workers get new settings by order, or are replaced by others that have them.
"""

from collections.abc import Iterator

from msgspec.structs import fields, replace

from edge.config.schema import Config
from edge.config.table import Problem, Table

WAITING_KEYS = frozenset(
    {
        "access.accounts_max",
        "access.tokens_max",
        "relay.listen",
        "relay.receive_buffer_bytes",
        "relay.tcp_listen",
        "signal.listen",
        "supervisor.cluster",
        "supervisor.state_directory",
        "transceiver.internal_address",
    }
)
"""Keys that need a restart."""
WAITING_TABLES = frozenset({"fleet", "metrics"})
"""Tables of which every key does."""
_TIED = {
    "relay.public_addresses": "relay.listen",
    "relay.tcp_public_addresses": "relay.tcp_listen",
}
"""Keys that go with another one: they wait if it does."""


def apply_live(old: Config, new: Config) -> Config:
    """Return ``new`` with the values that ``old`` has for keys that need a restart."""
    waiting = waiting_keys(old, new)
    kept = {}
    for table in fields(old):
        before, after = getattr(old, table.name), getattr(new, table.name)
        prefix = f"{table.name}."
        names = [key.removeprefix(prefix) for key in waiting if key.startswith(prefix)]
        if isinstance(before, dict):
            entries = after | {name: before[name] for name in names if name in before}
            kept[table.name] = {
                name: value
                for name, value in entries.items()
                if name in before or name not in names
            }
        else:
            kept[table.name] = replace(after, **{name: getattr(before, name) for name in names})
    return replace(new, **kept)


def waiting_keys(old: Config, new: Config) -> list[str]:
    """Name the keys that differ and need a restart, as ``table.key``."""
    differing = list(_differing_keys(old, new))
    own_host = f"hosts.{old.fleet.host}"
    waiting = {
        key
        for key in differing
        if key in WAITING_KEYS or key.partition(".")[0] in WAITING_TABLES or key == own_host
    }
    if not (old.transceiver.workers and new.transceiver.workers):
        waiting.add("transceiver.workers")  # a host that only relays has other sockets
    waiting |= {key for key in differing if _TIED.get(key) in waiting}
    return [key for key in differing if key in waiting]


def live_problems(config: Config) -> Iterator[Problem]:
    """Say what does not fit together in a result of ``apply_live``."""
    yield from config.problems()
    for each in fields(config):
        table = getattr(config, each.name)
        if isinstance(table, Table):
            yield from (Problem((each.name, *path), text) for path, text in table.problems())


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
