"""Twilio's message shapes, against tests/fixtures/twilio_messages.json."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from edge.audio.g711 import decode_ulaw, encode_ulaw
from edge.backend.dialect import SessionFacts
from edge.backend.exchange import FAULTS_MAX
from edge.backend.twilio import TwilioDialect
from edge.errors import BackendError
from edge.media.dialogue import (
    Clear,
    Cleared,
    Command,
    Digit,
    EndItem,
    ItemEnded,
    ItemPosition,
    ItemStarted,
    Mark,
    MarkReached,
    Play,
    SoundDropped,
)
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.payloads import Codec

FIXTURES = Path(__file__).parents[1] / "fixtures" / "twilio_messages.json"
SHAPES = json.loads(FIXTURES.read_text())
FACTS = SessionFacts("0.1.aBc-_", "sales", Codec.OPUS, {"user": "ann", "age": 7, "session": "x"})


def opened() -> TwilioDialect:
    dialect = TwilioDialect()
    dialect.open(FACTS, again=False)
    said(dialect)
    return dialect


def said(dialect: TwilioDialect) -> list[dict[str, Any]]:
    messages = []
    while (message := dialect.next_message()) is not None:
        assert isinstance(message, str)
        messages.append(json.loads(message))
    return messages


def ordered(dialect: TwilioDialect) -> list[Command]:
    commands = []
    while (command := dialect.next_command()) is not None:
        commands.append(command)
    return commands


def tell(dialect: TwilioDialect, message: object) -> list[Command]:
    dialect.receive(json.dumps(message))
    return ordered(dialect)


def media(payload: bytes) -> dict[str, Any]:
    return {"event": "media", "media": {"payload": base64.b64encode(payload).decode()}}


def frame(media_time: float, audio: bytes = bytes(320)) -> AudioFrame:
    return AudioFrame(Label.RECEIVED, media_time, 0.02, 0.0, audio, None)


def heard(dialect: TwilioDialect, each: AudioFrame) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(dialect.hear(each))
    return decoded


def shape(value: object) -> object:
    """Return names and types without the values; ids keep their form."""
    if isinstance(value, dict):
        return {
            name: {} if name == "customParameters" else shape(each) for name, each in value.items()
        }
    if isinstance(value, list):
        return [shape(each) for each in value]
    if isinstance(value, str) and re.fullmatch("(MZ|AC|CA)[0-9a-f]{32}", value):
        return value[:2]
    return "number" if isinstance(value, str) and value.isdecimal() else type(value).__name__


def test_it_takes_and_gives_pcm_at_8_khz() -> None:
    assert TwilioDialect().format == AudioFormat(Encoding.PCM16, 8000)


def test_every_message_has_twilios_shape() -> None:
    dialect = TwilioDialect()
    dialect.open(FACTS, again=False)
    audio = heard(dialect, frame(0.0))
    dialect.notify(Digit("5", 1.0))
    tell(dialect, SHAPES["to_twilio"]["mark"])
    dialect.notify(MarkReached("1:answer-1", cleared=False))
    dialect.close("hang-up")
    messages = [*said(dialect), audio]
    assert sorted(each["event"] for each in messages) == sorted(SHAPES["from_twilio"])
    for message in messages:
        assert shape(message) == shape(SHAPES["from_twilio"][message["event"]])


def test_fixed_values() -> None:
    dialect = TwilioDialect()
    dialect.open(FACTS, again=False)
    connected, start = said(dialect)
    assert connected == SHAPES["from_twilio"]["connected"]
    expected = SHAPES["from_twilio"]["start"]["start"]
    assert start["start"]["mediaFormat"] == expected["mediaFormat"]
    assert start["start"]["tracks"] == expected["tracks"]
    assert start["start"]["streamSid"] == start["streamSid"]


def test_custom_parameters_are_strings_and_ours_win() -> None:
    dialect = TwilioDialect()
    dialect.open(FACTS, again=False)
    assert said(dialect)[1]["start"]["customParameters"] == {
        "user": "ann",
        "age": "7",
        "session": "0.1.aBc-_",
        "route": "sales",
    }


def test_media_counts_chunks_and_time() -> None:
    dialect = opened()
    audio = decode_ulaw(bytes(range(160)))
    first, second = heard(dialect, frame(7.5, audio)), heard(dialect, frame(7.52))
    assert first["media"] == {
        "track": "inbound",
        "chunk": "1",
        "timestamp": "0",
        "payload": base64.b64encode(encode_ulaw(audio)).decode(),
    }
    assert base64.b64decode(second["media"]["payload"]) == b"\xff" * 160
    assert (second["media"]["chunk"], second["media"]["timestamp"]) == ("2", "20")


def test_sequence_numbers_count_all_messages_but_the_first() -> None:
    dialect = TwilioDialect()
    dialect.open(FACTS, again=False)
    connected, start = said(dialect)
    assert "sequenceNumber" not in connected
    dialect.notify(Digit("5", 0.0))
    numbers = [start, *said(dialect), heard(dialect, frame(0.0))]
    dialect.close("hang-up")
    numbers += said(dialect)
    assert [each["sequenceNumber"] for each in numbers] == ["1", "2", "3", "4"]


def test_nothing_is_said_after_stop() -> None:
    dialect = opened()
    dialect.close("hang-up")
    dialect.close("hang-up")
    dialect.notify(Digit("5", 0.0))
    dialect.receive("{")
    assert [each["event"] for each in said(dialect)] == ["stop"]


def test_media_is_played() -> None:
    dialect = opened()
    (play,) = tell(dialect, SHAPES["to_twilio"]["media"])
    assert isinstance(play, Play)
    assert play.audio == decode_ulaw(b"\xff\x00\x80\x7f")
    (more,) = tell(dialect, media(b"\xff" * 5))
    assert isinstance(more, Play)
    assert (more.item, len(more.audio)) == (play.item, 10)


def test_after_a_clear_there_is_a_new_item() -> None:
    dialect = opened()
    (before,) = tell(dialect, media(b"\xff"))
    assert tell(dialect, SHAPES["to_twilio"]["clear"]) == [Clear()]
    (after,) = tell(dialect, media(b"\xff"))
    assert isinstance(before, Play)
    assert isinstance(after, Play)
    assert before.item != after.item


@pytest.mark.parametrize("cleared", [True, False])
def test_marks_come_back_played_or_cleared(*, cleared: bool) -> None:
    dialect = opened()
    (mark,) = tell(dialect, SHAPES["to_twilio"]["mark"])
    assert isinstance(mark, Mark)
    dialect.notify(MarkReached(mark.name, cleared=cleared))
    assert [each["mark"] for each in said(dialect)] == [{"name": "answer-1"}]


def test_what_a_stream_has_no_word_for_is_not_said() -> None:
    dialect = opened()
    position = ItemPosition("1:1", 1.0, None)
    for notice in (
        ItemStarted("1:1"),
        ItemEnded(position),
        Cleared((position,)),
        SoundDropped(1.0),
    ):
        dialect.notify(notice)
    assert said(dialect) == []


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"event":1}',
        '{"event":"media"}',
        '{"event":"media","media":{}}',
        '{"event":"media","media":{"payload":"%%%"}}',
        '{"event":"media","media":{"payload":7}}',
        '{"event":"mark","mark":{"name":"' + "x" * 257 + '"}}',
    ],
)
def test_malformed_messages_are_counted(text: str) -> None:
    dialect = opened()
    dialect.receive(text)
    assert dialect.drops == {"event-malformed": 1}
    assert ordered(dialect) == []
    assert said(dialect) == []


def test_an_empty_payload_is_no_sound() -> None:
    dialect = opened()
    assert tell(dialect, media(b"")) == []
    assert dialect.drops == {}


def test_unknown_events_are_no_faults() -> None:
    dialect = opened()
    for _ in range(FAULTS_MAX + 10):
        assert tell(dialect, {"event": "stop"}) == []
    assert dialect.drops == {"event-unknown": FAULTS_MAX + 10}


def test_too_many_faults_end_the_connection() -> None:
    dialect = opened()
    for _ in range(FAULTS_MAX):
        dialect.receive(b"\xff")
    assert dialect.drops == {"binary-message": FAULTS_MAX}
    with pytest.raises(BackendError) as caught:
        dialect.receive("{")
    assert caught.value.reason == "too-many-errors"


def test_a_new_connection_is_a_new_stream_of_the_same_call() -> None:
    dialect = TwilioDialect()
    dialect.open(FACTS, again=False)
    old = said(dialect)[1]
    (play,) = tell(dialect, media(b"\xff"))
    (mark,) = tell(dialect, SHAPES["to_twilio"]["mark"])
    assert isinstance(play, Play)
    assert isinstance(mark, Mark)
    heard(dialect, frame(0.0))
    dialect.open(FACTS, again=True)
    assert ordered(dialect) == [EndItem(play.item)]
    dialect.notify(MarkReached(mark.name, cleared=False))
    _, new = said(dialect)
    assert new["sequenceNumber"] == "1"
    assert new["streamSid"] != old["streamSid"]
    assert new["start"]["callSid"] == old["start"]["callSid"]
    again = heard(dialect, frame(9.0))["media"]
    assert (again["chunk"], again["timestamp"]) == ("1", "0")
    (fresh,) = tell(dialect, media(b"\xff"))
    assert isinstance(fresh, Play)
    assert fresh.item != play.item
