"""What a session's client is told about it: session events as signaling messages."""

from collections.abc import Iterator, Mapping

from edge.signal.host import StateReport
from edge.signal.messages import Bye, ByeReason, LayerState, State, Verdict
from edge.signal.messages import Layer as WireLayer
from edge.transceiver.verdict import judge, sentence
from edge.transceiver.vocabulary import Ended, EndReason, LayerUp

_BYE_REASONS: Mapping[EndReason, ByeReason] = {
    EndReason.ICE_TIMEOUT: ByeReason.SETUP_TIMEOUT,
    EndReason.DTLS_TIMEOUT: ByeReason.SETUP_TIMEOUT,
    EndReason.DTLS_FAILED: ByeReason.HANDSHAKE_FAILED,
    EndReason.FINGERPRINT_MISMATCH: ByeReason.HANDSHAKE_FAILED,
    EndReason.NO_SRTP_PROFILE: ByeReason.HANDSHAKE_FAILED,
    EndReason.CONSENT_LOST: ByeReason.CONSENT_LOST,
    EndReason.PEER_CLOSED: ByeReason.PEER_CLOSED,
    EndReason.BACKEND_REFUSED: ByeReason.BACKEND_REFUSED,
    EndReason.BACKEND_LOST: ByeReason.BACKEND_LOST,
    EndReason.BACKEND_ENDED: ByeReason.BACKEND_ENDED,
    EndReason.CLIENT_BYE: ByeReason.HANG_UP,
    EndReason.CLIENT_GONE: ByeReason.SIGNALING_CLOSED,
    EndReason.TIME_LIMIT: ByeReason.TIME_LIMIT,
    EndReason.GOING_AWAY: ByeReason.GOING_AWAY,
    EndReason.CRASHED: ByeReason.INTERNAL,
}

_IN_ORDER: Mapping[EndReason, str] = {
    EndReason.PEER_CLOSED: "the client closed the media connection",
    EndReason.BACKEND_ENDED: "the backend hung up",
    EndReason.CLIENT_BYE: "the client hung up",
    EndReason.TIME_LIMIT: "the session has lasted as long as it may",
    EndReason.GOING_AWAY: "this server is shutting down",
}
"""What is said of a session that ended in order, and of one that had no time to go wrong."""

_FAILED_LAYERS: Mapping[EndReason, WireLayer] = {
    EndReason.ICE_TIMEOUT: WireLayer.ICE,
    EndReason.CONSENT_LOST: WireLayer.ICE,
    EndReason.DTLS_TIMEOUT: WireLayer.DTLS,
    EndReason.DTLS_FAILED: WireLayer.DTLS,
    EndReason.FINGERPRINT_MISMATCH: WireLayer.DTLS,
    EndReason.NO_SRTP_PROFILE: WireLayer.DTLS,
    EndReason.BACKEND_REFUSED: WireLayer.BACKEND,
    EndReason.BACKEND_LOST: WireLayer.BACKEND,
}

END_REASONS: Mapping[ByeReason, EndReason] = {
    ByeReason.HANG_UP: EndReason.CLIENT_BYE,
    ByeReason.SIGNALING_CLOSED: EndReason.CLIENT_GONE,
    ByeReason.TIME_LIMIT: EndReason.TIME_LIMIT,
    ByeReason.GOING_AWAY: EndReason.GOING_AWAY,
    ByeReason.INTERNAL: EndReason.CRASHED,
}
"""Why signaling ends a session."""


def farewell_word(reason: EndReason) -> str:
    """Return why a session ended as its backend is told."""
    return _BYE_REASONS[reason]


def reports(event: LayerUp | Ended, elapsed: float) -> Iterator[StateReport]:
    """Return what to tell the client of an event, ``elapsed`` seconds after the offer."""
    ms = round(elapsed * 1000, 3)
    match event:
        case LayerUp(layer):
            yield State(layer=WireLayer(layer.value), state=LayerState.CONNECTED, ms=ms)
        case Ended(reason, statistics):
            failed = _FAILED_LAYERS.get(reason)
            if failed is not None:
                yield State(layer=failed, state=LayerState.FAILED, ms=ms)
            verdict = judge(reason, statistics)
            good = verdict in {Verdict.OK, Verdict.GAVE_UP}
            message = _IN_ORDER.get(reason, sentence(verdict)) if good else sentence(verdict)
            yield Bye(reason=_BYE_REASONS[reason], message=message, verdict=verdict)
