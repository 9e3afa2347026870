"""The way of transceiver workers to each other, and the memories that they share."""

import socket

from attrs import field, frozen

from edge.memory import HeldMemory


@frozen
class Neighbourhood:
    """What the transceiver workers have in common. The supervisor holds it."""

    listeners: tuple[socket.socket, ...]
    """By slot: where a worker takes the requests of the others."""
    paths: tuple[str, ...]
    """By slot: the path of its listener."""
    load_memory: HeldMemory
    """Of the load table."""
    access_memory: HeldMemory
    """Of the tables of who was let in."""
    state_memory: HeldMemory
    """Of the table of the other hosts' room."""
    access_hash_key: bytes = field(repr=False)
