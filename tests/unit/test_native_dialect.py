"""edge.media.v1, message by message and byte by byte."""

import json
from typing import Any

import pytest

from edge.backend.dialect import SessionFacts
from edge.backend.exchange import FAULTS_MAX, MESSAGES_MAX
from edge.backend.native import NativeDialect
from edge.errors import BackendError
from edge.media.dialogue import (
    Clear,
    Cleared,
    Command,
    Digit,
    EndItem,
    HangUp,
    ItemEnded,
    ItemPosition,
    ItemStarted,
    Mark,
    MarkReached,
    Pause,
    Play,
    Resume,
    SoundDropped,
)
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.payloads import Codec
from edge.rtp.extensions import AudioLevel

PCM = AudioFormat(Encoding.PCM16, 24000)
OPUS = AudioFormat(Encoding.OPUS, 48000)
FACTS = SessionFacts("0.1.aBc-_", "sales", Codec.PCMU, {"user": 7})


def opened(audio_format: AudioFormat = PCM) -> NativeDialect:
    dialect = NativeDialect(audio_format)
    dialect.open(FACTS, again=False)
    assert said(dialect)[0]["type"] == "start"
    return dialect


def reopened(dialect: NativeDialect) -> NativeDialect:
    dialect.open(FACTS, again=True)
    assert said(dialect)[0]["resumed"] is True
    return dialect


def said(dialect: NativeDialect) -> list[dict[str, Any]]:
    messages = []
    while (message := dialect.next_message()) is not None:
        assert isinstance(message, str)
        messages.append(json.loads(message))
    return messages


def ordered(dialect: NativeDialect) -> list[Command]:
    commands = []
    while (command := dialect.next_command()) is not None:
        commands.append(command)
    return commands


def tell(dialect: NativeDialect, type_: str, **fields: object) -> list[Command]:
    dialect.receive(json.dumps({"type": type_, **fields}))
    return ordered(dialect)


def sound(item: int, audio: bytes, flags: int = 0) -> bytes:
    return bytes((0x12, flags, 0, 0)) + item.to_bytes(4, "little") + audio


def play(dialect: NativeDialect, item: int, audio: bytes, flags: int = 0) -> list[Command]:
    dialect.receive(sound(item, audio, flags))
    return ordered(dialect)


def only_item(dialect: NativeDialect, item: int) -> str:
    """Play one piece of a new item; return the id that the session knows it by."""
    (command,) = play(dialect, item, b"\1\2")
    assert isinstance(command, Play)
    return command.item


# To the backend.


def test_start_has_the_sessions_facts() -> None:
    dialect = NativeDialect(PCM)
    dialect.open(FACTS, again=False)
    assert said(dialect) == [
        {
            "type": "start",
            "protocol": "edge.media.v1",
            "session": "0.1.aBc-_",
            "route": "sales",
            "codec": "PCMU",
            "format": {"encoding": "pcm16", "rate_hz": 24000, "channels": 1},
            "metadata": {"user": 7},
            "resumed": False,
        }
    ]
    assert ordered(dialect) == []


def test_a_frame_byte_by_byte() -> None:
    frame = AudioFrame(Label.FEC, 1.25, 0.02, 0.0035, b"\x01\x80\xff\x7f", AudioLevel(True, 45))
    assert opened().hear(frame) == bytes.fromhex(
        "11 01 03 2d"  # version and kind, fec, level present and voice, -45 dBov
        "ac 0d 00 00"  # 3,500 us
        "d0 12 13 00 00 00 00 00"  # 1,250,000 us
        "20 4e 00 00"  # 20,000 us
        "01 80 ff 7f"
    )


@pytest.mark.parametrize(
    ("label", "code"),
    [(Label.RECEIVED, 0), (Label.FEC, 1), (Label.CONCEALED, 2), (Label.DTX, 3)],
)
def test_labels(label: Label, code: int) -> None:
    message = opened().hear(AudioFrame(label, 0.0, 0.02, 0.0, b"", None))
    assert message is not None
    assert message[1] == code


@pytest.mark.parametrize(
    ("level", "expected"),
    [(None, b"\0\x7f"), (AudioLevel(False, 0), b"\1\0"), (AudioLevel(True, 127), b"\3\x7f")],
)
def test_levels(level: AudioLevel | None, expected: bytes) -> None:
    message = opened().hear(AudioFrame(Label.RECEIVED, 0.0, 0.02, 0.0, b"", level))
    assert message is not None
    assert message[2:4] == expected


def test_a_lost_opus_packet_is_a_header_alone() -> None:
    message = opened(OPUS).hear(AudioFrame(Label.CONCEALED, 1.0, 0.02, 0.0, b"", None))
    assert message is not None
    assert len(message) == 20


