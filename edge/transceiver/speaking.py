"""Tells the other hosts of the fleet how much room this one has.

The supervisor runs it: one voice per host, also on one that only relays.
"""

import logging
import math
from collections.abc import Callable

import trio

from edge.fleet.map import FleetMap, Member
from edge.fleet.seal import KeyRing
from edge.fleet.states import TELL_INTERVAL, HostState, encode_state
from edge.transceiver.channel import NeighbourError
from edge.transceiver.remote import call_member

logger = logging.getLogger(__name__)

LOOK_INTERVAL = 0.1
"""What is told is not older than this."""
RETRY_INTERVAL = 2.0
"""Between two attempts to reach a host."""


async def tell_peers(fleet: FleetMap, ring: KeyRing, state: Callable[[], HostState]) -> None:
    """Tell every other host that has transceivers, every second, for ever."""
    voice = _Voice(fleet, ring, state)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)  # there may be no such host
        for member in fleet.peers:
            if member.cluster is not None:
                nursery.start_soon(voice.tell, member)


class _Voice:
    def __init__(self, fleet: FleetMap, ring: KeyRing, state: Callable[[], HostState]) -> None:
        self._fleet = fleet
        self._ring = ring
        self._state = state
        self._message = b""
        self._looked_at = -math.inf

    def _news(self) -> bytes:
        """Return what is to be told now, to several hosts the same."""
        now = trio.current_time()
        if now - self._looked_at >= LOOK_INTERVAL:
            self._looked_at, self._message = now, encode_state(self._state())
        return self._message

    async def tell(self, member: Member) -> None:
        reached = True
        while True:
            try:
                stream, end = await call_member(self._fleet, member, self._ring)
            except NeighbourError as exc:
                if reached:
                    logger.warning("%s", exc)
                reached = False
                await trio.sleep(RETRY_INTERVAL)
                continue
            logger.info("host %s is reached", member.name)
            reached = True
            async with stream:
                try:
                    while True:
                        await stream.send_all(end.frame(self._news()))
                        await trio.sleep(TELL_INTERVAL)
                except trio.BrokenResourceError:
                    logger.warning("host %s has closed the connection", member.name)
