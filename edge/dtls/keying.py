"""From the DTLS exporter's output to SRTP master keys (RFC 5764 §4.2)."""

from enum import Enum

from edge.srtp.profile import SrtpKeying, SrtpProfile

EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"


class Role(Enum):
    """Which side of the DTLS handshake we are; SDP's ``setup`` decides (RFC 8842 §5)."""

    CLIENT = "client"
    """``a=setup:active``: we send the ClientHello."""
    SERVER = "server"
    """``a=setup:passive``: we wait for it."""


def exporter_bytes(profile: SrtpProfile) -> int:
    """Return how much to export: a key and a salt for each side."""
    return 2 * (profile.key_bytes + profile.salt_bytes)


def split_material(profile: SrtpProfile, role: Role, material: bytes) -> SrtpKeying:
    """Cut ``exporter_bytes(profile)`` bytes of exporter output into the two sides' keys.

    | length      | content             |
    | ----------- | ------------------- |
    | key_bytes   | client's master key |
    | key_bytes   | server's master key |
    | salt_bytes  | client's salt       |
    | salt_bytes  | server's salt       |
    """
    assert len(material) == exporter_bytes(profile)
    key, salt = profile.key_bytes, profile.salt_bytes
    salts = material[2 * key :]
    client = material[:key] + salts[:salt]
    server = material[key : 2 * key] + salts[salt:]
    if role is Role.CLIENT:
        return SrtpKeying(profile, local=client, remote=server)
    return SrtpKeying(profile, local=server, remote=client)
