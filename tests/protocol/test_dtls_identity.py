"""Who the peer is: fingerprints in both roles, SRTP profiles, kinds of certificates."""

import os
import time
from contextlib import suppress

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from edge.dtls.certificate import Fingerprint, Identity
from edge.dtls.context import DtlsContexts
from edge.dtls.transport import (
    DtlsTransport,
    FailureReason,
    HandshakeCompleted,
    HandshakeFailed,
    Role,
)
from edge.machine import Address
from edge.srtp.profile import SrtpProfile
from tests.protocol.test_dtls_handshake import (
    CLIENT,
    CLIENT_ADDRESS,
    SERVER,
    SERVER_ADDRESS,
    both_told,
    dtls_link,
    keys,
)

STRANGER = Fingerprint.compute(b"somebody else")


def rsa_identity() -> Identity:
    """Make a certificate like GStreamer's: RSA 2048."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    template = Identity.create(os.urandom, time.time()).certificate
    certificate = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.issuer)
        .public_key(key.public_key())
        .serial_number(template.serial_number)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    return Identity(key, certificate)


def test_client_refuses_another_certificate() -> None:
    link = dtls_link(client_expects=STRANGER)
    assert link.run(lambda: both_told(link), deadline=20.0)
    assert link.left.events == [HandshakeFailed(FailureReason.FINGERPRINT_MISMATCH)]
    assert link.left.machine.next_timeout() is None


def test_server_refuses_another_certificate() -> None:
    link = dtls_link(server_expects=STRANGER)
    assert link.run(lambda: bool(link.right.events), deadline=20.0)
    assert link.right.events == [HandshakeFailed(FailureReason.FINGERPRINT_MISMATCH)]
    assert link.right.machine.next_timeout() is None


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-384", "sha-512"])
def test_one_match_among_several_fingerprints_is_enough(algorithm: str) -> None:
    transport = DtlsTransport(
        Role.CLIENT, CLIENT, [STRANGER, Fingerprint.compute(SERVER.identity.der, algorithm)]
    )
    link = dtls_link()
    link.left.machine = transport
    transport.start(SERVER_ADDRESS, link.now)
    assert link.run(lambda: both_told(link), deadline=1.0)
    keys(link)


def test_right_digest_under_another_algorithm_is_a_mismatch() -> None:
    confused = evolve(SERVER.identity.fingerprint(), algorithm="sha-512")
    link = dtls_link(client_expects=confused)
    assert link.run(lambda: bool(link.left.events), deadline=1.0)
    assert link.left.events == [HandshakeFailed(FailureReason.FINGERPRINT_MISMATCH)]


@pytest.mark.parametrize("profile", list(SrtpProfile))
def test_no_common_srtp_profile_fails_in_both_roles(profile: SrtpProfile) -> None:
    (other,) = set(SrtpProfile) - {profile}
    link = dtls_link(
        client=DtlsContexts(CLIENT.identity, (profile,)),
        server=DtlsContexts(SERVER.identity, (other,)),
    )
    assert link.run(lambda: both_told(link), deadline=1.0)
    assert link.left.events == link.right.events == [HandshakeFailed(FailureReason.NO_SRTP_PROFILE)]


@pytest.mark.parametrize("role", list(Role))
def test_rsa_certificate_is_fine_in_both_roles(role: Role) -> None:
    contexts = DtlsContexts(rsa_identity())
    link = dtls_link(client=contexts) if role is Role.CLIENT else dtls_link(server=contexts)
    assert link.run(lambda: both_told(link), deadline=1.0)
    keys(link)


class Stranger:
    """A bare OpenSSL peer on a context of the test's own, run to completion against ours."""

    def __init__(self, transport: DtlsTransport, context: SSL.Context) -> None:
        self.transport = transport
        self.connection = SSL.Connection(context, None)
        self.connection.set_ciphertext_mtu(1200)

    def meet(self) -> object:
        """Exchange datagrams until both are silent; return our transport's one event."""
        if self.transport.role is Role.SERVER:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        self.transport.start(CLIENT_ADDRESS, 0.0)
        for _ in range(10):
            while (transmit := self.transport.next_datagram()) is not None:
                self.connection.bio_write(transmit.data)
            with suppress(SSL.Error):
                self.connection.do_handshake()
            try:
                flight = self.connection.bio_read(65536)
            except SSL.WantReadError:
                continue
            self.transport.receive_datagram(flight, CLIENT_ADDRESS, 0.0)
        return self.transport.next_event()


def bare_context(method: int, identity: Identity | None, ciphers: bytes) -> SSL.Context:
    context = SSL.Context(method)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.set_cipher_list(ciphers)
    context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_80")
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
    return context


def server_transport() -> DtlsTransport:
    return DtlsTransport(Role.SERVER, SERVER, [CLIENT.identity.fingerprint()])


def test_bare_openssl_client_connects() -> None:
    context = bare_context(SSL.DTLS_CLIENT_METHOD, CLIENT.identity, b"DEFAULT")
    event = Stranger(server_transport(), context).meet()
    assert isinstance(event, HandshakeCompleted)
    assert event.keying.profile is SrtpProfile.AES128_CM_HMAC_SHA1_80


def test_client_without_a_certificate_is_refused() -> None:
    context = bare_context(SSL.DTLS_CLIENT_METHOD, None, b"DEFAULT")
    event = Stranger(server_transport(), context).meet()
    assert event == HandshakeFailed(FailureReason.PROTOCOL_ERROR)


def test_client_without_a_common_suite_is_refused() -> None:
    context = bare_context(SSL.DTLS_CLIENT_METHOD, CLIENT.identity, b"AES128-SHA")
    event = Stranger(server_transport(), context).meet()
    assert event == HandshakeFailed(FailureReason.PROTOCOL_ERROR)


def test_server_that_asks_for_no_srtp_is_refused() -> None:
    context = SSL.Context(SSL.DTLS_SERVER_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.use_certificate(SERVER.identity.certificate)
    context.use_privatekey(SERVER.identity.key)
    transport = DtlsTransport(Role.CLIENT, CLIENT, [SERVER.identity.fingerprint()])
    event = Stranger(transport, context).meet()
    assert event == HandshakeFailed(FailureReason.NO_SRTP_PROFILE)


def test_source_address_does_not_matter_to_the_transport() -> None:
    link = dtls_link()
    link.run(lambda: link.counts["delivered"] == 1, deadline=1.0)
    link.left.address = Address("203.0.113.9", 9)
    assert isinstance(link.right.machine, DtlsTransport)
    link.right.machine.destination = link.left.address
    assert link.run(lambda: both_told(link), deadline=2.0)
