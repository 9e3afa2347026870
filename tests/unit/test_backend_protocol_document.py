"""The examples in docs/backend-protocol.md are what is sent and taken."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from edge.backend import native_messages as wire
from edge.media.frames import AudioFrame, Label
from edge.rtp.extensions import AudioLevel

DOCUMENT = (Path(__file__).parents[2] / "docs" / "backend-protocol.md").read_text()
NATIVE, TWILIO = DOCUMENT.split("\n# Twilio\n")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "twilio_messages.json"


def section(title: str) -> str:
    return NATIVE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def examples(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    for block in re.findall("```json\n(.*?)```", text, re.DOTALL):
        at = 0
        while block[at:].strip():
            at += len(block[at:]) - len(block[at:].lstrip())
            value, at = decoder.raw_decode(block, at)
            yield value


def tags(union: object) -> set[object]:
    return {each.__struct_config__.tag for each in get_args(union)}


def after(text: str) -> bytes:
    """Return the bytes of the hexadecimal example behind a text."""
    found = re.search("```\n([0-9a-f ]+)", DOCUMENT.split(text)[1])
    assert found is not None
    return bytes.fromhex(found[1])


def test_events_from_the_backend() -> None:
    described = list(examples(section("Events from the backend")))
    assert {each["type"] for each in described} == tags(wire.EventFromBackend)
    for each in described:
        event = wire.decode_event(json.dumps(each))
        assert msgspec.to_builtins(event) == each


def test_events_from_the_appliance() -> None:
    described = list(examples(section("Events from the appliance")))
    assert {each["type"] for each in described} == tags(wire.EventToBackend)
    for each in described:
        event = msgspec.convert(each, wire.EventToBackend)
        assert json.loads(wire.encode_event(event)) == each


def test_binary_messages() -> None:
    frame = AudioFrame(Label.RECEIVED, 1.25, 0.02, 0.0035, b"", AudioLevel(True, 45))
    assert wire.encode_heard(frame) == after("voice at -45 dBov")
    assert wire.decode_sound(after("which ends with it:")) == wire.Sound(7, True, b"\xff\x7f")


def test_twilios_messages() -> None:
    shapes = json.loads(FIXTURES.read_text())
    expected = [*shapes["from_twilio"].values(), *shapes["to_twilio"].values()]
    described = list(examples(TWILIO))
    assert len(described) == len(expected)
    for ours, theirs in zip(described, sorted(expected, key=_place(described)), strict=True):
        assert _names(ours) == _names(theirs)


def _place(described: list[dict[str, Any]]) -> Any:
    kinds = [(each["event"], "sequenceNumber" in each) for each in described]
    return lambda each: kinds.index((each["event"], "sequenceNumber" in each))


def _names(value: object) -> object:
    """Return the names in an object, in any order; custom parameters are the operator's."""
    if not isinstance(value, dict):
        return None
    return {name: name != "customParameters" and _names(each) for name, each in value.items()}
