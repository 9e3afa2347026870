"""Used client secrets: once for all workers, never forgotten while alive, bounded."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from edge.access.replay import UsedTokens, used_tokens_bytes
from edge.access.slots import PROBES
from edge.errors import AccessError

NOW = 1_800_000_000.0
HASH_KEY = bytes(16)


def make_memory(tokens_max: int = 100) -> memoryview:
    return memoryview(bytearray(used_tokens_bytes(tokens_max)))


def view(memory: memoryview) -> UsedTokens:
    return UsedTokens(memory, nullcontext, HASH_KEY)


def refusal(tokens: UsedTokens, token: str, now: float = NOW) -> AccessError:
    with pytest.raises(AccessError) as caught:
        tokens.claim(token, now + 60, now)
    return caught.value


def test_a_token_is_used_once_by_all_workers_together() -> None:
    memory = make_memory()
    one, other = view(memory), view(memory)
    one.claim("t", NOW + 60, NOW)
    assert refusal(one, "t").reason == "token-used"
    assert refusal(other, "t").reason == "token-used"
    other.claim("u", NOW + 60, NOW)


def test_it_is_remembered_until_it_has_expired() -> None:
    tokens = view(make_memory())
    tokens.claim("t", NOW + 60, NOW)
    assert refusal(tokens, "t", NOW + 59.9).reason == "token-used"
    tokens.claim("t", NOW + 120, NOW + 60)
    assert refusal(tokens, "t", NOW + 61).reason == "token-used"


def test_a_withdrawn_token_is_good_again() -> None:
    memory = make_memory()
    one, other = view(memory), view(memory)
    one.claim("t", NOW + 60, NOW)
    one.forget("t")
    one.forget("never seen")
    other.claim("t", NOW + 60, NOW)
    assert refusal(one, "t").reason == "token-used"


def test_without_room_the_new_one_is_refused_and_no_live_one_forgotten() -> None:
    tokens = view(make_memory(0))  # the smallest: 16 slots
    for number in range(PROBES):
        tokens.claim(str(number), NOW + 60 + number, NOW)
    full = refusal(tokens, "late")
    assert full.reason == "access-busy"
    assert full.retry_after
    assert all(refusal(tokens, str(number)).reason == "token-used" for number in range(PROBES))
    tokens.claim("late", NOW + 120, NOW + 60)
    assert refusal(tokens, "late", NOW + 60).reason == "token-used"
    assert refusal(tokens, "1", NOW + 60).reason == "token-used", "still alive"


def test_it_holds_what_it_was_made_for() -> None:
    tokens = view(make_memory(1000))
    for number in range(1000):
        tokens.claim(str(number), NOW + 60, NOW)
    assert all(refusal(tokens, str(number)).reason == "token-used" for number in range(1000))


def test_names_do_not_stand_in_the_memory_and_meet_by_key_only() -> None:
    memory = make_memory(1000)
    view(memory).claim("a-name-to-look-for", NOW + 60, NOW)
    assert b"a-name" not in bytes(memory)
    UsedTokens(memory, nullcontext, b"\x01" * 16).claim("a-name-to-look-for", NOW + 60, NOW)


def test_a_lock_that_is_not_to_be_had_is_busy() -> None:
    @contextmanager
    def taken() -> Iterator[None]:
        raise TimeoutError
        yield

    tokens = UsedTokens(make_memory(), taken, HASH_KEY)
    assert refusal(tokens, "t").reason == "access-busy"
    with pytest.raises(AccessError):
        tokens.forget("t")


def test_claims_hold_the_lock() -> None:
    """A worker that comes between look-up and entry would let a token in twice."""
    memory = make_memory()
    inside = 0

    @contextmanager
    def lock() -> Iterator[None]:
        nonlocal inside
        inside += 1
        before = bytes(memory)
        yield
        assert bytes(memory) != before

    def factory() -> AbstractContextManager[None]:
        return lock()

    tokens = UsedTokens(memory, factory, HASH_KEY)
    tokens.claim("t", NOW + 60, NOW)
    tokens.forget("t")
    assert inside == 2
