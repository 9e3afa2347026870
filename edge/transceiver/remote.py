"""Connections of the control channel between hosts: TCP, with a handshake by the fleet's keys.

They are made from one internal address to another, so each end knows which member it talks to. The
kernel finds out when the other host has vanished: within ``VANISHED_AFTER`` seconds without an
answer from it a connection ends.
"""

import logging
import os
import socket

import trio

from edge.errors import FleetError
from edge.fleet.map import FleetMap, Member
from edge.fleet.seal import KeyRing
from edge.fleet.secure import SecureEnd
from edge.transceiver.channel import NeighbourError

logger = logging.getLogger(__name__)

HANDSHAKE_TIME = 2.0
"""How long it may take until both ends know each other."""
VANISHED_AFTER = 3

_CHUNK_BYTES = 65_536


async def call_member(
    fleet: FleetMap, member: Member, ring: KeyRing
) -> tuple[trio.SocketStream, SecureEnd]:
    """Connect to another host.

    Raises:
        NeighbourError: it cannot be reached, or is not who it should be, or we lack a descriptor.

    """
    here = fleet.here.internal
    family = socket.AF_INET6 if ":" in member.internal else socket.AF_INET
    try:
        connection = trio.socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise _unreachable(member, exc) from exc
    try:
        with trio.fail_after(HANDSHAKE_TIME):
            await connection.bind((here, 0))
            await connection.connect(fleet.control_address(member))
            end = SecureEnd(ring, here, member.internal, calls=True, entropy=os.urandom)
            stream = trio.SocketStream(connection)
            watch(stream)
            await shake_hands(stream, end)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, FleetError) as exc:
        connection.close()
        raise _unreachable(member, exc) from exc
    except BaseException:
        connection.close()
        raise
    return stream, end


async def shake_hands(stream: trio.SocketStream, end: SecureEnd) -> list[bytes]:
    """Find out who is there; return the messages that have come with it.

    Raises:
        FleetError: no member is there, or it goes away, or its key has been removed meanwhile.
        trio.BrokenResourceError: as ``receive_some``.

    """
    messages: list[bytes] = []
    while True:
        if outgoing := end.next_bytes():
            await stream.send_all(outgoing)
        if end.established:
            if not end.key_in_force:
                raise FleetError("unknown-key")
            return messages
        data = await stream.receive_some(_CHUNK_BYTES)
        if not data:
            raise FleetError("closed", "the connection was closed")
        messages += end.feed(data)


def watch(stream: trio.SocketStream) -> None:
    """Have the kernel end the connection when the other host is gone, and delay nothing."""
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, VANISHED_AFTER - 1),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER * 1000),
    ):
        stream.setsockopt(level, option, value)


def _unreachable(member: Member, error: Exception) -> NeighbourError:
    why = str(error) or "it does not answer"
    return NeighbourError(f"host {member.name} cannot be reached: {why}")
