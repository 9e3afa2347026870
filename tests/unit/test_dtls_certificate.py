import hashlib
import os
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.dtls.certificate import Fingerprint, Identity
from edge.errors import DtlsError

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

# SHA-256 of b"abc": FIPS 180-2, appendix B.1.
ABC = (
    "sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:"
    "B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD"
)


def test_fingerprint_text_is_upper_case_hex() -> None:
    assert str(Fingerprint.compute(b"abc")) == ABC


@pytest.mark.parametrize("text", [ABC, ABC.lower(), ABC.upper(), f"  {ABC} "])
def test_fingerprint_is_read_in_either_case(text: str) -> None:
    assert Fingerprint.parse(text) == Fingerprint.compute(b"abc")


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-384", "sha-512"])
def test_fingerprint_matches_its_certificate_only(algorithm: str) -> None:
    fingerprint = Fingerprint.compute(b"abc", algorithm)
    assert fingerprint.digest == hashlib.new(algorithm.replace("-", ""), b"abc").digest()
    assert fingerprint.matches(b"abc")
    assert not fingerprint.matches(b"abd")
    assert Fingerprint.parse(str(fingerprint)) == fingerprint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # RFC 8122 §5 gives this sha-1 example.
        (
            "sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB",
            "fingerprint-algorithm",
        ),
        ("md5 00:11", "fingerprint-algorithm"),
        ("", "fingerprint-algorithm"),
        ("sha-256", "fingerprint-syntax"),
        (ABC[:-3], "fingerprint-syntax"),
        (ABC + ":00", "fingerprint-syntax"),
        (ABC.replace(":", ""), "fingerprint-syntax"),
        (ABC.replace("BA", "GA"), "fingerprint-syntax"),
        (ABC.replace("BA:", "  :"), "fingerprint-syntax"),
        (ABC.replace("BA:78", "B:A78"), "fingerprint-syntax"),
    ],
)
def test_other_fingerprints_are_refused(text: str, reason: str) -> None:
    with pytest.raises(DtlsError) as caught:
        Fingerprint.parse(text)
    assert caught.value.reason == reason


def test_identity_is_a_self_signed_p256_certificate() -> None:
    identity = Identity.create(os.urandom, NOW.timestamp())
    certificate = identity.certificate
    certificate.verify_directly_issued_by(certificate)
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)
    assert public == identity.key.public_key()
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)
    assert identity.fingerprint().digest == certificate.fingerprint(hashes.SHA256())


@pytest.mark.parametrize("octet", [b"\x00", b"\xff"])
def test_serial_number_is_positive_whatever_the_entropy(octet: bytes) -> None:
    serial = Identity.create(lambda n: octet * n, NOW.timestamp()).certificate.serial_number
    assert 0 < serial < 2**127


def test_name_and_serial_number_come_from_the_entropy() -> None:
    one = Identity.create(lambda n: b"\x42" * n, NOW.timestamp()).certificate
    two = Identity.create(lambda n: b"\x43" * n, NOW.timestamp()).certificate
    assert one.subject != two.subject
    assert one.serial_number != two.serial_number
    (name,) = one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "42" * 8
