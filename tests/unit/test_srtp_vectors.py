"""Known packets of both profiles, and a second implementation of key derivation to compare with.

RFC 3711 B.3 and RFC 7714 §16 give session keys, which libsrtp does not take. They check the
test's own derivation and encryption below, and those check SrtpSession.
"""

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.srtp.profile import SrtpKeying, SrtpProfile
from edge.srtp.session import SrtpSession

# Packets: libsrtp's own test program, test/srtp_driver.c, srtp_validate() and srtp_validate_gcm().
RTP = bytes.fromhex("800f1234decafbadcafebabe") + b"\xab" * 16
RTCP = bytes.fromhex("81c8000bcafebabe") + b"\xab" * 16

CM_KEY = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6")
CM_SRTP = bytes.fromhex(
    "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"
)
CM_SRTCP = bytes.fromhex(
    "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798"
)

GCM_KEY = bytes(range(16)) + bytes(range(0xA0, 0xAC))
GCM_SRTP = bytes.fromhex(
    "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392"
)
GCM_SRTCP = bytes.fromhex(
    "81c8000bcafebabec98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e80000001"
)

CASES = [
    (SrtpProfile.AES128_CM_HMAC_SHA1_80, CM_KEY, CM_SRTP, CM_SRTCP),
    (SrtpProfile.AEAD_AES_128_GCM, GCM_KEY, GCM_SRTP, GCM_SRTCP),
]


@pytest.mark.parametrize(("profile", "key", "srtp", "srtcp"), CASES)
def test_protect_yields_the_known_packets(
    profile: SrtpProfile, key: bytes, srtp: bytes, srtcp: bytes
) -> None:
    session = SrtpSession(SrtpKeying(profile, local=key, remote=bytes(len(key))))
    assert session.protect_rtp(RTP) == srtp
    assert session.protect_rtcp(RTCP) == srtcp


@pytest.mark.parametrize(("profile", "key", "srtp", "srtcp"), CASES)
def test_unprotect_reads_the_known_packets(
    profile: SrtpProfile, key: bytes, srtp: bytes, srtcp: bytes
) -> None:
    session = SrtpSession(SrtpKeying(profile, local=bytes(len(key)), remote=key))
    assert session.unprotect_rtp(srtp) == RTP
    assert session.unprotect_rtcp(srtcp) == RTCP


def derive(master_key: bytes, master_salt: bytes, label: int, length: int) -> bytes:
    """RFC 3711 §4.3 with a key derivation rate of 0. A 12-byte salt is padded (RFC 7714 §11)."""
    salt = int.from_bytes(master_salt.ljust(14, b"\x00"))
    counter = ((salt ^ (label << 48)) << 16).to_bytes(16)
    return Cipher(algorithms.AES(master_key), modes.CTR(counter)).encryptor().update(bytes(length))


def test_derivation_reference_agrees_with_rfc_3711_b3() -> None:
    key, salt = CM_KEY[:16], CM_KEY[16:]  # the RFC's master key and salt, as it happens
    assert derive(key, salt, 0, 16).hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert derive(key, salt, 2, 14).hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    assert derive(key, salt, 1, 20).hex().upper() == "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"


def gcm_protect(session_key: bytes, session_salt: bytes, rtp: bytes, roc: int) -> bytes:
    """RFC 7714 §8 and §9.1 for a packet with a 12-byte header."""
    nonce = bytes(2) + rtp[8:12] + roc.to_bytes(4) + rtp[2:4]
    iv = bytes(a ^ b for a, b in zip(nonce, session_salt, strict=True))
    return rtp[:12] + AESGCM(session_key).encrypt(iv, rtp[12:], rtp[:12])


def test_gcm_reference_agrees_with_rfc_7714_section_16_1_1() -> None:
    packet = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
    assert gcm_protect(bytes(range(16)), b"Quid pro quo", packet, 0).hex() == (
        "8040f17b8041f8d35501a0b2"
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
        "899d7f27beb16a9152cf765ee4390cce"
    )


def test_gcm_session_agrees_with_the_reference_across_a_rollover() -> None:
    key, salt = GCM_KEY[:16], GCM_KEY[16:]
    session_key, session_salt = derive(key, salt, 0, 16), derive(key, salt, 2, 12)
    session = SrtpSession(SrtpKeying(SrtpProfile.AEAD_AES_128_GCM, local=GCM_KEY, remote=bytes(28)))
    for roc, sequence in ((0, 65534), (0, 65535), (1, 0), (1, 1)):
        rtp = b"\x80\x6f" + sequence.to_bytes(2) + bytes(4) + b"ssrc" + b"payload"
        assert session.protect_rtp(rtp) == gcm_protect(session_key, session_salt, rtp, roc)


def test_cm_session_agrees_with_a_reference_tag() -> None:
    # RFC 3711 §4.2: HMAC-SHA1 over packet || ROC, cut to 80 bits.
    key, salt = CM_KEY[:16], CM_KEY[16:]
    body = CM_SRTP[:-10]
    tag = hmac.digest(derive(key, salt, 1, 20), body + bytes(4), "sha1")[:10]
    assert tag == CM_SRTP[-10:]
