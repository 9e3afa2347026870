"""Whatever arrives on the control channel: messages of a member, or the one error."""

import os

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FleetError
from edge.fleet.map import FleetKey
from edge.fleet.seal import KeyRing
from edge.fleet.secure import SecureEnd

RING = KeyRing([FleetKey(1, bytes(range(32)))])
REASONS = {"malformed", "unknown-version", "unknown-key", "forged", "too-long"}
HELD_MAX = 1 << 19

pieces = st.one_of(
    st.binary(max_size=80),
    st.just(b"edge\x01\x01"),
    st.builds(lambda nonce: b"edge\x01\x01" + nonce, st.binary(min_size=32, max_size=32)),
    st.integers(0, 2**32 - 1).map(lambda size: size.to_bytes(4)),
)


def ends() -> tuple[SecureEnd, SecureEnd]:
    return (
        SecureEnd(RING, "10.0.0.1", "10.0.0.2", calls=True, entropy=os.urandom),
        SecureEnd(RING, "10.0.0.2", "10.0.0.1", calls=False, entropy=os.urandom),
    )


@given(st.integers(0, 3), st.booleans(), st.lists(pieces, max_size=6))
def test_strangers_words_are_no_messages(steps: int, calls: bool, words: list[bytes]) -> None:
    """At every stage of a connection, and at both ends."""
    caller, answerer = ends()
    for _ in range(steps):
        answerer.feed(caller.next_bytes())
        caller.feed(answerer.next_bytes())
    victim = caller if calls else answerer
    was_established = victim.established
    try:
        for word in words:
            assert victim.feed(word) == []
            assert len(victim._incoming) <= HELD_MAX
    except FleetError as exc:
        assert exc.reason in REASONS  # noqa: PT017 - it may as well not be raised
    assert victim.established == was_established


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=5), st.data())
def test_messages_arrive_however_the_stream_is_cut(
    messages: list[bytes], data: st.DataObject
) -> None:
    caller, answerer = ends()
    for _ in range(2):
        answerer.feed(caller.next_bytes())
        caller.feed(answerer.next_bytes())
    stream = b"".join(caller.frame(each) for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    arrived = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        arrived += answerer.feed(stream[start:end])
    assert arrived == messages
