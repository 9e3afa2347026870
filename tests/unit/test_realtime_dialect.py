"""The Realtime dialect, message by message."""

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.backend.dialect import SessionFacts
from edge.backend.realtime import HOLD_MAX, MALFORMED_MAX, PLAYING_MAX, RealtimeDialect
from edge.backend.realtime_settings import (
    DigitPolicy,
    RealtimeSettings,
    realtime_url,
    session_object,
)
from edge.errors import BackendError
from edge.media.dialogue import (
    Clear,
    Cleared,
    Command,
    Digit,
    EndItem,
    ItemEnded,
    ItemPosition,
    MarkReached,
    Play,
)
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.payloads import Codec

FACTS = SessionFacts(session="s1", route="sales", codec=Codec.OPUS)
SETTINGS = RealtimeSettings(model="m")


def frame(audio: bytes = bytes(960), label: Label = Label.RECEIVED) -> AudioFrame:
    return AudioFrame(label, 0.0, 0.02, 0.0, audio, None)


def server(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, "event_id": "event_1", **fields})


def delta(
    item: str = "item_a", pcm: bytes = bytes(960), *, response: str = "resp_1", index: int = 0
) -> str:
    return server(
        "response.output_audio.delta",
        item_id=item,
        response_id=response,
        output_index=0,
        content_index=index,
        delta=b64encode(pcm).decode(),
    )


def sent(dialect: RealtimeDialect) -> list[dict[str, Any]]:
    found = []
    while (message := dialect.next_message()) is not None:
        found.append(json.loads(message))
    return found


def commands(dialect: RealtimeDialect) -> list[Command]:
    found = []
    while (command := dialect.next_command()) is not None:
        found.append(command)
    return found


def ready(settings: RealtimeSettings = SETTINGS) -> RealtimeDialect:
    """Return a dialect whose server has accepted its settings."""
    dialect = RealtimeDialect(settings)
    dialect.open(FACTS, again=False)
    (update,) = sent(dialect)
    dialect.receive(server("session.created", session={"type": "realtime"}))
    dialect.receive(server("session.updated", session=update["session"]))
    return dialect


def answering(settings: RealtimeSettings = SETTINGS, *, seconds: float = 1.0) -> RealtimeDialect:
    """Return a dialect in the middle of an answer, with the name of its only item taken."""
    dialect = ready(settings)
    dialect.receive(server("response.created", response={"id": "resp_1"}))
    dialect.receive(delta(pcm=bytes(round(seconds * 48_000))))
    return dialect


def playing(dialect: RealtimeDialect) -> str:
    return [each.item for each in commands(dialect) if isinstance(each, Play)][-1]


# The session


def test_the_session_is_configured_with_the_first_message() -> None:
    dialect = RealtimeDialect(
        RealtimeSettings(model="m", voice="marin", instructions="Be short.", interrupt=False)
    )
    dialect.open(FACTS, again=False)
    (update,) = sent(dialect)
    pcm = {"type": "audio/pcm", "rate": 24000}
    assert update["type"] == "session.update"
    assert update["session"] == {
        "type": "realtime",
        "instructions": "Be short.",
        "audio": {
            "input": {
                "format": pcm,
                "turn_detection": {
                    "type": "server_vad",
                    "create_response": True,
                    "interrupt_response": False,
                },
            },
            "output": {"format": pcm, "voice": "marin"},
        },
    }
    assert dialect.format == AudioFormat(encoding=Encoding.PCM16, rate_hz=24_000)


def test_the_operators_session_object_wins_but_for_type_and_formats() -> None:
    extra = {
        "type": "transcription",
        "max_output_tokens": 400,
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"},
                "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
                "noise_reduction": {"type": "near_field"},
            },
            "output": {"speed": 1.1},
        },
    }
    session = session_object(RealtimeSettings(model="m", voice="marin", session=extra))
    assert session["type"] == "realtime"
    assert session["max_output_tokens"] == 400
    assert session["audio"]["output"] == {
        "voice": "marin",
        "speed": 1.1,
        "format": {"type": "audio/pcm", "rate": 24000},
    }
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "low",
        "create_response": True,
        "interrupt_response": True,
    }
    assert session["audio"]["input"]["noise_reduction"] == {"type": "near_field"}


@pytest.mark.parametrize("audio", ["x", {"input": 1}, {"input": {"turn_detection": None}}])
def test_any_session_object_can_be_sent(audio: Any) -> None:
    dialect = RealtimeDialect(RealtimeSettings(model="m", session={"audio": audio}))
    dialect.open(FACTS, again=False)
    (update,) = sent(dialect)
    assert update["session"]["audio"]["input"]["format"]["type"] == "audio/pcm"


