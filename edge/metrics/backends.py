"""What is told of the links between each transceiver worker's sessions and their backends."""

from edge.backend.policy import Failure, LinkEnd
from edge.control.statistics import LinkCounts
from edge.metrics.figure import Figure, Kind, known

STATES = ("connecting", "open", "reconnecting")

FIGURES: tuple[Figure[LinkCounts], ...] = (
    Figure(
        "edge_backend_links",
        Kind.GAUGE,
        "Links to backends now.",
        lambda links: known(links.states, STATES),
        "state",
    ),
    Figure(
        "edge_backend_connect_seconds",
        Kind.HISTOGRAM,
        "How long it took until a connection was open, failed attempts before it included.",
        lambda links: links.connect,
    ),
    Figure(
        "edge_backend_round_trip_seconds",
        Kind.HISTOGRAM,
        "From a WebSocket ping to its pong.",
        lambda links: links.round_trip,
    ),
    Figure(
        "edge_backend_failures",
        Kind.COUNTER,
        "Attempts and connections that failed.",
        lambda links: known(links.failures, map(str, Failure)),
        "reason",
    ),
    Figure(
        "edge_backend_ends",
        Kind.COUNTER,
        "Links that ended before their session.",
        lambda links: known(links.ends, map(str, LinkEnd)),
        "reason",
    ),
    Figure(
        "edge_backend_sent_messages",
        Kind.COUNTER,
        "Messages to backends.",
        lambda links: links.messages_sent,
    ),
    Figure(
        "edge_backend_received_messages",
        Kind.COUNTER,
        "Messages of backends.",
        lambda links: links.messages_received,
    ),
    Figure(
        "edge_backend_dropped_frames",
        Kind.COUNTER,
        "Frames of sound dropped because a backend did not keep up or was not there.",
        lambda links: links.frames_dropped,
    ),
    Figure(
        "edge_backend_drops",
        Kind.COUNTER,
        "What else was lost on the way to and from backends; counted when a link is over.",
        lambda links: links.drops,
        "reason",
    ),
)
