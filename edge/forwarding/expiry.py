"""The end of flows that nobody uses, and the long life of those that are used."""

import gc
import time
from collections.abc import Sequence

import trio

from edge.directory.flow_cache import FlowCache
from edge.directory.flow_entry import Owner
from edge.forwarding.forwarder import Forwarder
from edge.forwarding.ownership import Ownership
from edge.routing.shared import FlowMirror

TOUCHES_PER_TURN = 500
"""How many mirrored flows are renewed before other tasks of the worker get a turn."""


async def expire_flows(
    forwarders: Sequence[Forwarder],
    mirrors: Sequence[FlowMirror],
    owners: Ownership,
    cache: FlowCache | None,
    generation: float,
) -> None:
    """Rotate the tables once a generation; keep what is in use alive in the mirrors and in Redis.

    Then collect garbage, which the relay worker does at no other time.
    """
    while True:
        if cache is not None:
            cache.begin_generation()
        for forwarder, mirror in zip(forwarders, mirrors, strict=True):
            mirror.now = int(time.monotonic())
            used = list(forwarder.flows.current.items())
            forwarder.flows.rotate()
            for start in range(0, len(used), TOUCHES_PER_TURN):
                for client, owner in used[start : start + TOUCHES_PER_TURN]:
                    mirror.touch(client)
                    if cache is not None:
                        name = Owner(*owners.transceiver_of(owner))
                        cache.renew((forwarder.index, client), name)
                await trio.lowlevel.checkpoint()
        if cache is not None:
            cache.end_generation()
        gc.collect()
        await trio.sleep(generation)
