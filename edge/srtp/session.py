"""SRTP and SRTCP of one peer (RFC 3711, RFC 7714): bytes in, bytes or SrtpError out.

The only module that imports pylibsrtp. Functions of bytes, no events: this is the per-packet media
path. Replay window 1,024 packets. Packets that fail authentication change nothing, not even the
list of SSRCs seen.
"""

import pylibsrtp

from edge.errors import SrtpError
from edge.srtp.profile import SrtpKeying, SrtpProfile

REPLAY_WINDOW_PACKETS = 1024
INBOUND_SSRCS_MAX = 8
"""Per peer: libsrtp keeps a stream per SSRC for ever and looks it up in a list."""
UNPROTECT_MAX_BYTES = 1500
"""The length of pylibsrtp's buffer."""
PROTECT_MAX_BYTES = 1356
"""The same, less 144 for tag and MKI."""
PROTECT_RTCP_MAX_BYTES = 1352
"""The same, less 148 for index, tag and MKI."""

_PROFILE_IDS = {
    SrtpProfile.AEAD_AES_128_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AES128_CM_HMAC_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}

# pylibsrtp's Error carries libsrtp's sentence and nothing else. Any other sentence, such as
# "unsupported parameter" for a short packet, means that the packet cannot be read.
_REASONS = {
    "authentication failure": "authentication",
    "replay check failed (bad index)": "replay",
    "replay check failed (index too old)": "too-old",
    "packet index is too old to consider": "too-old",
    "can't use key any more": "key-exhausted",
}


class SrtpSession:
    """Protects what goes to one peer and unprotects what comes from it.

    All four methods raise SrtpError with a reason: authentication, replay, too-old, malformed,
    too-short, too-long, key-exhausted (RFC 3711 §9.2) or ssrc-limit. A stream joined after its
    sequence number has wrapped fails authentication, as the rollover counter cannot be known.
    """

    def __init__(self, keying: SrtpKeying, *, ssrcs_max: int = INBOUND_SSRCS_MAX) -> None:
        self._inbound = _library_session(
            keying.profile, keying.remote, pylibsrtp.Policy.SSRC_ANY_INBOUND
        )
        self._outbound = _library_session(
            keying.profile, keying.local, pylibsrtp.Policy.SSRC_ANY_OUTBOUND
        )
        self._ssrcs_max = ssrcs_max
        self._ssrcs: set[bytes] = set()  # authenticated senders, of RTP and RTCP together

    def unprotect_rtp(self, packet: bytes) -> bytes:
        """Return the RTP packet inside an SRTP packet of at most 1,500 bytes."""
        if len(packet) < 12:
            raise SrtpError("too-short")
        if len(packet) > UNPROTECT_MAX_BYTES:
            raise SrtpError("too-long")
        ssrc = packet[8:12]
        known = ssrc in self._ssrcs
        if not known and len(self._ssrcs) >= self._ssrcs_max:
            raise SrtpError("ssrc-limit")
        try:
            plain: bytes = self._inbound.unprotect(packet)
        except pylibsrtp.Error as exc:
            raise _translate(exc) from exc
        if not known:
            self._ssrcs.add(ssrc)
        return plain

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Return the RTCP packet inside an SRTCP packet of at most 1,500 bytes."""
        if len(packet) < 8:
            raise SrtpError("too-short")
        if len(packet) > UNPROTECT_MAX_BYTES:
            raise SrtpError("too-long")
        ssrc = packet[4:8]
        if ssrc not in self._ssrcs and len(self._ssrcs) >= self._ssrcs_max:
            raise SrtpError("ssrc-limit")
        try:
            plain: bytes = self._inbound.unprotect_rtcp(packet)
        except pylibsrtp.Error as exc:
            raise _translate(exc) from exc
        self._ssrcs.add(ssrc)
        return plain

    def protect_rtp(self, packet: bytes) -> bytes:
        """Return the SRTP packet for an RTP packet of at most 1,356 bytes.

        A sequence number must not be used twice: that is the reason ``replay`` here.
        """
        if len(packet) > PROTECT_MAX_BYTES:
            raise SrtpError("too-long")
        try:
            protected: bytes = self._outbound.protect(packet)
        except pylibsrtp.Error as exc:
            raise _translate(exc) from exc
        return protected

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Return the SRTCP packet for an RTCP packet of at most 1,352 bytes."""
        if len(packet) > PROTECT_RTCP_MAX_BYTES:
            raise SrtpError("too-long")
        try:
            protected: bytes = self._outbound.protect_rtcp(packet)
        except pylibsrtp.Error as exc:
            raise _translate(exc) from exc
        return protected


def _library_session(profile: SrtpProfile, key: bytes, ssrc_type: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=ssrc_type, srtp_profile=_PROFILE_IDS[profile])
    policy.window_size = REPLAY_WINDOW_PACKETS
    return pylibsrtp.Session(policy=policy)


def _translate(exc: pylibsrtp.Error) -> SrtpError:
    return SrtpError(_REASONS.get(str(exc), "malformed"), str(exc))
