"""What became of a session: one word, one sentence and one line, from what its layers have seen.

The reason of an end says who ended a session. The verdict says whether it was any good and, if not,
which layer is to blame: a client that hangs up after ten seconds without a sound has met the same
trouble as one that was given up. So a session that ended without media is judged by the first of
its layers that is missing, whoever ended it. Only within ``PATIENCE`` nobody is to blame: people
change their minds.
"""

from collections.abc import Iterator, Mapping

from edge.signal.messages import Verdict
from edge.transceiver.vocabulary import EndReason, Layer, SessionStatistics

PATIENCE = 5.0
"""Seconds after which a client that leaves without media has waited for it."""

_SENTENCES: Mapping[Verdict, str] = {
    Verdict.OK: "the session ended in order",
    Verdict.GAVE_UP: "the session ended before media could be expected",
    Verdict.NO_CHECK: (
        "no connectivity check arrived: UDP may be blocked between the client and this server, or "
        "the public address that the server was given is wrong"
    ),
    Verdict.CHECKS_NOT_AUTHENTIC: (
        "connectivity checks arrived, but none had the password of the answer"
    ),
    Verdict.CHECKS_REFUSED: (
        "connectivity checks arrived that had to be refused: the client has to be the controlling "
        "agent of full ICE"
    ),
    Verdict.NO_DTLS: (
        "connectivity checks arrived, but no DTLS packet: it is dropped on the way, or the client "
        "has not started it"
    ),
    Verdict.DTLS_INCOMPLETE: (
        "connectivity checks arrived, but the DTLS handshake was not completed in time"
    ),
    Verdict.DTLS_FAILED: "the DTLS handshake failed",
    Verdict.FINGERPRINT_MISMATCH: (
        "the client's certificate is not the one whose fingerprint was offered"
    ),
    Verdict.NO_SRTP_PROFILE: "the client and this server have no SRTP profile in common",
    Verdict.NO_MEDIA: "the connection was up, but no media came from the client",
    Verdict.MEDIA_REFUSED: (
        "media came from the client, but none that was authentic and as agreed on"
    ),
    Verdict.CONSENT_LOST: "nothing valid was heard from the client for too long",
    Verdict.SIGNALING_LOST: "the signaling connection was lost and not resumed in time",
    Verdict.BACKEND_REFUSED: "the backend could not be reached, or did not take the call",
    Verdict.BACKEND_LOST: "the connection to the backend was lost",
    Verdict.INTERNAL: "the session failed because of a fault of this server",
}

_TELLING: Mapping[EndReason, Verdict] = {
    EndReason.DTLS_FAILED: Verdict.DTLS_FAILED,
    EndReason.FINGERPRINT_MISMATCH: Verdict.FINGERPRINT_MISMATCH,
    EndReason.NO_SRTP_PROFILE: Verdict.NO_SRTP_PROFILE,
    EndReason.BACKEND_REFUSED: Verdict.BACKEND_REFUSED,
    EndReason.BACKEND_LOST: Verdict.BACKEND_LOST,
    EndReason.CRASHED: Verdict.INTERNAL,
}
"""Reasons that are the verdict, whatever the layers have seen."""

_AFTER_MEDIA: Mapping[EndReason, Verdict] = {
    EndReason.CONSENT_LOST: Verdict.CONSENT_LOST,
    EndReason.CLIENT_GONE: Verdict.SIGNALING_LOST,
}

_HURRIED = frozenset(
    {
        EndReason.CLIENT_BYE,
        EndReason.CLIENT_GONE,
        EndReason.PEER_CLOSED,
        EndReason.BACKEND_ENDED,
        EndReason.TIME_LIMIT,
        EndReason.GOING_AWAY,
    }
)
"""Reasons that may come before their time."""
_NOT_AUTHENTIC = ("bad-integrity", "missing-integrity", "bad-username", "missing-username")
_REFUSED_MEDIA = (
    "authentication",
    "rtp-unknown-payload-type",
    "rtp-unknown-mid",
    "rtp-ssrc-collision",
    "media-unvalidated-address",
)


def judge(reason: EndReason, statistics: SessionStatistics | None) -> Verdict:
    """Return the verdict on a session that has ended; without statistics its state is unknown."""
    if reason in _TELLING:
        return _TELLING[reason]
    if statistics is None:
        return Verdict.INTERNAL
    layers = statistics.layers
    if Layer.MEDIA in layers or (Layer.DTLS in layers and not statistics.media_expected):
        return _AFTER_MEDIA.get(reason, Verdict.OK)
    duration = statistics.duration
    if reason in _HURRIED and duration is not None and duration < PATIENCE:
        return Verdict.GAVE_UP
    return _missing(statistics)


def sentence(verdict: Verdict) -> str:
    """Return what the verdict means, for people, without a full stop."""
    return _SENTENCES[verdict]


def summary(reason: EndReason, statistics: SessionStatistics | None) -> str:
    """Return the line for the log, ``key=value`` pairs: figures only, no address and no secret."""
    pairs = [("verdict", judge(reason, statistics).value), ("reason", reason.value)]
    if statistics is not None:
        pairs += _figures(statistics)
    return " ".join(f"{key}={value}" for key, value in pairs)


def _missing(statistics: SessionStatistics) -> Verdict:
    """Name what is wrong with the first layer that did not come up."""
    drops = statistics.drops
    if Layer.ICE not in statistics.layers:
        if statistics.ice.checks_refused:
            return Verdict.CHECKS_REFUSED
        dropped = any(drops.get(each) for each in _NOT_AUTHENTIC)
        return Verdict.CHECKS_NOT_AUTHENTIC if dropped else Verdict.NO_CHECK
    if Layer.DTLS not in statistics.layers:
        return Verdict.DTLS_INCOMPLETE if statistics.dtls_datagrams else Verdict.NO_DTLS
    refused = any(drops.get(each) for each in _REFUSED_MEDIA)
    return Verdict.MEDIA_REFUSED if refused else Verdict.NO_MEDIA


def _figures(statistics: SessionStatistics) -> Iterator[tuple[str, str]]:
    if statistics.duration is not None:
        yield "duration", f"{statistics.duration:.1f}"
    for layer, elapsed in statistics.layers.items():
        yield f"{layer.value}_ms", f"{elapsed * 1000:.0f}"
    rtp = statistics.rtp
    yield "received", str(rtp.packets_received)
    yield "lost", str(rtp.packets_lost)
    yield "jitter_ms", f"{rtp.jitter_ms:.1f}"
    yield "sent", str(rtp.packets_sent)
    if rtp.remote_packets_lost is not None:
        yield "remote_lost", str(rtp.remote_packets_lost)
    if rtp.round_trip_ms is not None:
        yield "rtt_ms", f"{rtp.round_trip_ms:.1f}"
    if statistics.ice.restarts:
        yield "restarts", str(statistics.ice.restarts)
    if dropped := sum(statistics.drops.values()):
        yield "dropped", str(dropped)
