"""Messages between workers: what is sent arrives, however the stream is cut."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.access.tokens import Grant
from edge.errors import LocalProtocolError
from edge.signal.host import SessionRequest
from edge.signal.messages import (
    Bye,
    ByeReason,
    Error,
    ErrorCode,
    GoingAway,
    Layer,
    LayerState,
    State,
    Staying,
)
from edge.transceiver.neighbour_messages import (
    MESSAGE_BYTES_MAX,
    Answered,
    Attach,
    Close,
    Detach,
    LengthFraming,
    Open,
    Opened,
    Refused,
    Restart,
    Told,
    ToOwner,
    decode_to_accepting,
    decode_to_owner,
    encode_neighbour_message,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
maybe_texts = st.none() | texts
numbers = st.integers(1, 2**63 - 1)
seconds = st.none() | st.floats(0, 1e12)
metadata: st.SearchStrategy[Mapping[str, Any]] = st.dictionaries(
    texts, st.recursive(st.none() | st.booleans() | texts, st.lists, max_leaves=5), max_size=3
)
grants = st.builds(
    Grant,
    expires_at=seconds,
    route=maybe_texts,
    max_duration=seconds,
    tenant=maybe_texts,
    metadata=metadata,
    issuer=maybe_texts,
    key=texts,
    token_id=maybe_texts,
)
requests = st.builds(
    SessionRequest,
    sdp=texts,
    route=maybe_texts,
    metadata=metadata,
    source=texts,
    grant=st.none() | grants,
    lasting=st.booleans(),
)
to_owner = st.one_of(
    st.builds(Open, numbers, requests),
    st.builds(Attach, numbers, texts, maybe_texts, st.booleans()),
    st.builds(Restart, numbers, numbers, texts),
    st.builds(Close, numbers, st.sampled_from(ByeReason)),
    st.builds(Detach, numbers),
)
states = st.builds(
    State,
    layer=st.sampled_from(Layer),
    state=st.sampled_from(LayerState),
    ms=st.floats(0, 1e9),
)
reports = st.one_of(
    states,
    st.builds(GoingAway, deadline=st.floats(0, 1e9)),
    st.just(Staying()),
    st.builds(Bye, reason=st.sampled_from(ByeReason), message=texts),
    st.builds(Error, code=st.sampled_from(ErrorCode), message=texts, retry_after=seconds),
)
to_accepting = st.one_of(
    st.builds(Opened, numbers, texts, texts, texts),
    st.builds(Answered, numbers, texts),
    st.builds(
        Refused, numbers, st.sampled_from(["sdp", "signal", "access"]), texts, texts, seconds
    ),
    st.builds(Told, numbers, reports),
)


@given(st.lists(to_owner, max_size=5), st.data())
def test_what_is_asked_arrives_however_the_stream_is_cut(
    messages: list[ToOwner], data: st.DataObject
) -> None:
    framing = LengthFraming()
    stream = b"".join(framing.frame(encode_neighbour_message(each)) for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    arrived = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        arrived += framing.feed(stream[start:end])
    assert [decode_to_owner(each) for each in arrived] == messages


@given(to_accepting)
def test_what_is_answered_arrives(message: Any) -> None:
    assert decode_to_accepting(encode_neighbour_message(message)) == message


@given(st.integers(MESSAGE_BYTES_MAX + 1, 2**32 - 1))
def test_no_memory_is_held_for_a_message_that_is_too_long(size: int) -> None:
    with pytest.raises(LocalProtocolError):
        LengthFraming().feed(size.to_bytes(4))


@pytest.mark.parametrize("sdp", ["x" * MESSAGE_BYTES_MAX, "\ud800"])
def test_what_cannot_be_sent_is_refused(sdp: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_neighbour_message(Restart(1, 1, sdp))


def test_secrets_are_not_in_representations() -> None:
    assert "hidden" not in repr(Opened(1, "1.0.x", "hidden", "answer"))
    assert "hidden" not in repr(Attach(1, "1.0.x", "hidden", reports=True))