def test_times_that_do_not_fit_are_no_reason_to_fail() -> None:
    message = opened().hear(AudioFrame(Label.RECEIVED, -0.02, 0.02, 5000.0, b"", None))
    assert message is not None
    assert message[4:16] == b"\xff\xff\xff\xff" + (-20_000).to_bytes(8, "little", signed=True)
    message = opened().hear(AudioFrame(Label.RECEIVED, 0.0, 0.02, -1e-9, b"", None))
    assert message is not None
    assert message[4:8] == b"\0\0\0\0"


def test_digits_and_dropped_sound() -> None:
    dialect = opened()
    dialect.notify(Digit("#", 12.3456))
    dialect.notify(SoundDropped(0.06))
    assert said(dialect) == [
        {"type": "dtmf", "digit": "#", "media_ms": 12346},
        {"type": "sound_dropped", "ms": 60},
    ]


def test_an_items_life() -> None:
    dialect = opened()
    item = only_item(dialect, 5)
    dialect.notify(ItemStarted(item))
    dialect.notify(ItemEnded(ItemPosition(item, 1.24, None)))
    assert said(dialect) == [
        {"type": "item_started", "item": 5},
        {"type": "item_ended", "item": 5, "sent_ms": 1240, "received_ms": None},
    ]


def test_cleared_tells_positions() -> None:
    dialect = opened()
    first, second = only_item(dialect, 1), "1:2"
    dialect.notify(
        Cleared((ItemPosition(first, 1.24, 1.18), ItemPosition(second, 0.0, 0.0))),
    )
    assert said(dialect) == [
        {
            "type": "cleared",
            "items": [
                {"item": 1, "sent_ms": 1240, "received_ms": 1180},
                {"item": 2, "sent_ms": 0, "received_ms": 0},
            ],
        }
    ]


def test_stop_is_the_last_message() -> None:
    dialect = opened()
    dialect.close("hang-up")
    dialect.close("internal")
    dialect.notify(Digit("1", 0.0))
    dialect.receive("{")
    assert said(dialect) == [{"type": "stop", "reason": "hang-up"}]


def test_the_message_queue_is_bounded() -> None:
    dialect = opened()
    for _ in range(MESSAGES_MAX + 10):
        dialect.notify(Digit("1", 0.0))
    assert len(said(dialect)) == MESSAGES_MAX
    assert dialect.drops == {"message-queue-full": 10}


# From the backend: sound.


def test_sound_is_played() -> None:
    dialect = opened()
    (first,) = play(dialect, 0, b"\1\2\3")
    (second,) = play(dialect, 0, b"\4")
    assert isinstance(first, Play)
    assert isinstance(second, Play)
    assert (first.audio, second.audio) == (b"\1\2\3", b"\4")
    assert first.item == second.item


def test_the_end_flag_ends_the_item() -> None:
    dialect = opened()
    first, second = play(dialect, 3, b"\1\2", flags=1)
    assert isinstance(first, Play)
    assert second == EndItem(first.item)
    only_item(dialect, 4)
    assert play(dialect, 4, b"", flags=1) == [EndItem("1:4")]


def test_end_item_ends_the_item() -> None:
    dialect = opened()
    item = only_item(dialect, 3)
    assert tell(dialect, "end_item", item=3) == [EndItem(item)]


def test_a_higher_number_ends_the_item() -> None:
    dialect = opened()
    item = only_item(dialect, 3)
    ended, begun = play(dialect, 9, b"\1\2")
    assert ended == EndItem(item)
    assert isinstance(begun, Play)
    assert begun.item != item


@pytest.mark.parametrize("item", [2, 3])
def test_an_item_that_ended_takes_no_sound(item: int) -> None:
    dialect = opened()
    play(dialect, 2, b"\1\2")
    play(dialect, 3, b"\1\2", flags=1)
    assert play(dialect, item, b"\1\2") == []
    assert dialect.drops == {"item-over": 1}
    assert [each["code"] for each in said(dialect)] == ["item-over"]


def test_an_item_without_sound_cannot_end() -> None:
    dialect = opened()
    assert tell(dialect, "end_item", item=0) == []
    assert play(dialect, 0, b"", flags=1) == []
    assert [each["code"] for each in said(dialect)] == ["item-unknown"] * 2


def test_sound_on_its_way_when_the_backend_cleared_is_dropped_in_silence() -> None:
    dialect = opened()
    only_item(dialect, 1)
    assert tell(dialect, "clear") == [Clear()]
    assert play(dialect, 1, b"\1\2", flags=1) == []
    assert tell(dialect, "end_item", item=1) == []
    assert dialect.drops == {"item-cleared": 2}
    assert said(dialect) == []
    only_item(dialect, 2)


def test_opus_packets_have_a_longest_size() -> None:
    dialect = opened(OPUS)
    assert len(play(dialect, 0, bytes(1200))) == 1
    assert play(dialect, 0, bytes(1201)) == []
    assert [each["code"] for each in said(dialect)] == ["packet-too-long"]
    assert len(play(opened(PCM), 0, bytes(100_000))) == 1


# From the backend: events.