def test_the_model_is_part_of_the_address() -> None:
    assert (
        realtime_url("wss://host/v1/realtime", "gpt realtime")
        == "wss://host/v1/realtime?model=gpt+realtime"
    )
    assert (
        realtime_url("wss://host/p?api-version=1&model=old&x=", "new")
        == "wss://host/p?api-version=1&x=&model=new"
    )


def test_a_refused_configuration_ends_the_link() -> None:
    dialect = RealtimeDialect(SETTINGS)
    dialect.open(FACTS, again=False)
    (update,) = sent(dialect)
    fault = {
        "type": "invalid_request_error",
        "code": "unknown_parameter",
        "message": "Unknown parameter: 'session.tpye'.",
        "event_id": update["event_id"],
    }
    with pytest.raises(BackendError, match="tpye") as caught:
        dialect.receive(server("error", error=fault))
    assert caught.value.reason == "session-refused"


@pytest.mark.parametrize(
    "audio",
    [
        {"input": {"format": {"type": "audio/pcmu"}}},
        {"output": {"format": {"type": "audio/pcma"}}},
        {"output": {"format": {"type": "audio/pcm", "rate": 16000}}},
    ],
)
def test_a_server_with_another_format_is_not_listened_to(audio: dict[str, Any]) -> None:
    dialect = RealtimeDialect(SETTINGS)
    dialect.open(FACTS, again=False)
    with pytest.raises(BackendError) as caught:
        dialect.receive(server("session.updated", session={"audio": audio}))
    assert caught.value.reason == "format-refused"


# What the client says


def test_frames_wait_for_the_settings_and_none_is_lost() -> None:
    dialect = RealtimeDialect(SETTINGS)
    dialect.open(FACTS, again=False)
    sent(dialect)
    first, second, third = (bytes([each]) * 960 for each in (1, 2, 3))
    assert dialect.hear(frame(first)) is None
    assert dialect.hear(frame(second)) is None
    dialect.receive(server("session.updated", session={}))
    message = dialect.hear(frame(third))
    assert message is not None
    append = json.loads(message)
    assert append["type"] == "input_audio_buffer.append"
    assert b64decode(append["audio"]) == first + second + third
    assert not sent(dialect)  # all sound goes one way, so that it stays in order


def test_a_server_that_never_answers_the_settings_is_spoken_to_all_the_same() -> None:
    dialect = RealtimeDialect(SETTINGS)
    dialect.open(FACTS, again=False)
    sent(dialect)
    held = round(HOLD_MAX / 0.02)
    messages = [dialect.hear(frame()) for _ in range(held + 2)]
    assert messages[: held - 1] == [None] * (held - 1)
    first, *others = [each for each in messages if each is not None]
    assert len(b64decode(json.loads(first)["audio"])) == held * 960
    assert [len(b64decode(json.loads(each)["audio"])) for each in others] == [960, 960]


@pytest.mark.parametrize("label", list(Label))
def test_every_kind_of_frame_is_sent_so_that_time_passes_evenly(label: Label) -> None:
    assert ready().hear(frame(label=label)) is not None


def test_frames_can_be_gathered() -> None:
    dialect = ready(RealtimeSettings(model="m", gather_ms=60))
    messages = [dialect.hear(frame(bytes([each]) * 960)) for each in range(6)]
    assert [each is None for each in messages] == [True, True, False] * 2
    assert messages[5] is not None
    audio = b64decode(json.loads(messages[5])["audio"])
    assert audio == bytes([3]) * 960 + bytes([4]) * 960 + bytes([5]) * 960


def test_digits_are_counted_or_become_text() -> None:
    dialect = ready()
    dialect.notify(Digit("5", 1.0))
    assert sent(dialect) == []
    assert dialect.drops == {"digit": 1}
    dialect = ready(RealtimeSettings(model="m", digits=DigitPolicy.TEXT))
    dialect.notify(Digit("#", 1.0))
    (event,) = sent(dialect)
    assert event["type"] == "conversation.item.create"
    assert event["item"]["role"] == "user"
    assert event["item"]["content"][0]["type"] == "input_text"
    assert "#" in event["item"]["content"][0]["text"]


# What the model says


