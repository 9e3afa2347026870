"""Keys as they travel to workers."""

from edge.control.messages import SharedKey
from edge.keys import KeySet


def shared_keys(keys: KeySet) -> list[SharedKey]:
    """Return the routing keys as they travel to workers."""
    return [SharedKey(each.id, each.key) for each in keys.routing]


def fleet_keys(keys: KeySet) -> list[SharedKey]:
    """Return the fleet's keys as they travel to workers."""
    return [SharedKey(each.id, each.key) for each in keys.fleet]
