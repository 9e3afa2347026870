"""What is told of each transceiver worker's packets, and of the sound in them."""

from edge.control.statistics import HistogramCounts, MediaCounts, Punctuality, TransceiverStatistics
from edge.media.frames import Label
from edge.metrics.figure import Figure, Kind, Reading, Value, known

NOT_SENT = ("send-buffer-full", "send-refused", "relay-not-taking")
"""Why a packet of ours did not leave: what an alert is about begins at zero."""

_ABOVE = "more"


def _lateness(paced: Punctuality) -> HistogramCounts:
    bounds = [float(bound) / 1000 for bound in paced.late_up_to if bound != _ABOVE]
    counts = list(paced.late_up_to.values())
    return HistogramCounts(bounds=bounds, counts=counts, total=paced.late)


def _both_ways(worker: TransceiverStatistics, name: str) -> Reading:
    found: dict[str, Value] = {}
    for way, key in (("received", name), ("sent", f"remote-{name}")):
        if key in worker.quality:
            found[way] = worker.quality[key]
    return found


FIGURES: tuple[Figure[TransceiverStatistics], ...] = (
    Figure(
        "edge_transceiver_received_packets",
        Kind.COUNTER,
        "Clients' packets that relays have brought.",
        lambda worker: worker.packets_received,
    ),
    Figure(
        "edge_transceiver_received_bytes",
        Kind.COUNTER,
        "Payload of those packets.",
        lambda worker: worker.bytes_received,
    ),
    Figure(
        "edge_transceiver_sent_packets",
        Kind.COUNTER,
        "Packets to clients.",
        lambda worker: worker.packets_sent,
    ),
    Figure(
        "edge_transceiver_sent_bytes",
        Kind.COUNTER,
        "Payload of those packets.",
        lambda worker: worker.bytes_sent,
    ),
    Figure(
        "edge_transceiver_dropped_packets",
        Kind.COUNTER,
        "What a transceiver dropped; what a session did, once it has ended.",
        lambda worker: known(worker.drops, NOT_SENT),
        "reason",
    ),
    Figure(
        "edge_frame_lateness_seconds",
        Kind.HISTOGRAM,
        "How late paced frames left, after the system call that sent them.",
        lambda worker: _lateness(worker.punctuality),
    ),
    Figure(
        "edge_frames_skipped",
        Kind.COUNTER,
        "Frames that never left because their time was missed by 20 ms or more.",
        lambda worker: worker.punctuality.skipped,
    ),
    Figure(
        "edge_frames_on_time_ratio",
        Kind.GAUGE,
        "Frames of the last seconds that left at most 5 ms late, by all that were due.",
        lambda worker: worker.placement.on_time_ratio,
    ),
    Figure(
        "edge_rtp_jitter_seconds",
        Kind.HISTOGRAM,
        "Interarrival jitter, one sample per RTCP report: received is ours on the clients' streams,"
        " sent is theirs on ours.",
        lambda worker: _both_ways(worker, "jitter"),
        "direction",
    ),
    Figure(
        "edge_rtp_loss_ratio",
        Kind.HISTOGRAM,
        "Share of packets lost in a report interval, one sample per RTCP report.",
        lambda worker: _both_ways(worker, "loss"),
        "direction",
    ),
    Figure(
        "edge_rtp_round_trip_seconds",
        Kind.HISTOGRAM,
        "Round-trip time to clients, one sample per RTCP report of theirs.",
        lambda worker: worker.quality.get("round-trip"),
    ),
)

SOUND: tuple[Figure[MediaCounts], ...] = (
    Figure(
        "edge_heard_frames",
        Kind.COUNTER,
        "Frames of clients' sound by where it came from: received, fec, concealed or dtx.",
        lambda sound: known(sound.heard, (one.value for one in Label)),
        "source",
    ),
    Figure(
        "edge_jitter_buffer_delay_seconds",
        Kind.HISTOGRAM,
        "Mean time of a packet in the jitter buffer, one sample per session that has ended.",
        lambda sound: sound.buffer_delay,
    ),
    Figure(
        "edge_playout_underruns",
        Kind.COUNTER,
        "Gaps in what was played because a backend was late; counted when a session ends.",
        lambda sound: sound.underruns,
    ),
    Figure(
        "edge_playout_overflow_seconds",
        Kind.COUNTER,
        "Sound thrown away because too much waited to be played; counted when a session ends.",
        lambda sound: sound.overflow,
    ),
)