@pytest.mark.parametrize("name", ["response.output_audio", "response.audio"])
def test_an_answer_is_one_item_played_and_ended(name: str) -> None:
    dialect = ready()
    dialect.receive(server("response.created", response={"id": "resp_1"}))
    for piece in (b"\1\0", b"\2\0\3\0"):
        audio = b64encode(piece).decode()
        dialect.receive(
            server(f"{name}.delta", item_id="item_a", response_id="resp_1", delta=audio)
        )
    dialect.receive(server(f"{name}.done", item_id="item_a", content_index=0))
    dialect.receive(server("response.done", response={"id": "resp_1", "status": "completed"}))
    first, second, end = commands(dialect)
    assert isinstance(first, Play)
    assert [first, second, end] == [
        Play(first.item, b"\1\0"),
        Play(first.item, b"\2\0\3\0"),
        EndItem(first.item),
    ]


def test_items_and_parts_of_a_response_are_items_of_their_own() -> None:
    dialect = ready()
    for message in (delta("item_a"), delta("item_b"), delta("item_b", index=1)):
        dialect.receive(message)
    assert len({each.item for each in commands(dialect) if isinstance(each, Play)}) == 3


def test_a_response_that_ends_ends_its_own_items_only() -> None:
    dialect = ready()
    dialect.receive(delta("item_a", response="resp_1"))
    dialect.receive(delta("item_b", response="resp_2"))
    first, _ = commands(dialect)
    assert isinstance(first, Play)
    dialect.receive(server("response.done", response={"id": "resp_1", "status": "completed"}))
    assert commands(dialect) == [EndItem(first.item)]


def test_what_is_not_for_us_is_ignored() -> None:
    dialect = ready()
    for message in (
        server("response.output_audio_transcript.delta", delta="Hello"),
        server("conversation.item.added", item={"id": 1}),
        server("rate_limits.updated", rate_limits=[]),
        server("something.new", item_id=7, delta={"not": "a string"}),
        delta(pcm=b""),
    ):
        dialect.receive(message)
    dialect.notify(MarkReached("m", cleared=False))
    assert not commands(dialect)
    assert not sent(dialect)
    assert not dialect.drops


# Barge-in


def test_speech_clears_and_the_heard_position_truncates_once() -> None:
    dialect = answering()
    item = playing(dialect)
    dialect.receive(server("input_audio_buffer.speech_started", audio_start_ms=1, item_id="u"))
    assert commands(dialect) == [Clear()]
    assert not sent(dialect)  # the server ends its response by itself
    cleared = Cleared((ItemPosition(item, sent=0.5, received=0.42),))
    dialect.notify(cleared)
    assert sent(dialect) == [
        {
            "type": "conversation.item.truncate",
            "item_id": "item_a",
            "content_index": 0,
            "audio_end_ms": 420,
        }
    ]
    dialect.notify(cleared)
    dialect.notify(ItemEnded(ItemPosition(item, 0.5, 0.5)))
    assert not sent(dialect)


@pytest.mark.parametrize(
    ("sent_to", "received", "heard_ms"),
    [
        (0.5, None, 500),
        (0.5, 0.42, 420),
        (0.9, 0.1, 900),  # an old report says nothing of what was heard since
        (0.5, 0.6, 500),  # more received than sent is nonsense
        (1.02, None, 1000),  # never more than the server has sent
        (0.0, None, 0),
    ],
)
def test_the_heard_position(sent_to: float, received: float | None, heard_ms: int) -> None:
    dialect = answering(seconds=1.0)
    item = playing(dialect)
    dialect.receive(server("input_audio_buffer.speech_started"))
    dialect.notify(Cleared((ItemPosition(item, sent_to, received),)))
    assert sent(dialect)[0]["audio_end_ms"] == heard_ms


def test_an_item_whose_sound_is_complete_is_truncated_while_it_plays() -> None:
    dialect = answering()
    item = playing(dialect)
    dialect.receive(server("response.output_audio.done", item_id="item_a", content_index=0))
    dialect.receive(server("response.done", response={"id": "resp_1", "status": "completed"}))
    commands(dialect)
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert commands(dialect) == [Clear()]
    dialect.notify(Cleared((ItemPosition(item, 0.98, None),)))
    assert [event["audio_end_ms"] for event in sent(dialect)] == [980]


def test_after_the_end_there_is_nothing_to_clear() -> None:
    dialect = answering()
    item = playing(dialect)
    dialect.receive(server("response.done", response={"id": "resp_1", "status": "completed"}))
    dialect.notify(ItemEnded(ItemPosition(item, 1.0, None)))
    commands(dialect)
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert not commands(dialect)
    assert not sent(dialect)


