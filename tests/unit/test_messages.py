"""The JSON messages of edge.v1."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from edge.errors import SignalError
from edge.signal.messages import (
    Answer,
    Bye,
    ByeReason,
    Candidate,
    ClientMessage,
    Error,
    ErrorCode,
    GoingAway,
    HangUp,
    Heartbeat,
    Layer,
    LayerState,
    Offer,
    Redirect,
    Resume,
    Resumed,
    ServerMessage,
    State,
    Staying,
    Verdict,
    decode_client_message,
    encode_server_message,
)


def test_decodes_client_messages() -> None:
    assert decode_client_message('{"type":"offer","sdp":"v=0\\r\\n"}') == Offer(sdp="v=0\r\n")
    assert decode_client_message('{"sdp":"","type":"offer"}') == Offer(sdp="")
    assert decode_client_message('{"type":"bye"}') == HangUp()
    assert decode_client_message('{"type":"resume","session":"a","secret":"b"}') == Resume(
        session="a", secret="b"
    )
    routed = '{"type":"offer","sdp":"","route":"sales.EU_2-b","metadata":{"user":{"id":[7,null]}}}'
    assert decode_client_message(routed) == Offer(
        sdp="", route="sales.EU_2-b", metadata={"user": {"id": [7, None]}}
    )


@pytest.mark.parametrize(
    "rest",
    ["", ',"candidate":null', ',"candidate":{"candidate":"x","sdpMid":"0"},"sdpMLineIndex":0'],
)
def test_any_candidate_is_accepted(rest: str) -> None:
    assert decode_client_message(f'{{"type":"candidate"{rest}}}') == Candidate()


@pytest.mark.parametrize(
    ("text", "at_fault"),
    [
        ("", "truncated"),
        ("hello", "malformed"),
        ("[]", "object"),
        ("{}", "`type`"),
        ('{"type":"subscribe"}', "subscribe"),
        ('{"type":1}', "$.type"),
        ('{"type":"offer"}', "`sdp`"),
        ('{"type":"offer","sdp":1}', "$.sdp"),
        ('{"type":"offer","sdp":"v=0","rout":"x"}', "`rout`"),
        ('{"type":"offer","sdp":"v=0","route":""}', "$.route"),
        ('{"type":"offer","sdp":"v=0","route":"a b"}', "$.route"),
        ('{"type":"offer","sdp":"v=0","route":"a\\n"}', "$.route"),
        ('{"type":"offer","sdp":"v=0","route":"%s"}' % ("x" * 65), "$.route"),
        ('{"type":"offer","sdp":"v=0","metadata":[]}', "$.metadata"),
        ('{"type":"offer","sdp":"v=0","metadata":{"x":1e999}}', "$.metadata"),
        ('{"type":"resume","session":"a"}', "`secret`"),
        ('{"type":"bye","why":"x"}', "`why`"),
        ('{"type":"bye"} {}', "trailing"),
        ('{"type":"offer","sdp":"\\ud800"}', ""),
        ("\ud800", ""),
        ('{"type":"candidate","candidate":' + "[" * 50_000, ""),
    ],
)
def test_a_malformed_message_is_one_error_that_names_the_fault(text: str, at_fault: str) -> None:
    with pytest.raises(SignalError, match=r"This is not an edge\.v1 message") as caught:
        decode_client_message(text)
    assert caught.value.reason == "malformed-message"
    assert at_fault in str(caught.value)


@pytest.mark.parametrize(
    ("largest", "too_large", "sentence"),
    [
        ({"x": "y" * 4088}, {"x": "y" * 4089}, "more than 4096 bytes - at `$.metadata`"),
        ({"x": "\u00e4" * 2044}, {"x": "\u00e4" * 2045}, "more than 4096 bytes"),
        ({"x": [[[[[[[1]]]]]]]}, {"x": [[[[[[[[]]]]]]]]}, "more than 8 levels - at `$.metadata`"),
        ({"x": {}}, {"x": [{"y": [[[[[[{}]]]]]]}]}, "more than 8 levels"),
    ],
)
def test_metadata_has_limits(
    largest: dict[str, object], too_large: dict[str, object], sentence: str
) -> None:
    def decode(metadata: dict[str, object]) -> ClientMessage:
        return decode_client_message(
            json.dumps({"type": "offer", "sdp": "", "metadata": metadata}, indent=4)
        )

    assert decode(largest) == Offer(sdp="", metadata=largest)
    with pytest.raises(SignalError) as caught:
        decode(too_large)
    assert caught.value.reason == "malformed-message"
    assert sentence in str(caught.value)


def test_an_error_is_short_however_long_the_message() -> None:
    with pytest.raises(SignalError) as caught:
        decode_client_message('{"type":"' + "x" * 100_000 + '"}')
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (
            Answer(sdp="v=0\r\n", session="s1"),
            {"type": "answer", "sdp": "v=0\r\n", "session": "s1"},
        ),
        (
            Answer(sdp="v=0\r\n", session="s1", secret="s2"),
            {"type": "answer", "sdp": "v=0\r\n", "session": "s1", "secret": "s2"},
        ),
        (Resumed(session="s1"), {"type": "resumed", "session": "s1"}),
        (Redirect(url="wss://x/?steered=1"), {"type": "redirect", "url": "wss://x/?steered=1"}),
        (
            State(layer=Layer.DTLS, state=LayerState.CONNECTED, ms=31.5),
            {"type": "state", "layer": "dtls", "state": "connected", "ms": 31.5},
        ),
        (
            Bye(reason=ByeReason.CONSENT_LOST, message="Gone."),
            {"type": "bye", "reason": "consent-lost", "message": "Gone."},
        ),
        (
            Bye(reason=ByeReason.HANG_UP, message="Gone.", verdict=Verdict.NO_MEDIA),
            {"type": "bye", "reason": "hang-up", "message": "Gone.", "verdict": "no-media"},
        ),
        (
            Error(code=ErrorCode.BUSY, message="Full."),
            {"type": "error", "code": "busy", "message": "Full."},
        ),
    ],
)
def test_encodes_server_messages(message: ServerMessage, encoded: dict[str, object]) -> None:
    assert json.loads(encode_server_message(message)) == encoded


def test_the_documentation_knows_every_code_and_its_examples_are_messages() -> None:
    text = (Path(__file__).parents[2] / "docs" / "signaling.md").read_text(encoding="utf-8")
    for kind in (ErrorCode, ByeReason, Layer, LayerState, Verdict):
        assert all(f"`{member}`" in text for member in kind)
    examples = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)
    client, server = msgspec.json.Decoder(ClientMessage), msgspec.json.Decoder(ServerMessage)
    kinds = [Offer, Resume, Candidate, HangUp]
    assert [type(client.decode(each)) for each in examples[:4]] == kinds
    assert client.decode(examples[0]).route is not None
    kinds = [Answer, Resumed, Redirect, State, Heartbeat, GoingAway, Staying, Bye, Error]
    assert [type(server.decode(each)) for each in examples[4:]] == kinds


def test_secrets_show_in_no_repr() -> None:
    for message in (
        Resume(session="1.0.x", secret="geheim"),
        Answer(sdp="v=0 geheim", session="1.0.x", secret="geheim"),
    ):
        assert "1.0.x" in repr(message)
        assert "geheim" not in repr(message)
