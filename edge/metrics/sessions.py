"""What is told of each transceiver worker's sessions: how many, how they began, how they ended."""

from edge.control.statistics import TransceiverStatistics
from edge.control.status import WorkerStatus
from edge.metrics.figure import Figure, Kind, Reading, known
from edge.signal.messages import Verdict
from edge.transceiver.vocabulary import EndReason

DTLS_FAILURES = (
    EndReason.DTLS_TIMEOUT,
    EndReason.DTLS_FAILED,
    EndReason.FINGERPRINT_MISMATCH,
    EndReason.NO_SRTP_PROFILE,
)


def _offers(worker: TransceiverStatistics) -> Reading:
    placed = worker.placement
    return {
        "here": placed.opened_here,
        "elsewhere": placed.opened_elsewhere,
        "for-others": placed.opened_for_others,
        "refused": placed.refused,
        "redirected": placed.redirected,
        "other-host": placed.opened_at_peers,
        "for-other-hosts": placed.opened_for_peers,
    }


def _room(worker: WorkerStatus) -> Reading:
    if not isinstance(worker.statistics, TransceiverStatistics):
        return None
    return worker.statistics.placement.sessions_max if worker.state == "running" else 0


ROOM: tuple[Figure[WorkerStatus], ...] = (
    Figure(
        "edge_sessions_max",
        Kind.GAUGE,
        "How many sessions a worker takes; 0 for one that is leaving.",
        _room,
    ),
)

FIGURES: tuple[Figure[TransceiverStatistics], ...] = (
    Figure("edge_sessions", Kind.GAUGE, "Sessions now.", lambda worker: worker.sessions),
    Figure(
        "edge_sessions_detached",
        Kind.GAUGE,
        "Sessions that no signaling is attached to.",
        lambda worker: worker.placement.detached,
    ),
    Figure(
        "edge_sessions_remote",
        Kind.GAUGE,
        "Sessions of other workers that a worker's signaling is attached to.",
        lambda worker: worker.placement.remote,
    ),
    Figure(
        "edge_sessions_by_key",
        Kind.GAUGE,
        "Sessions by the id of the routing key that sealed their ufrags.",
        lambda worker: {str(key): count for key, count in worker.sessions_by_key.items()},
        "key",
    ),
    Figure(
        "edge_sessions_opened",
        Kind.COUNTER,
        "Offers that were answered with a new session.",
        lambda worker: worker.opened,
    ),
    Figure(
        "edge_sessions_reached_media",
        Kind.COUNTER,
        "Sessions whose client has sent authentic media.",
        lambda worker: worker.reached_media,
    ),
    Figure(
        "edge_sessions_ended",
        Kind.COUNTER,
        "Sessions that have ended, by who or what ended them.",
        lambda worker: known(worker.ended, (reason.value for reason in EndReason)),
        "reason",
    ),
    Figure(
        "edge_sessions_verdicts",
        Kind.COUNTER,
        "Sessions that have ended, by what they came to.",
        lambda worker: known(worker.verdicts, (verdict.value for verdict in Verdict)),
        "verdict",
    ),
    Figure(
        "edge_dtls_failures",
        Kind.COUNTER,
        "Sessions that ended because of their DTLS handshake.",
        lambda worker: {each.value: worker.ended.get(each.value, 0) for each in DTLS_FAILURES},
        "reason",
    ),
    Figure(
        "edge_offers",
        Kind.COUNTER,
        "Offers by where their session went: here or elsewhere, seen from the worker that took the"
        " request; for-others, from one that owns the session; refused, when no worker had room;"
        " redirected, to another cluster; other-host, to a host of the fleet; for-other-hosts,"
        " asked for by one.",
        _offers,
        "placement",
    ),
    Figure(
        "edge_setup_seconds",
        Kind.HISTOGRAM,
        "How long a layer took: ice from the answer to the first authentic check, dtls from there"
        " to keys, media from there to the first authentic packet.",
        lambda worker: worker.setup,
        "stage",
    ),
)
