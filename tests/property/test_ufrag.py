"""Routed ufrags: what is issued opens, and nothing else does.

A forgery passes the seal once in 2^24, so these tests can fail by chance about once in as many
examples.
"""

import base64

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.errors import UfragError
from edge.routing.ufrag import RoutedUfrag, RoutingKey, UfragIssuer, UfragOpener

keys = st.builds(RoutingKey, st.integers(0, 6), st.binary(min_size=16, max_size=16))
sixteen_bits = st.integers(0, 0xFFFF)
instants = st.integers(0, 0xFFFFFFFF)
randoms = st.binary(min_size=6, max_size=6)

REASONS = {"malformed", "unknown-key", "unknown-version", "forged"}


@given(keys, sixteen_bits, sixteen_bits, instants, randoms)
def test_round_trip(
    key: RoutingKey, cluster: int, transceiver: int, now: int, random: bytes
) -> None:
    ufrag = UfragIssuer(cluster, transceiver, key, lambda n: random[:n]).issue(now)
    assert UfragOpener([key]).open(ufrag) == RoutedUfrag(key.id, cluster, transceiver, now)


@given(keys, sixteen_bits, instants, randoms)
@settings(max_examples=20)
def test_every_flipped_bit_before_the_last_byte_is_refused(
    key: RoutingKey, transceiver: int, now: int, random: bytes
) -> None:
    sealed = base64.b64decode(UfragIssuer(1, transceiver, key, lambda n: random[:n]).issue(now))
    opener = UfragOpener([key, RoutingKey((key.id + 1) % 7, b"another key 1234")])
    for bit in range(17 * 8):
        flipped = (int.from_bytes(sealed, "big") ^ 1 << (18 * 8 - 1 - bit)).to_bytes(18, "big")
        with pytest.raises(UfragError):
            opener.open(base64.b64encode(flipped))


@given(keys, st.integers(0, 7))
def test_the_last_byte_is_random_and_unauthenticated(key: RoutingKey, bit: int) -> None:
    sealed = bytearray(base64.b64decode(UfragIssuer(1, 2, key, bytes).issue(3)))
    sealed[17] ^= 1 << bit
    assert UfragOpener([key]).open(base64.b64encode(sealed)) == RoutedUfrag(key.id, 1, 2, 3)


@given(st.one_of(st.text(max_size=30), st.binary(max_size=30)))
def test_any_string_is_refused(ufrag: str | bytes) -> None:
    with pytest.raises(UfragError) as refusal:
        UfragOpener([RoutingKey(0, bytes(16))]).open(ufrag)
    assert refusal.value.reason in REASONS


@given(st.binary(min_size=18, max_size=18))
@settings(max_examples=500)
def test_random_bytes_are_refused_under_every_key(sealed: bytes) -> None:
    opener = UfragOpener(RoutingKey(one, bytes([one] * 16)) for one in range(7))
    with pytest.raises(UfragError):
        opener.open(base64.b64encode(sealed))


@given(keys, keys, randoms)
def test_another_key_does_not_open_it(key: RoutingKey, other: RoutingKey, random: bytes) -> None:
    assume(key.key != other.key)
    ufrag = UfragIssuer(1, 2, key, lambda n: random[:n]).issue(3)
    with pytest.raises(UfragError):
        UfragOpener([other]).open(ufrag)
