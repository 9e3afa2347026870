"""Whatever a backend sends is commands, counted drops, or one BackendError."""

import base64
import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backend.dialect import Dialect, Message, SessionFacts
from edge.backend.exchange import FAULTS_MAX
from edge.backend.native import NativeDialect
from edge.backend.native_messages import HEARD_HEADER
from edge.backend.twilio import TwilioDialect
from edge.errors import BackendError
from edge.media.dialogue import EndItem, HangUp, Mark, MarkReached, Play
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.payloads import Codec
from edge.rtp.extensions import AudioLevel

FACTS = SessionFacts("session", "route", Codec.OPUS)
PCM = AudioFormat(Encoding.PCM16, 16000)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
NATIVE_TYPES = ["media", "end_item", "mark", "clear", "pause", "resume", "stop", "start", "dtmf"]
NATIVE = st.fixed_dictionaries(
    {"type": st.sampled_from(NATIVE_TYPES) | JSON},
    optional={
        "item": st.integers(-1, 5) | JSON,
        "name": st.text() | JSON,
        "audio": st.booleans() | JSON,
        "reason": st.text() | JSON,
    },
)
TWILIO = st.fixed_dictionaries(
    {"event": st.sampled_from(["media", "mark", "clear", "stop", "start"]) | JSON},
    optional={
        "media": st.fixed_dictionaries(
            {"payload": st.binary().map(base64.b64encode).map(bytes.decode)}
        )
        | JSON,
        "mark": st.fixed_dictionaries({"name": st.text()}) | JSON,
        "streamSid": JSON,
    },
)
SOUND = st.builds(
    lambda first, flags, item, audio: (
        bytes((first, flags, 0, 0)) + item.to_bytes(4, "little") + audio
    ),
    st.sampled_from([0x12, 0x12, 0x12, 0x11, 0x1F, 0x21]),
    st.integers(0, 255),
    st.integers(0, 5) | st.integers(0, 2**32 - 1),
    st.binary(max_size=40),
)
ANY: st.SearchStrategy[Message] = (
    st.text(max_size=60) | st.binary(max_size=60) | JSON.map(json.dumps)
)


def native() -> NativeDialect:
    dialect = NativeDialect(PCM)
    dialect.open(FACTS, again=False)
    return dialect


def twilio() -> TwilioDialect:
    dialect = TwilioDialect()
    dialect.open(FACTS, again=False)
    return dialect


def ending(dialect: Dialect, message: Message) -> str | None:
    """Feed a message; return why that ends the connection, if it does."""
    try:
        dialect.receive(message)
    except BackendError as exc:
        return exc.reason
    return None


def converse(dialect: Dialect, messages: Iterable[Message]) -> None:
    """Feed and drain as a link does, and hold every command to its promises."""
    over: set[str] = set()
    for message in messages:
        faults = sum(dialect.drops.values())
        ended = ending(dialect, message)
        assert ended in (None, "binary-version", "too-many-errors")
        if ended:
            return
        assert sum(dialect.drops.values()) <= faults + 1
        while (answer := dialect.next_message()) is not None:
            assert isinstance(answer, str)
            assert json.loads(answer)
        while (command := dialect.next_command()) is not None:
            match command:
                case Play(item, audio):
                    assert audio
                    assert item not in over
                case EndItem(item):
                    assert item not in over
                    over.add(item)
                case Mark(name):
                    assert len(name) < 300
                case HangUp(reason):
                    assert len(reason) <= 200
    assert "message-queue-full" not in dialect.drops
    assert "command-queue-full" not in dialect.drops


@given(st.lists(NATIVE.map(json.dumps) | SOUND | ANY, max_size=30))
@settings(max_examples=200)
def test_the_native_dialect_takes_anything(messages: list[Message]) -> None:
    converse(native(), messages)


@given(st.lists(TWILIO.map(json.dumps) | ANY, max_size=30))
@settings(max_examples=200)
def test_the_twilio_dialect_takes_anything(messages: list[Message]) -> None:
    converse(twilio(), messages)


@given(st.lists(st.binary(max_size=6), min_size=FAULTS_MAX, max_size=FAULTS_MAX))
@settings(max_examples=3)
def test_nobody_is_faulty_for_ever(rests: list[bytes]) -> None:
    dialect = native()
    for rest in rests:
        dialect.receive(b"\x12" + rest)
    with pytest.raises(BackendError, match="faults"):
        dialect.receive(b"\x12")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=256), st.booleans())
@settings(max_examples=100)
def test_a_marks_name_comes_back_as_it_was(name: str, cleared: bool) -> None:
    for dialect, ask in (
        (native(), {"type": "mark", "name": name}),
        (twilio(), {"event": "mark", "mark": {"name": name}}),
    ):
        dialect.receive(json.dumps(ask))
        mark = dialect.next_command()
        assert isinstance(mark, Mark)
        while dialect.next_message() is not None:
            pass
        dialect.notify(MarkReached(mark.name, cleared=cleared))
        answer = dialect.next_message()
        assert isinstance(answer, str)
        assert name in (
            json.loads(answer).get("name"),
            json.loads(answer).get("mark", {}).get("name"),
        )


@given(
    st.builds(
        AudioFrame,
        st.sampled_from(Label),
        st.floats(0, 1e6),
        st.sampled_from([0.0025, 0.01, 0.02, 0.06, 0.12]),
        st.floats(0, 4000),
        st.binary(max_size=40),
        st.none() | st.builds(AudioLevel, st.booleans(), st.integers(0, 127)),
    )
)
@settings(max_examples=200)
def test_a_frame_can_be_read_back(frame: AudioFrame) -> None:
    message = native().hear(frame)
    assert message is not None
    first, label, flags, level, delay, media_time, duration = HEARD_HEADER.unpack_from(message)
    assert first == 0x11
    assert list(Label)[label] is frame.label
    assert abs(media_time / 1e6 - frame.media_time) < 1e-6
    assert abs(duration / 1e6 - frame.duration) < 1e-6
    assert abs(delay / 1e6 - frame.delay) < 1e-6
    assert message[20:] == frame.audio
    assert (AudioLevel(bool(flags & 2), level) if flags & 1 else None) == frame.level
