"""Any frame survives the trip; any bytes are a frame or a FrameError."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FrameError
from edge.routing import frames
from edge.routing.sockaddr import decode_sockaddr, encode_sockaddr

ROWS = st.lists(
    st.builds(
        frames.Row,
        st.binary(min_size=28, max_size=28),
        st.integers(0, 0xFFFF),
        st.binary(max_size=200),
    ),
    max_size=20,
)


@given(st.integers(frames.PACKETS, frames.CLOSED), st.integers(0, 255), st.integers(0, 255), ROWS)
def test_round_trip(kind: int, socket: int, relay: int, rows: list[frames.Row]) -> None:
    data = frames.encode_frame(kind, socket, relay, rows)
    assert frames.decode_frame(memoryview(data)) == frames.Frame(kind, socket, relay, rows)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes(data: bytes, with_magic: bool) -> None:
    if with_magic:
        data = bytes([frames.MAGIC, frames.PACKETS]) + data
    with suppress(FrameError):
        frame = frames.decode_frame(memoryview(data))
        assert frames.encode_frame(*frame)[:6] == data[:6]
        assert sum(len(row.payload) + 32 for row in frame.rows) + 8 == len(data)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 65535))
def test_addresses_round_trip(address: object, port: int) -> None:
    host, back = decode_sockaddr(encode_sockaddr(str(address), port))
    mapped = getattr(address, "ipv4_mapped", None)
    assert host == str(mapped or address)
    assert back == port


@given(st.binary(max_size=40))
def test_any_bytes_are_an_address_or_an_error(raw: bytes) -> None:
    with suppress(FrameError):
        decode_sockaddr(raw)
