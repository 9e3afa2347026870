"""A relay worker's figures as the supervisor gets them."""

from collections import Counter
from collections.abc import Sequence

from edge.control.statistics import FlowCounts, StreamCounts, TrunkCounts
from edge.forwarding.forwarder import Forwarder
from edge.forwarding.ownership import Ownership
from edge.routing.flows import FlowTable
from edge.streams.streams import StreamStatistics
from edge.trunk.relaying import RelayTrunk


def flow_counts(table: FlowTable) -> FlowCounts:
    counts = table.statistics()
    return FlowCounts(
        confirmed=counts.confirmed,
        tentative=counts.tentative,
        conflicts=counts.conflicts,
        evicted=counts.evicted,
        full=counts.full,
        taken_over=counts.taken_over,
    )


def stream_counts(figures: StreamStatistics) -> StreamCounts:
    return StreamCounts(
        connections=figures.connections,
        half_open=figures.half_open,
        accepted=figures.accepted,
        refused=figures.refused,
        closed=figures.closed,
    )


def trunk_counts(
    trunk: RelayTrunk, forwarders: Sequence[Forwarder], owners: Ownership
) -> TrunkCounts:
    figures = trunk.statistics()
    deliveries = [one.delivery for one in forwarders if one.delivery is not None]
    return TrunkCounts(
        transceivers=figures.owners,
        packets=figures.packets,
        frames=figures.frames,
        frames_back=figures.frames_back,
        delivered=sum(delivery.packets for delivery in deliveries),
        first_checks=owners.first_checks_elsewhere,
    )


def all_drops(
    own: Counter[str], trunk: RelayTrunk | None, forwarders: Sequence[Forwarder]
) -> Counter[str]:
    """Add to a worker's ``own`` drops what sockets did not take."""
    total = Counter(own)
    if trunk is not None:
        total.update(trunk.all_drops())
    for forwarder in forwarders:
        if forwarder.delivery is not None:
            total.update(forwarder.delivery.send_drops)
    return total
