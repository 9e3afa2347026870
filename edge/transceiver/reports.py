"""What a session's client is told about it: session events as signaling messages."""

from collections.abc import Iterator, Mapping

from edge.signal.host import StateReport
from edge.signal.messages import Bye, ByeReason, LayerState, State
from edge.signal.messages import Layer as WireLayer
from edge.transceiver.session import Ended, EndReason, LayerUp

_BYES: Mapping[EndReason, tuple[ByeReason, str]] = {
    EndReason.ICE_TIMEOUT: (
        ByeReason.SETUP_TIMEOUT,
        "no connectivity check arrived: UDP may be blocked between the client and this server",
    ),
    EndReason.DTLS_TIMEOUT: (
        ByeReason.SETUP_TIMEOUT,
        "connectivity checks arrived, but the DTLS handshake was not completed in time",
    ),
    EndReason.DTLS_FAILED: (ByeReason.HANDSHAKE_FAILED, "the DTLS handshake failed"),
    EndReason.FINGERPRINT_MISMATCH: (
        ByeReason.HANDSHAKE_FAILED,
        "the client's certificate is not the one whose fingerprint was offered",
    ),
    EndReason.NO_SRTP_PROFILE: (
        ByeReason.HANDSHAKE_FAILED,
        "the client and this server have no SRTP profile in common",
    ),
    EndReason.CONSENT_LOST: (
        ByeReason.CONSENT_LOST,
        "nothing valid was heard from the client for too long",
    ),
    EndReason.PEER_CLOSED: (ByeReason.PEER_CLOSED, "the client closed the media connection"),
    EndReason.BACKEND_REFUSED: (
        ByeReason.BACKEND_REFUSED,
        "the backend could not be reached, or did not take the call",
    ),
    EndReason.BACKEND_LOST: (ByeReason.BACKEND_LOST, "the connection to the backend was lost"),
    EndReason.BACKEND_ENDED: (ByeReason.BACKEND_ENDED, "the backend hung up"),
    EndReason.CLIENT_BYE: (ByeReason.HANG_UP, "the client hung up"),
    EndReason.CLIENT_GONE: (ByeReason.SIGNALING_CLOSED, "the signaling connection was closed"),
    EndReason.GOING_AWAY: (ByeReason.GOING_AWAY, "this server is shutting down"),
    EndReason.CRASHED: (ByeReason.INTERNAL, "the session failed because of a fault of this server"),
}

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
    ByeReason.GOING_AWAY: EndReason.GOING_AWAY,
    ByeReason.INTERNAL: EndReason.CRASHED,
}
"""Why signaling ends a session."""


def farewell_word(reason: EndReason) -> str:
    """Return why a session ended as its backend is told."""
    return _BYES[reason][0]


def reports(event: LayerUp | Ended, elapsed: float) -> Iterator[StateReport]:
    """Return what to tell the client of an event, ``elapsed`` seconds after the offer."""
    ms = round(elapsed * 1000, 3)
    match event:
        case LayerUp(layer):
            yield State(layer=WireLayer(layer.value), state=LayerState.CONNECTED, ms=ms)
        case Ended(reason):
            failed = _FAILED_LAYERS.get(reason)
            if failed is not None:
                yield State(layer=failed, state=LayerState.FAILED, ms=ms)
            wire_reason, sentence = _BYES[reason]
            yield Bye(reason=wire_reason, message=sentence)
