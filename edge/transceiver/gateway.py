"""Where other hosts' workers ask for sessions of this host, and hosts tell how much room they have.

Only members' internal addresses are let in, and only with a key of the fleet. What is asked for is
placed on this host, or found on it, and never passed on to a third one.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import trio

from edge.errors import FleetError
from edge.fleet.map import FleetMap, Member
from edge.fleet.seal import KeyRing
from edge.fleet.secure import SecureEnd
from edge.fleet.states import HostState, StateTable
from edge.process import leaves
from edge.signal.intake import Door, PacedListener, serve_connections
from edge.transceiver import neighbour_messages as wire
from edge.transceiver.channel import Channel
from edge.transceiver.owning import OwnersEnd, Source
from edge.transceiver.remote import HANDSHAKE_TIME, shake_hands, watch

logger = logging.getLogger(__name__)

CONNECTIONS_PER_MEMBER_MAX = 80
"""Of one worker with one host: all its workers may come to the same one, and its supervisor."""
ACCEPTS_PER_SECOND = 300.0
"""Connections of members that are taken: who connects must not hold up media. More wait in the
kernel."""
ACCEPTS_AT_ONCE = 100
"""How many are taken without a pause after a quiet time."""
STRANGERS_PER_TURN = 16
TURN_PAUSE = 0.005
"""Seconds between two turns: strangers are closed faster than members are taken, who wait behind
them."""
HANDSHAKES_MAX = 256
"""Connections of one worker whose other ends are not known yet."""
LOG_INTERVAL = 10.0
"""Between two log lines about those who are not let in."""


class Gateway:
    """The control channel's listeners of one worker. It counts in ``drops``, by reason."""

    def __init__(
        self,
        fleet: FleetMap,
        ring: KeyRing,
        source: Source,
        states: StateTable,
        drops: Counter[str],
    ) -> None:
        self._fleet = fleet
        self._ring = ring
        self._source = source
        self._states = states
        self._connections: Counter[str] = Counter()
        self._established: dict[Channel, tuple[Member, SecureEnd]] = {}
        self._handshakes = 0
        self._logged_at = -LOG_INTERVAL
        self._drops = drops

    async def serve(
        self,
        listeners: list[Door],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take connections, and carry out what is asked for on them."""
        paced = [
            PacedListener(_Sieve(each, self._caller), ACCEPTS_PER_SECOND, ACCEPTS_AT_ONCE)
            for each in listeners
        ]
        await serve_connections(self._take, paced, task_status=task_status)

    def end_outdated(self) -> None:
        """End the connections whose key is not in the ring any more."""
        for channel, (member, end) in list(self._established.items()):
            if not end.key_in_force and not channel.ended:
                channel.close()
                self._refuse(member, "key-removed")

    async def _take(self, stream: trio.SocketStream) -> None:
        member = self._caller(stream)
        if member is None:
            return
        refusal = self._refusal(member)
        if refusal is not None:
            await trio.aclose_forcefully(stream)
            self._refuse(member, refusal)
            return
        here = self._fleet.here.internal
        end = SecureEnd(self._ring, here, member.internal, calls=False, entropy=os.urandom)
        self._connections[member.name] += 1
        try:
            early = await self._shake_hands(stream, end)
            await self._converse(member, stream, end, early)
        except* FleetError as group:
            for error in leaves(group):
                assert isinstance(error, FleetError)
                self._refuse(member, error.reason)
        except* (trio.BrokenResourceError, trio.TooSlowError, OSError):
            self._refuse(member, "no-handshake")
        except* Exception:
            logger.exception("the connection from host %s has failed", member.name)
        finally:
            self._connections[member.name] -= 1
            await trio.aclose_forcefully(stream)

    def _caller(self, stream: trio.SocketStream) -> Member | None:
        """Return who has connected; None, and counted: a stranger, or it has gone already."""
        try:
            address = stream.socket.getpeername()[0]
        except OSError:
            self._refuse(None, "no-handshake")
            return None
        member = self._fleet.member_at(address)
        if member is None:
            self._refuse(None, "not-a-member")
        return member

    def _refusal(self, member: Member) -> str | None:
        """Say why a member is not even listened to."""
        if self._handshakes >= HANDSHAKES_MAX:
            return "too-many-handshakes"
        if self._connections[member.name] >= CONNECTIONS_PER_MEMBER_MAX:
            return "too-many-connections"
        return None

    async def _shake_hands(self, stream: trio.SocketStream, end: SecureEnd) -> list[bytes]:
        self._handshakes += 1
        try:
            with trio.fail_after(HANDSHAKE_TIME):
                watch(stream)
                return await shake_hands(stream, end)
        finally:
            self._handshakes -= 1

    async def _converse(
        self, member: Member, stream: trio.SocketStream, secure: SecureEnd, early: Sequence[bytes]
    ) -> None:
        end: OwnersEnd | None = None
        channel = Channel(stream, secure)
        self._established[channel] = (member, secure)
        try:
            async with trio.open_nursery() as requests:
                end = OwnersEnd(channel, self._source, requests.start_soon)
                take = partial(self._hear, member, end)
                for each in early:
                    take(each)
                await channel.run(take)
                requests.cancel_scope.cancel()
        finally:
            del self._established[channel]
            if end is not None:
                end.leave()

    def _hear(self, member: Member, end: OwnersEnd, data: bytes) -> None:
        message = wire.decode_to_host(data)
        match message:
            case None:
                self._drops["control-unknown-message"] += 1
            case HostState():
                self._states.publish(member.name, message, time.monotonic())
            case _:
                end.take(message)

    def _refuse(self, member: Member | None, reason: str) -> None:
        self._drops[f"control-{reason}"] += 1
        now = time.monotonic()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            who = f"host {member.name}" if member is not None else "a stranger"
            logger.warning("the control channel has refused %s: %s", who, reason)


class _Sieve(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts from members; strangers are closed, a few per turn."""

    def __init__(
        self,
        listener: trio.abc.Listener[trio.SocketStream],
        caller: Callable[[trio.SocketStream], Member | None],
    ) -> None:
        self._listener = listener
        self._caller = caller
        self._strangers = 0

    async def accept(self) -> trio.SocketStream:
        while self._caller(stream := await self._listener.accept()) is None:
            stream.socket.close()
            self._strangers += 1
            if self._strangers % STRANGERS_PER_TURN == 0:
                await trio.sleep(TURN_PAUSE)
        return stream

    async def aclose(self) -> None:
        await self._listener.aclose()
