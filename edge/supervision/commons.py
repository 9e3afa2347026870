"""What the workers have in common beside sockets to the world: memories, and the way to each other.

The service manager keeps the flow memory while no supervisor runs; the rest is of use to workers
that live, and passes from a supervisor to its successor only.
"""

import contextlib
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

from edge.assignment.access import access_sizes
from edge.assignment.neighbourhood import Neighbourhood
from edge.config import Config
from edge.fleet.states import STATE_TABLE_BYTES
from edge.memory import HeldMemory
from edge.routing.numbers import SLOTS_MAX
from edge.routing.shared import FORMAT, table_bytes
from edge.sdnotify import ServiceManager
from edge.supervision.estate import Estate
from edge.transceiver.channel import listen_for_neighbours, neighbour_paths
from edge.transceiver.load import load_table_bytes

_FLOWS = f"flows-format-{FORMAT}"
_LOAD = "load"
_ACCESS = "access"
_STATES = "states"


def take_flow_memory(config: Config, manager: ServiceManager) -> HeldMemory:
    """Take the flow memory that was kept, if it means the same by its numbers, or make one.

    A predecessor's is of the size that it was made with: a reload may have changed the limit.
    """
    inherited = manager.take(_FLOWS)
    if inherited is not None:
        return HeldMemory(inherited)
    size = table_bytes(config.relay.flows_max * len(config.relay.listen))
    meaning = (FORMAT, size, SLOTS_MAX, *map(str, config.relay.listen))
    name = f"flows-{zlib.crc32(repr(meaning).encode()):08x}"
    memory = _take_memory(manager, name, size)
    manager.keep(name, memory.fileno())
    return memory


@contextlib.contextmanager
def open_neighbourhood(
    directory: Path, config: Config, manager: ServiceManager, hash_key: bytes
) -> Iterator[Neighbourhood]:
    """Open what transceiver workers reach each other by, or take what our predecessor had.

    Raises:
        BootError: the directory or a socket in it cannot be made.

    """
    paths = neighbour_paths(directory, SLOTS_MAX)
    kept = [manager.take(_listener_name(slot)) for slot in range(SLOTS_MAX)]
    taken = [socket.socket(fileno=one) for one in kept if one is not None]
    with contextlib.ExitStack() as undo:
        listeners = (
            taken if len(taken) == SLOTS_MAX else listen_for_neighbours(directory, SLOTS_MAX)
        )
        for path, listener in zip(paths, listeners, strict=True):
            undo.enter_context(listener)
            undo.callback(Path(path).unlink, missing_ok=True)
        load = _take_memory(manager, _LOAD, load_table_bytes(SLOTS_MAX))
        undo.callback(load.close)
        access = _take_memory(manager, _ACCESS, access_sizes(config).memory_bytes)
        undo.callback(access.close)
        states = _take_memory(manager, _STATES, STATE_TABLE_BYTES)
        undo.callback(states.close)
        yield Neighbourhood(tuple(listeners), paths, load, access, states, hash_key)


def descriptors(estate: Estate) -> dict[str, int]:
    """Return all sockets and memories by the names that they are taken by."""
    found = {name: one.fileno() for name, one in estate.sockets.named()}
    shared = estate.neighbourhood
    for slot, listener in enumerate(shared.listeners):
        found[_listener_name(slot)] = listener.fileno()
    found[_LOAD] = shared.load_memory.fileno()
    found[_ACCESS] = shared.access_memory.fileno()
    found[_STATES] = shared.state_memory.fileno()
    found[_FLOWS] = estate.flow_memory.fileno()
    return found


def _listener_name(slot: int) -> str:
    return f"neighbour-{slot}"


def _take_memory(manager: ServiceManager, name: str, size: int) -> HeldMemory:
    """Take a memory of the right size, or make one of zeros."""
    kept = manager.take(name)
    if kept is not None:
        if os.fstat(kept).st_size == size:
            return HeldMemory(kept)
        os.close(kept)
    return HeldMemory.create(f"edge-{name}", size)
