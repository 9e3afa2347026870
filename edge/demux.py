"""Tell the protocols that share one UDP port apart by their first bytes (RFC 7983, RFC 5761)."""

from enum import Enum


class Kind(Enum):
    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    UNKNOWN = "unknown"
    """ZRTP, TURN channels, QUIC, anything else: never ours, always dropped."""


def is_media(data: bytes) -> bool:
    """Whether a UDP payload looks like RTP or RTCP."""
    return bool(data) and 128 <= data[0] <= 191


def classify(data: bytes) -> Kind:
    """Return which protocol a UDP payload belongs to.

    RFC 7983 §7: first byte 0..3 STUN, 20..63 DTLS, 128..191 RTP or RTCP. RFC 5761 §4: of the
    latter, RTCP when the second byte is 192..223. Empty datagrams are unknown.
    """
    if not data:
        return Kind.UNKNOWN
    first = data[0]
    if 128 <= first <= 191:
        return Kind.RTCP if len(data) > 1 and 192 <= data[1] <= 223 else Kind.RTP
    if first <= 3:
        return Kind.STUN
    if 20 <= first <= 63:
        return Kind.DTLS
    return Kind.UNKNOWN