def test_an_item_that_ran_dry_and_went_on_is_truncated_at_its_whole_length() -> None:
    dialect = answering(seconds=1.0)
    item = playing(dialect)
    dialect.notify(ItemEnded(ItemPosition(item, 1.0, None)))  # another item came first
    dialect.receive(delta(pcm=bytes(48_000)))
    assert playing(dialect) == item
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert commands(dialect) == [Clear()]
    dialect.notify(Cleared((ItemPosition(item, 0.25, None),)))
    assert sent(dialect)[0]["audio_end_ms"] == 1250


def test_late_sound_of_a_cut_answer_is_dropped_and_the_next_answer_plays() -> None:
    dialect = answering()
    commands(dialect)
    dialect.receive(server("input_audio_buffer.speech_started"))
    commands(dialect)
    dialect.receive(delta("item_a"))
    dialect.receive(delta("item_b"))  # of the same response, not begun before
    dialect.receive(server("response.done", response={"id": "resp_1", "status": "cancelled"}))
    assert not commands(dialect)
    assert dialect.drops == {"late-audio": 2}
    dialect.receive(server("response.created", response={"id": "resp_2"}))
    dialect.receive(delta("item_c", response="resp_2"))
    assert playing(dialect).startswith("item_c")


def test_a_response_without_sound_so_far_is_cut_as_well() -> None:
    dialect = ready()
    dialect.receive(server("response.created", response={"id": "resp_1"}))
    dialect.receive(server("input_audio_buffer.speech_started"))
    dialect.receive(delta(response="resp_1"))
    assert not commands(dialect)
    assert dialect.drops == {"late-audio": 1}


def test_we_cancel_the_response_of_a_server_that_does_not() -> None:
    detection = {"interrupt_response": False}
    extra = {"audio": {"input": {"turn_detection": detection}}}
    dialect = answering(RealtimeSettings(model="m", session=extra))
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert sent(dialect) == [{"type": "response.cancel", "response_id": "resp_1"}]
    dialect.receive(server("response.done", response={"id": "resp_1", "status": "cancelled"}))
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert not sent(dialect)  # nothing is in progress any more


def test_what_the_server_says_of_interruptions_counts_more_than_what_we_asked() -> None:
    dialect = RealtimeDialect(SETTINGS)
    dialect.open(FACTS, again=False)
    sent(dialect)
    detection = {"type": "server_vad", "interrupt_response": False}
    session = {"audio": {"input": {"turn_detection": detection}}}
    dialect.receive(server("session.updated", session=session))
    dialect.receive(server("response.created", response={"id": "resp_1"}))
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert [event["type"] for event in sent(dialect)] == ["response.cancel"]


def test_without_interruptions_the_answer_goes_on() -> None:
    dialect = answering(RealtimeSettings(model="m", interrupt=False))
    commands(dialect)
    dialect.receive(server("input_audio_buffer.speech_started"))
    dialect.receive(delta())
    assert [type(each) for each in commands(dialect)] == [Play]


def test_all_items_are_truncated_also_those_that_only_waited() -> None:
    dialect = ready()
    dialect.receive(delta("item_a", bytes(4800)))
    dialect.receive(delta("item_b", bytes(4800), index=1))
    first, second = [each.item for each in commands(dialect) if isinstance(each, Play)]
    dialect.receive(server("input_audio_buffer.speech_started"))
    positions = (ItemPosition(first, 0.04, None), ItemPosition(second, 0.0, None))
    dialect.notify(Cleared(positions))
    assert [
        (each["item_id"], each["content_index"], each["audio_end_ms"]) for each in sent(dialect)
    ] == [("item_a", 0, 40), ("item_b", 1, 0)]


# A new connection


def test_a_new_conversation_is_told_nothing_of_the_old() -> None:
    dialect = answering()
    item = playing(dialect)
    dialect.open(FACTS, again=True)
    assert commands(dialect) == [EndItem(item)]  # what was sent is played
    assert [event["type"] for event in sent(dialect)] == ["session.update"]
    assert dialect.hear(frame()) is None
    dialect.receive(server("session.updated", session={}))
    sent(dialect)
    dialect.receive(delta("item_a", response="resp_1"))  # the same ids, another conversation
    assert playing(dialect) != item
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert commands(dialect) == [Clear()]
    dialect.notify(Cleared((ItemPosition(item, 0.3, None),)))
    assert not sent(dialect)


# Errors


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"type": "invalid_request_error", "code": "session_expired"}, "session-expired"),
        ({"type": "invalid_request_error", "code": "invalid_api_key"}, "key-refused"),
        ({"type": "insufficient_quota", "code": None}, "quota-exceeded"),
        ({"type": "invalid_request_error", "code": "model_not_found"}, "model-refused"),
    ],
)
def test_errors_after_which_nothing_comes_end_the_link(fault: dict[str, Any], reason: str) -> None:
    with pytest.raises(BackendError) as caught:
        ready().receive(server("error", error={**fault, "message": "No."}))
    assert caught.value.reason == reason


