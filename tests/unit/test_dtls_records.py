import struct

import pytest

from edge.dtls.keying import Role
from edge.dtls.records import Admitted, cut_flight
from edge.dtls.records import admit as admit_as


def admit(datagram: bytes) -> Admitted:
    """Filter as a server; what matters in each role has a test of its own."""
    return admit_as(datagram, Role.SERVER)


def record(
    content_type: int, body: bytes, *, epoch: int = 0, version: int = 0xFEFD, sequence: int = 0
) -> bytes:
    """Encode a DTLS record (RFC 6347 §4.1)."""
    head = struct.pack("!BHHHIH", content_type, version, epoch, 0, sequence, len(body))
    return head + body


def fragment(total: int, offset: int, body: bytes, *, length: int | None = None) -> bytes:
    """Encode a handshake fragment of type 11, certificate (RFC 6347 §4.2.2)."""
    stated = len(body) if length is None else length
    head = b"\x0b" + total.to_bytes(3) + bytes(2) + offset.to_bytes(3) + stated.to_bytes(3)
    return head + body


WHOLE = record(22, fragment(5, 0, b"hello"))
CCS = record(20, b"\x01")
SEALED = record(22, b"\xa5" * 40, epoch=1)


def test_flight_is_cut_at_record_boundaries_into_full_datagrams() -> None:
    records = [record(22, bytes(n), sequence=i) for i, n in enumerate((400, 500, 300, 200, 87))]
    datagrams = cut_flight(b"".join(records), 1200)
    assert datagrams == [records[0] + records[1], records[2] + records[3] + records[4]]


def test_flight_that_fits_exactly_is_one_datagram() -> None:
    flight = record(22, bytes(587)) * 2
    assert len(flight) == 1200
    assert cut_flight(flight, 1200) == [flight]
    assert cut_flight(flight, 1199) == [flight[:600], flight[600:]]


def test_record_above_the_mtu_goes_alone() -> None:
    small, large = record(22, bytes(50)), record(22, bytes(2000))
    assert cut_flight(small + large + small, 1200) == [small, large, small]


def test_nothing_makes_no_datagram() -> None:
    assert cut_flight(b"", 1200) == []


@pytest.mark.parametrize(
    "datagram",
    [
        WHOLE,
        WHOLE + CCS + SEALED,
        record(22, fragment(5, 0, b"hel") + fragment(5, 3, b"lo")),
        record(22, fragment(5, 3, b"lo")),
        record(22, fragment(0, 0, b"")),  # an empty message, such as ServerHelloDone
        record(22, fragment(5, 0, b"hello"), version=0xFEFF),
        record(21, b"\xa5" * 26, epoch=1),
        record(23, b"\xa5" * 26, epoch=1),
    ],
)
def test_sound_records_pass(datagram: bytes) -> None:
    admitted = admit(datagram)
    assert admitted.data == datagram
    assert admitted.dropped == ()
    assert not admitted.fatal_alert


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (record(23, b"data"), "plaintext-application-data"),
        (record(21, b"\x01\x00"), "plaintext-alert"),
        (record(20, b"\x02"), "record-malformed"),
        (record(20, b""), "record-malformed"),
        (record(20, b"\x01\x01"), "record-malformed"),
        (record(22, b""), "record-malformed"),
        (record(22, b"\x01"), "record-malformed"),
        (record(22, fragment(5, 0, b"hello", length=4)), "record-malformed"),
        (record(22, fragment(9, 0, b"hello", length=9)), "record-malformed"),
        (record(22, fragment(5, 1, b"hello")), "record-malformed"),
        (record(22, fragment(5, 0, b"")), "record-malformed"),
        (record(22, fragment(16385, 0, b"hello")), "record-malformed"),
    ],
)
def test_forged_plaintext_is_cut_out_and_the_rest_passes(forged: bytes, reason: str) -> None:
    admitted = admit(WHOLE + forged + CCS + SEALED)
    assert admitted.data == WHOLE + CCS + SEALED
    assert admitted.dropped == (reason,)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (record(24, b"heartbeat"), "record-unknown"),
        (record(19, b""), "record-unknown"),
        (record(22, fragment(5, 0, b"hello"), version=0x0303), "record-unknown"),
        (record(22, fragment(5, 0, b"hello"), version=0xFEFC), "record-unknown"),
        (WHOLE[:12], "record-truncated"),
        (WHOLE[:-1], "record-truncated"),
        (WHOLE[:11] + b"\xff\xff" + WHOLE[13:], "record-truncated"),
    ],
)
def test_a_lie_takes_the_rest_of_the_datagram_with_it(lie: bytes, reason: str) -> None:
    assert admit(WHOLE + lie).data == WHOLE
    assert admit(WHOLE + lie).dropped == (reason,)
    assert admit(lie).data == b""


SERVER_TAKES = {1: "client_hello", 11: "certificate", 15: "verify", 16: "client_key_exchange"}
CLIENT_TAKES = {
    2: "server_hello",
    3: "hello_verify_request",
    4: "new_session_ticket",
    11: "certificate",
    12: "server_key_exchange",
    13: "certificate_request",
    14: "server_hello_done",
    22: "certificate_status",
}


@pytest.mark.parametrize(
    ("role", "takes"), [(Role.SERVER, SERVER_TAKES), (Role.CLIENT, CLIENT_TAKES)]
)
def test_messages_pass_in_the_right_direction_only(role: Role, takes: dict[int, str]) -> None:
    for message_type in range(256):
        datagram = record(22, bytes([message_type]) + fragment(5, 0, b"hello")[1:])
        admitted = admit_as(datagram, role)
        passes = message_type in takes
        assert admitted.data == (datagram if passes else b"")
        assert admitted.dropped == (() if passes else ("record-malformed",))


def test_fatal_plaintext_alert_is_remembered_and_a_warning_is_not() -> None:
    assert admit(record(21, b"\x02\x28")).fatal_alert
    assert not admit(record(21, b"\x01\x00")).fatal_alert
    assert not admit(record(21, b"\x02\x28", epoch=1)).fatal_alert


def test_what_belongs_to_a_handshake_is_marked() -> None:
    assert admit(WHOLE).handshaking
    assert admit(CCS).handshaking
    assert admit(SEALED).handshaking
    assert not admit(record(23, b"\xa5" * 26, epoch=1)).handshaking
    assert not admit(record(22, b"\x01")).handshaking


def test_empty_datagram_is_empty() -> None:
    assert admit(b"").data == b""
