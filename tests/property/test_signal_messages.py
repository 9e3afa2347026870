"""Any text is a client message or one SignalError."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import SignalError
from edge.signal.messages import Candidate, HangUp, Offer, decode_client_message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(["offer", "candidate", "bye", "answer"]) | JSON},
    optional={"sdp": st.text() | JSON, "candidate": JSON, "x": JSON},
)


def check_error(error: SignalError) -> None:
    assert error.reason == "malformed-message"
    assert len(str(error)) < 300


def decode(text: str) -> None:
    try:
        message = decode_client_message(text)
    except SignalError as exc:
        check_error(exc)
    else:
        assert isinstance(message, Offer | Candidate | HangUp)


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text(text: str) -> None:
    decode(text)


@given(JSON | MESSAGES)
@settings(max_examples=200)
def test_any_json(value: object) -> None:
    decode(json.dumps(value))


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=100)
def test_an_offers_text_arrives_as_it_was(sdp: str) -> None:
    assert decode_client_message(json.dumps({"type": "offer", "sdp": sdp})) == Offer(sdp=sdp)