def test_a_failed_response_is_an_error_too() -> None:
    dialect = answering()
    fault = {"type": "rate_limit_exceeded", "code": None, "message": "Slow down."}
    failed = {"id": "resp_1", "status": "failed", "status_details": {"error": fault}}
    dialect.receive(server("response.done", response=failed))
    assert dialect.drops == {"response-failed": 1}
    assert dialect.last_error == "rate_limit_exceeded: Slow down."
    fault["code"] = "insufficient_quota"
    with pytest.raises(BackendError) as caught:
        dialect.receive(server("response.done", response=failed))
    assert caught.value.reason == "quota-exceeded"


def test_other_errors_are_counted_and_the_last_is_kept_short() -> None:
    dialect = ready()
    fault = {"type": "server_error", "code": None, "message": "x" * 5000}
    dialect.receive(server("error", error=fault))
    assert dialect.drops == {"server-error": 1}
    assert dialect.last_error is not None
    assert len(dialect.last_error) == 200
    fault["message"] = "two\nlines\x1b[2J"
    dialect.receive(server("error", error=fault))
    assert dialect.last_error == "server_error: two lines [2J"


def test_the_words_about_a_key_are_not_kept() -> None:
    dialect = ready()
    fault = {"code": "invalid_api_key", "message": "Incorrect API key provided: sk-secret"}
    with pytest.raises(BackendError) as caught:
        dialect.receive(server("error", error=fault))
    assert "secret" not in f"{caught.value}{dialect.last_error}"


@pytest.mark.parametrize(
    "message",
    [
        "",
        "hello",
        "[]",
        '{"kind": 1}',
        '{"type": 1}',
        b"\0\1",
        server("response.output_audio.delta", item_id="a", delta="!"),
        server("response.output_audio.delta", delta="AAAA"),
        server("response.output_audio.delta", item_id="a" * 200, delta="AAAA"),
        server("response.output_audio.delta", item_id="a", content_index=-1, delta="AAAA"),
        server("error"),
        '{"type":"x","deep":' + "[" * 100_000,
        '{"type":"\ud800"}',
    ],
)
def test_garbage_is_counted_and_too_much_of_it_ends_the_link(message: str | bytes) -> None:
    dialect = ready()
    for _ in range(MALFORMED_MAX):
        dialect.receive(message)
    assert dialect.drops == {"malformed-message": MALFORMED_MAX}
    assert not commands(dialect)
    with pytest.raises(BackendError) as caught:
        dialect.receive(message)
    assert caught.value.reason == "too-many-errors"


def test_what_is_remembered_of_items_is_bounded() -> None:
    dialect = ready()
    for number in range(2_000):
        dialect.receive(delta(f"item_{number}", b"\0\0"))
    commands(dialect)
    assert dialect.drops["item-forgotten"] == 2_000 - PLAYING_MAX
    dialect.receive(server("input_audio_buffer.speech_started"))
    assert commands(dialect) == [Clear()]


def test_after_close_nothing_happens() -> None:
    dialect = answering()
    commands(dialect)
    dialect.close("hang-up")
    dialect.close("hang-up")
    assert dialect.hear(frame()) is None
    dialect.receive(delta())
    dialect.receive("garbage")
    dialect.notify(Digit("1", 0.0))
    assert not commands(dialect)
    assert not sent(dialect)
    assert not dialect.drops


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_TYPES = st.sampled_from(
    [
        "session.updated",
        "response.created",
        "response.done",
        "response.output_audio.delta",
        "response.output_audio.done",
        "input_audio_buffer.speech_started",
        "error",
        "unknown",
    ]
)
_FIELDS = st.fixed_dictionaries(
    {"type": _TYPES},
    optional={
        "session": _JSON,
        "response": _JSON,
        "error": _JSON,
        "item_id": _JSON,
        "delta": _JSON | st.binary(max_size=9).map(lambda raw: b64encode(raw).decode()),
    },
)


@given(st.lists(st.text() | st.binary() | _FIELDS.map(json.dumps), max_size=8))
def test_no_message_raises_anything_but_a_backend_error(received: list[str | bytes]) -> None:
    dialect = ready()
    for message in received:
        try:
            dialect.receive(message)
        except BackendError as exc:
            assert exc.reason in {"too-many-errors", "format-refused"}  # noqa: PT017
        sent(dialect)
        for command in commands(dialect):
            assert isinstance(command, Play | EndItem | Clear)
