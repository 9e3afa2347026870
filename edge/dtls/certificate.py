"""The process's self-signed certificate, and certificate fingerprints as SDP carries them.

In WebRTC nobody checks a chain of trust: each side's SDP names the fingerprint of the certificate
that the other must then present (RFC 8122, RFC 8827 §6.5).
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Self

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edge.errors import DtlsError
from edge.machine import Entropy

# No sha-1 (nor md5), although RFC 8122 §5 still lists it: a collision lets whoever can shape a
# certificate present one that the SDP never meant, and every client sends sha-256.
_DIGEST_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}

_BACKDATED = timedelta(days=1)  # clients whose clocks are behind
_LIFETIME = timedelta(days=30)


@frozen
class Fingerprint:
    """A hash of a certificate's DER bytes (RFC 8122 §5)."""

    algorithm: str
    """sha-256, sha-384 or sha-512."""
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of an ``a=fingerprint`` line: ``sha-256 4A:AD:…``, letters in either case.

        Raises DtlsError: fingerprint-algorithm, fingerprint-syntax.
        """
        algorithm, _, digits = text.strip().partition(" ")
        algorithm = algorithm.lower()
        if algorithm not in _DIGEST_BYTES:
            raise DtlsError("fingerprint-algorithm")
        pairs = digits.strip().split(":")
        if len(pairs) != _DIGEST_BYTES[algorithm] or any(len(pair) != 2 for pair in pairs):
            raise DtlsError("fingerprint-syntax")
        try:
            digest = bytes.fromhex("".join(pairs))
        except ValueError as exc:
            raise DtlsError("fingerprint-syntax") from exc
        if len(digest) != len(pairs):  # fromhex skips white space
            raise DtlsError("fingerprint-syntax")
        return cls(algorithm, digest)

    @classmethod
    def compute(cls, der: bytes, algorithm: str = "sha-256") -> Self:
        """Hash a certificate in DER form."""
        return cls(algorithm, _hash(algorithm, der))

    def matches(self, der: bytes) -> bool:
        """Tell whether this is the fingerprint of that certificate in DER form."""
        return _hash(self.algorithm, der) == self.digest

    def __str__(self) -> str:
        """The value for SDP; Firefox rejects lower-case digits."""
        return f"{self.algorithm} {self.digest.hex(':').upper()}"


def _hash(algorithm: str, der: bytes) -> bytes:
    return hashlib.new(algorithm.replace("-", ""), der).digest()


@frozen
class Identity:
    """A private key and the certificate that names its public half."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, entropy: Entropy, now: float) -> Self:
        """Make a P-256 key (RFC 8827 §6.5) and a certificate valid from a day ago for 31 days.

        ``now`` is in unix seconds. The name in it is random: one process's sessions are not to be
        linked with the next one's.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, entropy(8).hex())])
        at = datetime.fromtimestamp(now, UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(int.from_bytes(entropy(16)) >> 1 | 1)  # positive (RFC 5280 §4.1.2.2)
            .not_valid_before(at - _BACKDATED)
            .not_valid_after(at + _LIFETIME)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @property
    def der(self) -> bytes:
        """The certificate in DER form."""
        return self.certificate.public_bytes(Encoding.DER)

    def fingerprint(self) -> Fingerprint:
        """The sha-256 fingerprint, as our SDP states it."""
        return Fingerprint.compute(self.der)
