"""The frame layout, byte by byte."""

import pytest

from edge.errors import FrameError
from edge.routing import frames
from edge.routing.sockaddr import decode_sockaddr, encode_sockaddr

CLIENT = encode_sockaddr("192.0.2.7", 40_000)


def test_layout() -> None:
    row = frames.Row(CLIENT, frames.UNCONFIRMED, b"\x80abc")
    data = frames.encode_frame(frames.PACKETS, 2, 3, [row])
    assert data == b"\xe1\x01\x02\x03\x01\x00\x00\x00" + CLIENT + b"\x04\x00\x01\x00" + b"\x80abc"
    assert frames.decode_frame(memoryview(data)) == frames.Frame(frames.PACKETS, 2, 3, [row])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:7], "short-frame"),
        (lambda data: b"\xe2" + data[1:], "not-a-frame"),
        (lambda data: data[:1] + b"\x00" + data[2:], "not-a-frame"),
        (lambda data: data[:1] + b"\x06" + data[2:], "not-a-frame"),
        (lambda data: data[:20], "truncated-frame"),
        (lambda data: data[:-1], "truncated-frame"),
        (lambda data: data[:4] + b"\x02" + data[5:], "truncated-frame"),
        (lambda data: data + b"x", "trailing-bytes"),
    ],
)
def test_damaged_frames_are_refused(damage: object, reason: str) -> None:
    assert callable(damage)
    good = frames.encode_frame(frames.PACKETS, 0, 0, [frames.Row(CLIENT, 0, b"abc")])
    with pytest.raises(FrameError) as caught:
        frames.decode_frame(memoryview(damage(good)))
    assert caught.value.reason == reason


def test_a_full_notice_fits_an_ethernet_packet() -> None:
    rows = [frames.Row(CLIENT, 0, b"")] * frames.NOTICE_ROWS_MAX
    assert len(frames.encode_frame(frames.CONFIRM, 0, 0, rows)) <= 1400


@pytest.mark.parametrize(
    ("host", "raw"),
    [
        ("127.0.0.1", "0200 1f90 7f000001 0000000000000000" + "00" * 12),
        ("2001:db8::1", "0a00 1f90 00000000 20010db8000000000000000000000001 00000000"),
        ("fe80::1%3", "0a00 1f90 00000000 fe800000000000000000000000000001 03000000"),
    ],
)
def test_sockaddr_is_linux_layout(host: str, raw: str) -> None:
    assert encode_sockaddr(host, 8080) == bytes.fromhex(raw)
    assert decode_sockaddr(bytes.fromhex(raw)) == (host, 8080)


def test_v4_mapped_addresses_are_normalised() -> None:
    raw = bytes.fromhex("0a00 1f90 00000000 00000000000000000000ffff7f000001 00000000")
    assert decode_sockaddr(raw) == ("127.0.0.1", 8080)


@pytest.mark.parametrize("raw", [b"", bytes(27), bytes(29), b"\x01\x00" + bytes(26)])
def test_other_sockaddrs_are_refused(raw: bytes) -> None:
    with pytest.raises(FrameError):
        decode_sockaddr(raw)
