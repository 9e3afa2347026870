"""The relay's reading of USERNAME against the strict STUN codec."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import StunError
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.routing.peek import is_binding_request, peek_ufrag

ICE_CHARS = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
UFRAGS = st.text(ICE_CHARS, min_size=4, max_size=64)
PASSWORD = "p" * 24


@given(UFRAGS, UFRAGS, st.booleans())
def test_finds_the_ufrag_of_every_real_check(local: str, remote: str, nominated: bool) -> None:
    check = stun.encode_request(
        local=Credentials(local, PASSWORD),
        remote=Credentials(remote, PASSWORD),
        priority=1,
        tie_breaker=1,
        use_candidate=nominated,
        transaction_id=bytes(12),
    )
    assert is_binding_request(check)
    assert peek_ufrag(check) == remote.encode()
    assert peek_ufrag(memoryview(check)) == remote.encode()


@given(st.binary(max_size=300), st.sampled_from([0, 4, 8, 12, 100]))
def test_any_bytes(tail: bytes, claimed: int) -> None:
    for data in (tail, b"\x00\x01" + claimed.to_bytes(2) + b"\x21\x12\xa4\x42" + bytes(12) + tail):
        is_binding_request(data)
        with suppress(StunError):
            assert peek_ufrag(data)


@given(st.integers(0, 40), st.integers(0, 255))
def test_one_changed_byte_never_raises_anything_else(position: int, value: int) -> None:
    good = bytearray(
        stun.encode_request(
            local=Credentials("abcd", PASSWORD),
            remote=Credentials("efgh", PASSWORD),
            priority=1,
            tie_breaker=1,
            use_candidate=True,
            transaction_id=bytes(12),
        )
    )
    good[position] = value
    with suppress(StunError):
        peek_ufrag(bytes(good))
