"""What is told of the traffic between hosts: each worker's end of it."""

from edge.control.statistics import TrunkCounts, WayCounts
from edge.metrics.figure import Figure, Kind

RELAY: tuple[Figure[TrunkCounts], ...] = (
    Figure(
        "edge_relay_trunk_sent_packets",
        Kind.COUNTER,
        "Clients' packets sent to transceivers of other hosts.",
        lambda trunk: trunk.packets,
    ),
    Figure(
        "edge_relay_trunk_sent_frames",
        Kind.COUNTER,
        "Sealed datagrams that those packets and notices took.",
        lambda trunk: trunk.frames,
    ),
    Figure(
        "edge_relay_trunk_received_frames",
        Kind.COUNTER,
        "Authentic datagrams of transceivers of other hosts.",
        lambda trunk: trunk.frames_back,
    ),
    Figure(
        "edge_relay_trunk_delivered_packets",
        Kind.COUNTER,
        "Packets in those that were sent to clients by UDP.",
        lambda trunk: trunk.delivered,
    ),
    Figure(
        "edge_relay_trunk_transceivers",
        Kind.GAUGE,
        "Transceivers of other hosts that a relay worker has met.",
        lambda trunk: trunk.transceivers,
    ),
)

TRANSCEIVER: tuple[Figure[WayCounts], ...] = (
    Figure(
        "edge_transceiver_trunk_received_frames",
        Kind.COUNTER,
        "Authentic datagrams of relays of other hosts.",
        lambda trunk: trunk.frames,
    ),
    Figure(
        "edge_transceiver_trunk_ways",
        Kind.GAUGE,
        "Ways back to clients by relays of other hosts.",
        lambda trunk: trunk.ways,
    ),
    Figure(
        "edge_transceiver_trunk_turned_ways",
        Kind.COUNTER,
        "How often a client was found behind another relay than before.",
        lambda trunk: trunk.turned,
    ),
)
