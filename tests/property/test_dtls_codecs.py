from hypothesis import given
from hypothesis import strategies as st

from edge.dtls.certificate import Fingerprint
from edge.dtls.keying import Role
from edge.dtls.records import HEADER_BYTES, admit, cut_flight
from edge.errors import DtlsError

RECORDS = st.builds(
    lambda content_type, version, epoch, sequence, body: (
        bytes([content_type])
        + version
        + epoch.to_bytes(2)
        + sequence.to_bytes(6)
        + len(body).to_bytes(2)
        + body
    ),
    st.integers(18, 25),
    st.sampled_from([b"\xfe\xff", b"\xfe\xfd", b"\x03\x03"]),
    st.integers(0, 2),
    st.integers(0, 2**48 - 1),
    st.binary(max_size=60),
)


@given(
    st.lists(RECORDS | st.binary(max_size=40), max_size=6).map(b"".join),
    st.sampled_from(list(Role)),
)
def test_admitting_any_bytes_yields_whole_records_and_settles(datagram: bytes, role: Role) -> None:
    admitted = admit(datagram, role)
    again = admit(admitted.data, role)
    assert again.data == admitted.data
    assert again.dropped == ()
    assert len(admitted.data) < len(datagram) or admitted.dropped == ()
    assert b"".join(cut_flight(admitted.data, 1)) == admitted.data


@given(st.lists(RECORDS, max_size=20), st.integers(1, 300))
def test_cut_flight_loses_nothing_and_fills_datagrams(records: list[bytes], mtu: int) -> None:
    datagrams = cut_flight(b"".join(records), mtu)
    assert b"".join(datagrams) == b"".join(records)
    firsts = []
    for datagram in datagrams:
        length = HEADER_BYTES + int.from_bytes(datagram[11:13])
        assert len(datagram) <= mtu or len(datagram) == length
        firsts.append(length)
    for datagram, following in zip(datagrams, firsts[1:], strict=False):
        assert len(datagram) + following > mtu


@given(st.text() | st.from_regex(r"sha-256 ([0-9A-F]{2}:){30,31}[0-9A-Fg ]{2}", fullmatch=True))
def test_parsing_any_fingerprint_yields_a_value_or_the_one_error(text: str) -> None:
    try:
        fingerprint = Fingerprint.parse(text)
    except DtlsError:
        return
    assert Fingerprint.parse(str(fingerprint)) == fingerprint


@given(st.binary(), st.sampled_from(["sha-256", "sha-384", "sha-512"]))
def test_fingerprints_survive_sdp(der: bytes, algorithm: str) -> None:
    fingerprint = Fingerprint.compute(der, algorithm)
    assert Fingerprint.parse(str(fingerprint)) == fingerprint
    assert fingerprint.matches(der)
