"""SRTP protection profiles that we negotiate, and the keys of one association.

Vocabulary of the packages dtls (which negotiates) and srtp (which protects); no library here.
"""

from enum import Enum

from attrs import field, frozen


class SrtpProfile(Enum):
    """A DTLS-SRTP protection profile (RFC 5764 §4.1.2, RFC 7714 §14.2), by its OpenSSL name."""

    AEAD_AES_128_GCM = "SRTP_AEAD_AES_128_GCM"
    """What browsers agree on. 16-byte key, 12-byte salt, 16-byte tag."""
    AES128_CM_HMAC_SHA1_80 = "SRTP_AES128_CM_SHA1_80"
    """Mandatory (RFC 8827 §6.5); all that GStreamer has. 16-byte key, 14-byte salt, 10-byte tag."""

    @property
    def key_bytes(self) -> int:
        """Length of the master key."""
        return 16

    @property
    def salt_bytes(self) -> int:
        """Length of the master salt (RFC 3711 §8.2, RFC 7714 §12)."""
        return 12 if self is SrtpProfile.AEAD_AES_128_GCM else 14


PREFERENCE = (SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_HMAC_SHA1_80)
"""What we offer and accept, best first."""


@frozen
class SrtpKeying:
    """The master keys of one association; each is key || salt, as long as the profile says."""

    profile: SrtpProfile
    local: bytes = field(repr=False)
    """Protects what we send."""
    remote: bytes = field(repr=False)
    """Protects what the peer sends."""
