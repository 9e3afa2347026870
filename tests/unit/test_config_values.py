"""Addresses as operators write them."""

import pytest

from edge.config import IpAddress, ListenAddress, PublicAddress


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:3478", "127.0.0.1", 3478),
        ("[::1]:0", "::1", 0),
        ("[2001:0DB8::0001]:65535", "2001:db8::1", 65535),
    ],
)
def test_listen_address(text: str, host: str, port: int) -> None:
    assert ListenAddress.parse(text) == ListenAddress(IpAddress(host), port)


@pytest.mark.parametrize("text", ["127.0.0.1:3478", "[2001:db8::1]:443"])
def test_listen_address_prints_as_written(text: str) -> None:
    assert str(ListenAddress.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not like"),
        ("3478", "is not like"),
        ("127.0.0.1", "is not like"),
        ("::1:3478", "is not like"),
        ("127.0.0.1:", "is not like"),
        ("127.0.0.1:-1", "is not like"),
        ("127.0.0.1:3478\n", "is not like"),
        ("127.0.0.1:\u0663", "is not like"),
        (":3478", "not an IP address"),
        ("localhost:3478", "not an IP address"),
        ("127.0.0.01:3478", "not an IP address"),
        ("127.0.0.1:65536", "at most 65535"),
        ("[127.0.0.1]:1", "brackets are for IPv6"),
        ("[::ffff:192.0.2.1]:1", "write 192.0.2.1"),
        ("[fe80::1%eth0]:1", "zone"),
        ("224.0.0.1:1", "multicast"),
        ("[ff02::1]:1", "multicast"),
    ],
)
def test_listen_address_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ListenAddress.parse(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("203.0.113.7", "203.0.113.7", None),
        ("203.0.113.7:443", "203.0.113.7", 443),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
    ],
)
def test_public_address(text: str, host: str, port: int | None) -> None:
    assert PublicAddress.parse(text) == PublicAddress(IpAddress(host), port)


@pytest.mark.parametrize("text", ["", "edge.example.net", "203.0.113.7:0", "[203.0.113.7]", "[]"])
def test_public_address_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        PublicAddress.parse(text)
