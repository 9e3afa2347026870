"""Host candidates: priorities of RFC 8445 §5.1.2.1, and the lines that SDP carries."""

import pytest

from edge.errors import LocalProtocolError
from edge.ice.candidate import Candidate, encode_candidate, host_candidates


def test_one_address_has_the_priority_every_implementation_gives_its_only_host() -> None:
    assert host_candidates([("192.0.2.1", 3478)]) == (
        Candidate("1", 2130706431, "192.0.2.1", 3478),
    )


def test_the_order_of_the_list_is_the_order_of_the_priorities() -> None:
    candidates = host_candidates([("2001:db8::1", 3478), ("192.0.2.1", 3478), ("192.0.2.2", 1)])
    assert [one.priority for one in candidates] == [2130706431, 2130706175, 2130705919]
    assert len({one.foundation for one in candidates}) == 3


def test_sdp_lines() -> None:
    candidates = host_candidates([("192.0.2.1", 3478), ("2001:DB8:0::1", 3479)])
    assert [encode_candidate(one) for one in candidates] == [
        "a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host",
        "a=candidate:2 1 udp 2130706175 2001:db8::1 3479 typ host",
    ]


def test_tcp_comes_behind_udp() -> None:
    candidates = host_candidates([("192.0.2.1", 3478)], [("192.0.2.1", 443), ("2001:db8::1", 443)])
    assert [encode_candidate(one) for one in candidates] == [
        "a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host",
        "a=candidate:2 1 tcp 1520435199 192.0.2.1 443 typ host tcptype passive",
        "a=candidate:3 1 tcp 1520434943 2001:db8::1 443 typ host tcptype passive",
    ]
    first_tcp = candidates[1].priority
    assert first_tcp >> 24 == 90
    assert first_tcp >> 21 & 0b111 == 4, "the passive direction (RFC 6544 §4.2)"


def test_no_address_makes_no_candidate() -> None:
    assert host_candidates([]) == ()


@pytest.mark.parametrize(
    "addresses",
    [
        [("192.0.2.1", 3478), ("192.0.2.1", 3479)],
        [("2001:db8::1", 3478), ("2001:db8:0::1", 3478)],
        [("edge.example", 3478)],
        [("192.0.2.1", 0)],
        [("192.0.2.1", 65536)],
        [("0.0.0.0", 3478)],
        [("::", 3478)],
        [("224.0.0.1", 3478)],
        [("::ffff:192.0.2.1", 3478)],
        [("fe80::1%eth0", 3478)],
    ],
)
def test_addresses_that_are_no_candidates(addresses: list[tuple[str, int]]) -> None:
    with pytest.raises(LocalProtocolError):
        host_candidates(addresses)
    with pytest.raises(LocalProtocolError):
        host_candidates([], addresses)