def test_marks_come_back() -> None:
    dialect = opened()
    (mark,) = tell(dialect, "mark", name="a:b")
    assert isinstance(mark, Mark)
    dialect.notify(MarkReached(mark.name, cleared=True))
    assert said(dialect) == [{"type": "mark", "name": "a:b", "cleared": True}]


def test_pause_resume_and_stop() -> None:
    dialect = opened()
    assert tell(dialect, "pause") == [Pause()]
    assert tell(dialect, "resume", because="an extra field") == [Resume()]
    assert tell(dialect, "stop", reason="x" * 500) == [HangUp("x" * 200)]
    assert tell(dialect, "stop") == [HangUp("")]


def test_media_switches_what_is_heard() -> None:
    dialect = opened()
    frame = AudioFrame(Label.RECEIVED, 0.0, 0.02, 0.0, b"", None)
    assert tell(dialect, "media", audio=False) == []
    assert dialect.hear(frame) is None
    assert tell(dialect, "media", audio=True) == []
    assert dialect.hear(frame) is not None


# From the backend: faults.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"type":3}',
        '{"type":"mark"}',
        '{"type":"mark","name":"' + "x" * 257 + '"}',
        '{"type":"end_item","item":-1}',
        '{"type":"end_item","item":4294967296}',
        '{"type":"media","audio":1}',
    ],
)
def test_malformed_events_are_told(text: str) -> None:
    dialect = opened()
    dialect.receive(text)
    (error,) = said(dialect)
    assert (error["type"], error["code"]) == ("error", "event-malformed")
    assert 0 < len(error["message"]) <= 200
    assert dialect.drops == {"event-malformed": 1}
    assert ordered(dialect) == []


def test_unknown_events_are_no_faults_and_told_once() -> None:
    dialect = opened()
    for _ in range(FAULTS_MAX + 10):
        assert tell(dialect, "viseme", mouth=1) == []
    assert [each["code"] for each in said(dialect)] == ["event-unknown"]
    assert dialect.drops == {"event-unknown": FAULTS_MAX + 10}


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"", "binary-truncated"), (b"\x12" + bytes(6), "binary-truncated")]
    + [(bytes((kind,)) + bytes(7), "binary-kind") for kind in (0x10, 0x11, 0x13, 0x1F)],
)
def test_malformed_binary_messages_are_told(message: bytes, code: str) -> None:
    dialect = opened()
    dialect.receive(message)
    assert [each["code"] for each in said(dialect)] == [code]
    assert ordered(dialect) == []


@pytest.mark.parametrize("first", [0x00, 0x02, 0x22, 0xFF])
def test_another_version_ends_the_connection(first: int) -> None:
    with pytest.raises(BackendError, match="begins with 0x12") as caught:
        opened().receive(bytes((first,)) + bytes(327))
    assert caught.value.reason == "binary-version"


def test_too_many_faults_end_the_connection() -> None:
    dialect = opened()
    for _ in range(FAULTS_MAX):
        dialect.receive("{")
        assert len(said(dialect)) == 1
    with pytest.raises(BackendError) as caught:
        dialect.receive("{")
    assert caught.value.reason == "too-many-errors"
    reopened(dialect).receive("{")


# A second connection.


def test_a_new_connection_counts_its_own_items() -> None:
    dialect = opened()
    old = only_item(dialect, 1)
    reopened(dialect)
    assert ordered(dialect) == [EndItem(old)]
    assert only_item(dialect, 0) != old
    _, same_number = play(dialect, 1, b"\1\2")
    assert isinstance(same_number, Play)
    assert same_number.item != old


def test_a_new_connection_hears_nothing_of_the_old_ones_items_and_marks() -> None:
    dialect = opened()
    old = only_item(dialect, 1)
    (mark,) = tell(dialect, "mark", name="m")
    assert isinstance(mark, Mark)
    reopened(dialect)
    dialect.notify(ItemStarted(old))
    dialect.notify(MarkReached(mark.name, cleared=False))
    dialect.notify(ItemEnded(ItemPosition(old, 1.0, None)))
    dialect.notify(Cleared((ItemPosition(old, 1.0, None),)))
    assert said(dialect) == [{"type": "cleared", "items": []}]


def test_a_new_connection_starts_unpaused_and_with_audio() -> None:
    dialect = opened()
    tell(dialect, "pause")
    tell(dialect, "media", audio=False)
    reopened(dialect)
    assert ordered(dialect) == [Resume()]
    assert dialect.hear(AudioFrame(Label.RECEIVED, 0.0, 0.02, 0.0, b"", None)) is not None
    reopened(dialect)
    assert ordered(dialect) == []


def test_what_was_not_sent_on_the_old_connection_is_not_sent_on_the_new() -> None:
    dialect = opened()
    dialect.notify(Digit("1", 0.0))
    dialect.open(FACTS, again=True)
    assert [each["type"] for each in said(dialect)] == ["start"]
