"""What is told of each relay worker."""

from collections.abc import Callable

from edge.control.statistics import FlowCounts, RelayStatistics
from edge.metrics.figure import Figure, Kind, Reading


def _sum(count: Callable[[FlowCounts], int], statistics: RelayStatistics) -> int:
    return sum(map(count, statistics.flows))


def _flows(statistics: RelayStatistics) -> Reading:
    return {
        "confirmed": _sum(lambda flows: flows.confirmed, statistics),
        "tentative": _sum(lambda flows: flows.tentative, statistics),
    }


def _flow_events(statistics: RelayStatistics) -> Reading:
    return {
        "conflict": _sum(lambda flows: flows.conflicts, statistics),
        "evicted": _sum(lambda flows: flows.evicted, statistics),
        "full": _sum(lambda flows: flows.full, statistics),
        "taken-over": _sum(lambda flows: flows.taken_over, statistics),
    }


def _connections(statistics: RelayStatistics) -> Reading:
    tcp = statistics.tcp
    return {"confirmed": tcp.connections - tcp.half_open, "half-open": tcp.half_open}


FIGURES: tuple[Figure[RelayStatistics], ...] = (
    Figure(
        "edge_relay_received_packets",
        Kind.COUNTER,
        "Packets that came in on the public sockets.",
        lambda relay: relay.packets,
    ),
    Figure(
        "edge_relay_received_bytes",
        Kind.COUNTER,
        "Payload of those packets.",
        lambda relay: relay.bytes,
    ),
    Figure(
        "edge_relay_forwarded_packets",
        Kind.COUNTER,
        "Packets handed to transceivers.",
        lambda relay: relay.forwarded,
    ),
    Figure(
        "edge_relay_frames",
        Kind.COUNTER,
        "Datagrams that those packets took on the internal hop.",
        lambda relay: relay.frames,
    ),
    Figure(
        "edge_relay_first_checks",
        Kind.COUNTER,
        "STUN requests that were routed by their ufrag alone: the first of a flow.",
        lambda relay: sum(relay.first_checks),
    ),
    Figure(
        "edge_relay_dropped_packets",
        Kind.COUNTER,
        "What a relay dropped.",
        lambda relay: relay.drops,
        "reason",
    ),
    Figure(
        "edge_relay_flows",
        Kind.GAUGE,
        "Flows: client addresses whose transceiver is known.",
        _flows,
        "state",
    ),
    Figure(
        "edge_relay_flow_events",
        Kind.COUNTER,
        "Confirmations refused (conflict, full), tentative flows that gave way (evicted), flows"
        " found in shared memory (taken-over).",
        _flow_events,
        "event",
    ),
    Figure(
        "edge_relay_tcp_connections",
        Kind.GAUGE,
        "Connections of clients that send media over TCP.",
        _connections,
        "state",
    ),
    Figure(
        "edge_relay_tcp_accepted_connections",
        Kind.COUNTER,
        "Such connections that were accepted.",
        lambda relay: relay.tcp.accepted,
    ),
    Figure(
        "edge_relay_tcp_refused_connections",
        Kind.COUNTER,
        "Such connections that were closed at once.",
        lambda relay: relay.tcp.refused,
        "reason",
    ),
    Figure(
        "edge_relay_tcp_closed_connections",
        Kind.COUNTER,
        "Such connections that have ended.",
        lambda relay: relay.tcp.closed,
        "reason",
    ),
)
