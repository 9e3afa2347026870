"""The one OpenSSL context factory.

A context must not change once a connection has used it, and building one is dear: make one
``DtlsContexts`` per process and identity, and share it among all sessions.
"""

from attrs import field, frozen
from OpenSSL import SSL

from edge.dtls.certificate import Identity
from edge.dtls.keying import Role
from edge.srtp.profile import PREFERENCE, SrtpProfile

# AEAD with forward secrecy only (RFC 8827 §6.5), our order. The RSA suites are for peers whose
# certificate is RSA, such as GStreamer's, when we are the client.
_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
)

# OpenSSL's own list also has X448, P-384 and P-521, which a peer could pick to make us work.
_GROUPS = b"X25519:P-256"

_OPTIONS = (
    SSL.OP_NO_QUERY_MTU  # without it OpenSSL forgets the MTU we set and cuts records of 256 bytes
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_TICKET
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | SSL.OP_NO_COMPRESSION
)


@frozen
class DtlsContexts:
    """The client's and the server's context for one identity. DTLS 1.2 only: it is what there is.

    The peer must present a certificate; which one is not judged here but by fingerprint, once the
    handshake is done.
    """

    identity: Identity
    profiles: tuple[SrtpProfile, ...] = PREFERENCE
    """What use_srtp offers and accepts, best first."""
    client: SSL.Context = field(init=False, repr=False)
    server: SSL.Context = field(init=False, repr=False)

    @client.default
    def _build_client(self) -> SSL.Context:
        return _build(SSL.DTLS_CLIENT_METHOD, self.identity, self.profiles)

    @server.default
    def _build_server(self) -> SSL.Context:
        return _build(SSL.DTLS_SERVER_METHOD, self.identity, self.profiles)

    def of(self, role: Role) -> SSL.Context:
        """Return the context for connections in that role."""
        return self.client if role is Role.CLIENT else self.server


def _build(method: int, identity: Identity, profiles: tuple[SrtpProfile, ...]) -> SSL.Context:
    context = SSL.Context(method)
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # a fifth less memory per server connection
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_CIPHERS)
    _set_groups(context)
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.key)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept_any_chain)
    context.set_tlsext_use_srtp(b":".join(profile.value.encode() for profile in profiles))
    return context


def _accept_any_chain(*_: object) -> bool:
    return True


def _set_groups(context: SSL.Context) -> None:
    # pyOpenSSL's set_tmp_ecdh knows one curve only and not X25519; the function behind it does.
    accepted = SSL._lib.SSL_CTX_set1_curves_list(context._context, _GROUPS)  # type: ignore[attr-defined]  # noqa: SLF001
    assert accepted == 1
