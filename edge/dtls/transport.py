"""The DTLS handshake and association of one peer, over OpenSSL's memory BIO (RFC 6347, RFC 5764).

Theory. OpenSSL runs the handshake; this machine feeds it one filtered datagram at a time, cuts what
it writes into datagrams, and adds what OpenSSL lacks for a quick start over a lossy path:

- OpenSSL repeats a flight after 1 s, doubling, and cannot be told otherwise. So the last flight is
  kept and sent again byte for byte after 0.1 s, doubling up to 0.8 s, at most 20 times. The peer's
  replay window drops the records it already has, so this is harmless, and fills the holes if not.
- The server's last flight ends the handshake for the server only. It is repeated a few times
  unasked, and whenever the peer repeats its own: OpenSSL drops a byte-for-byte repetition unseen.

OpenSSL's own timer runs beside it, on OpenSSL's own clock. Its repetitions carry new sequence
numbers and so repair what ours cannot: a ChangeCipherSpec that overtakes its flight is dropped by
an OpenSSL peer, and its sequence number is used up.

The peer is who the SDP says: the fingerprint is compared as soon as the handshake is done, in both
roles, before keys are exported (RFC 5763 §5, RFC 8842). SRTP keys leave in ``HandshakeCompleted``.
Nothing is sent over the association itself; application data is read, counted and dropped.

The source of a datagram is not looked at: the owner passes in only what comes from an address that
ICE has validated, and points ``destination`` to where ICE says.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum

from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from edge.dtls.certificate import Fingerprint
from edge.dtls.context import DtlsContexts
from edge.dtls.keying import EXPORTER_LABEL, Role, exporter_bytes, split_material
from edge.dtls.records import admit, cut_flight
from edge.errors import LocalProtocolError
from edge.machine import Address, Machine
from edge.srtp.profile import SrtpKeying, SrtpProfile

__all__ = [
    "DtlsEvent",
    "DtlsTransport",
    "FailureReason",
    "HandshakeCompleted",
    "HandshakeFailed",
    "PeerClosed",
    "Role",
]

HANDSHAKE_TIMEOUT = 15.0
MTU_BYTES = 1200
"""UDP payload that any path carries (RFC 8261 §5 uses the same)."""

RESEND_FIRST = 0.1
RESEND_LONGEST = 0.8
RESENDS_MAX = 20
FINAL_RESENDS_MAX = 3
"""Unasked repetitions of the flight that completes the handshake."""
ANSWER_INTERVAL = 0.05
"""Least time between two answers to a peer that repeats its last flight."""

_BIO_READ_BYTES = 65536
_RECORD_BYTES = 16384


class FailureReason(Enum):
    TIMEOUT = "timeout"
    ALERT_RECEIVED = "alert-received"
    """Timeout after a plaintext fatal alert, which by itself might have been forged."""
    PROTOCOL_ERROR = "protocol-error"
    """OpenSSL gave up: no common suite, no certificate, a bad signature, an encrypted alert…"""
    FINGERPRINT_MISMATCH = "fingerprint-mismatch"
    NO_SRTP_PROFILE = "no-srtp-profile"


@frozen
class HandshakeCompleted:
    """The peer is who the SDP says; media may flow."""

    keying: SrtpKeying


@frozen
class HandshakeFailed:
    """There will be no association. The machine is closed."""

    reason: FailureReason


@frozen
class PeerClosed:
    """The peer ended the association, by close_notify or a fatal alert. The machine is closed."""


DtlsEvent = HandshakeCompleted | HandshakeFailed | PeerClosed


class _State(Enum):
    NEW = "new"
    HANDSHAKING = "handshaking"
    ESTABLISHED = "established"
    CLOSED = "closed"


_NEXT_STATES: Mapping[_State, frozenset[_State]] = {
    _State.NEW: frozenset((_State.HANDSHAKING, _State.CLOSED)),
    _State.HANDSHAKING: frozenset((_State.ESTABLISHED, _State.CLOSED)),
    _State.ESTABLISHED: frozenset((_State.CLOSED,)),
    _State.CLOSED: frozenset(),
}


class DtlsTransport(Machine[DtlsEvent]):
    """One peer's DTLS association.

    ``fingerprints``: those of the peer's SDP; its certificate must match one of them.
    ``handshake_timeout``: seconds from ``start`` to HandshakeFailed.
    """

    def __init__(
        self,
        role: Role,
        contexts: DtlsContexts,
        fingerprints: Sequence[Fingerprint],
        *,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
    ) -> None:
        super().__init__()
        if not fingerprints:
            raise LocalProtocolError("a peer without fingerprints cannot be authenticated")
        self.role = role
        self.destination: Address | None = None
        """Where datagrams go; the owner moves it when ICE selects another address."""
        self._context = contexts.of(role)
        self._fingerprints = tuple(fingerprints)
        self._handshake_timeout = handshake_timeout
        self._state = _State.NEW
        self._connection: SSL.Connection | None = None  # there is one while not NEW or CLOSED
        self._alerted = False
        self._gives_up_at: float | None = None
        self._openssl_at: float | None = None
        self._flight: list[bytes] = []  # the last one we sent, while it may have to be repeated
        self._resend_at: float | None = None
        self._resend_delay = RESEND_FIRST
        self._resends_left = 0
        self._answers_from = 0.0

    @property
    def established(self) -> bool:
        return self._state is _State.ESTABLISHED

    def start(self, destination: Address, now: float) -> None:
        """Begin: the client sends its ClientHello, the server waits for one.

        Raises LocalProtocolError when called twice. Ignored after ``close``.
        """
        if self._state is _State.CLOSED:
            return
        if self._state is not _State.NEW:
            raise LocalProtocolError("DTLS was already started")
        self.destination = destination
        connection = SSL.Connection(self._context, None)
        connection.set_ciphertext_mtu(MTU_BYTES)
        if self.role is Role.CLIENT:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        self._connection = connection
        self._enter(_State.HANDSHAKING)
        self._gives_up_at = now + self._handshake_timeout
        self._shake_hands(connection, now)

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:  # noqa: ARG002 - see the module's theory
        """Take one datagram of the association."""
        connection = self._connection
        if connection is None:
            if self._state is _State.NEW:
                self.drops["not-started"] += 1
            return
        admitted = admit(data, self.role)
        self.drops.update(admitted.dropped)
        self._alerted = self._alerted or admitted.fatal_alert
        if not admitted.data:
            return
        connection.bio_write(admitted.data)
        if self._state is _State.HANDSHAKING:
            self._shake_hands(connection, now)
            return
        answered = self._read(connection)
        if admitted.handshaking and not answered:
            self._answer_repetition(now)

    def handle_timeout(self, now: float) -> None:
        """Repeat a flight or give up, if it is time."""
        connection = self._connection
        if connection is None:
            return
        if self._gives_up_at is not None and now >= self._gives_up_at:
            reason = FailureReason.ALERT_RECEIVED if self._alerted else FailureReason.TIMEOUT
            self._fail(connection, reason)
            return
        if self._openssl_at is not None and now >= self._openssl_at:
            self._run_openssl_timer(connection, now)
        if self._resend_at is not None and now >= self._resend_at:
            self._resend(now)

    def next_timeout(self) -> float | None:
        times = (self._gives_up_at, self._openssl_at, self._resend_at)
        return min((time for time in times if time is not None), default=None)

    def close(self, now: float) -> None:  # noqa: ARG002 - the contract has it
        """End the association; tell the peer with a close_notify if there is one."""
        if self._connection is None:
            self._end()
        else:
            self._say_goodbye(self._connection)

    def _shake_hands(self, connection: SSL.Connection, now: float) -> None:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            self._send_flight(connection, now, resends=RESENDS_MAX)
            self._arm_openssl_timer(connection, now)
        except SSL.Error:
            self._fail(connection, FailureReason.PROTOCOL_ERROR)
        else:
            self._complete(connection, now)

    def _complete(self, connection: SSL.Connection, now: float) -> None:
        """Judge the peer and hand out the keys."""
        if not self._is_expected(connection):
            self._fail(connection, FailureReason.FINGERPRINT_MISMATCH)
            return
        # Without a common profile OpenSSL completes the handshake all the same.
        name = connection.get_selected_srtp_profile()
        if not name:
            self._fail(connection, FailureReason.NO_SRTP_PROFILE)
            return
        profile = SrtpProfile(name.decode())
        try:
            material = connection.export_keying_material(EXPORTER_LABEL, exporter_bytes(profile))
        except SSL.Error:
            self._fail(connection, FailureReason.PROTOCOL_ERROR)
            return
        self._enter(_State.ESTABLISHED)
        self._gives_up_at = self._openssl_at = None
        self._forget_flight()
        self._send_flight(connection, now, resends=FINAL_RESENDS_MAX)
        self._emit(HandshakeCompleted(split_material(profile, self.role, material)))
        self._read(connection)  # records that came behind the last flight, in the same datagram

    def _is_expected(self, connection: SSL.Connection) -> bool:
        try:
            certificate = connection.get_peer_certificate(as_cryptography=True)
        except ValueError:  # OpenSSL reads certificates that cryptography does not
            return False
        if certificate is None:
            return False
        der = certificate.public_bytes(Encoding.DER)
        return any(fingerprint.matches(der) for fingerprint in self._fingerprints)

    def _read(self, connection: SSL.Connection) -> bool:
        """Let OpenSSL take in what it was given; return whether that made it send anything."""
        while True:
            try:
                connection.recv(_RECORD_BYTES)
            except SSL.WantReadError:
                return self._flush(connection) > 0
            except SSL.Error:  # close_notify (ZeroReturnError) or an authenticated fatal alert
                self._say_goodbye(connection)
                self._emit(PeerClosed())
                return True
            self.drops["application-data"] += 1

    def _fail(self, connection: SSL.Connection, reason: FailureReason) -> None:
        self._say_goodbye(connection)
        self._emit(HandshakeFailed(reason))

    def _say_goodbye(self, connection: SSL.Connection) -> None:
        with suppress(SSL.Error):  # it cannot be said before the handshake is done
            connection.shutdown()
        self._flush(connection)  # with the alert that OpenSSL may have written
        self._end()

    def _end(self) -> None:
        if self._state is not _State.CLOSED:
            self._enter(_State.CLOSED)
        self._connection = None
        self._gives_up_at = self._openssl_at = None
        self._forget_flight()

    def _enter(self, state: _State) -> None:
        assert state in _NEXT_STATES[self._state]
        self._state = state

    # Flights

    def _send_flight(self, connection: SSL.Connection, now: float, *, resends: int) -> None:
        """Send what OpenSSL wrote, if anything, and keep it for repetition."""
        flight = cut_flight(_drain(connection), MTU_BYTES)
        if not flight:
            return
        self._flight, self._resends_left = flight, resends
        self._resend_delay, self._resend_at = RESEND_FIRST, now + RESEND_FIRST
        self._send(flight)

    def _resend(self, now: float) -> None:
        self._send(self._flight)
        self._resends_left -= 1
        self._resend_delay = min(2 * self._resend_delay, RESEND_LONGEST)
        self._resend_at = now + self._resend_delay if self._resends_left else None

    def _forget_flight(self) -> None:
        self._flight, self._resend_at = [], None

    def _answer_repetition(self, now: float) -> None:
        """The peer still repeats its last flight, so it has not got ours."""
        if now >= self._answers_from:
            self._answers_from = now + ANSWER_INTERVAL
            self._send(self._flight)

    def _run_openssl_timer(self, connection: SSL.Connection, now: float) -> None:
        try:
            connection.DTLSv1_handle_timeout()
        except SSL.Error:  # after a dozen repetitions
            self._fail(connection, FailureReason.TIMEOUT)
            return
        repetition = cut_flight(_drain(connection), MTU_BYTES)
        if repetition:  # the same messages in new records; the back-off goes on
            self._flight = repetition
            self._send(repetition)
        self._arm_openssl_timer(connection, now)

    def _arm_openssl_timer(self, connection: SSL.Connection, now: float) -> None:
        remaining = connection.DTLSv1_get_timeout()
        # OpenSSL calls 15 ms or less "now"; a moment later is soon enough, and never is not.
        self._openssl_at = None if remaining is None else now + max(remaining, 0.01)

    def _flush(self, connection: SSL.Connection) -> int:
        """Send what OpenSSL wrote; return how many datagrams it made."""
        datagrams = cut_flight(_drain(connection), MTU_BYTES)
        self._send(datagrams)
        return len(datagrams)

    def _send(self, datagrams: Sequence[bytes]) -> None:
        assert self.destination is not None  # there is one since ``start``
        for datagram in datagrams:
            self._transmit(datagram, self.destination)


def _drain(connection: SSL.Connection) -> bytes:
    """Return all that OpenSSL wrote since the last time."""
    return b"".join(_chunks(connection))


def _chunks(connection: SSL.Connection) -> Iterator[bytes]:
    while True:
        try:
            yield connection.bio_read(_BIO_READ_BYTES)
        except SSL.WantReadError:
            return
