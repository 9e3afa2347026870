"""Any text is a client message or one SignalError."""

import json
import re

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
    optional={
        "sdp": st.text() | JSON,
        "route": st.text("aZ0_.- \n", max_size=3) | JSON,
        "metadata": st.dictionaries(st.text(), JSON, max_size=4) | JSON,
        "candidate": JSON,
        "x": JSON,
    },
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
        if isinstance(message, Offer):
            check_limits(message)


def check_limits(offer: Offer) -> None:
    assert offer.route is None or re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", offer.route)
    encoded = json.dumps(offer.metadata, separators=(",", ":"), ensure_ascii=False)
    assert len(encoded.encode()) <= 4096


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
