"""The documents of edge.v1 are what is spoken: its JSON schema, and docs/signaling.md."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from edge.client.messages import decode_server_message, encode_client_message
from edge.signal.messages import (
    ByeReason,
    ClientMessage,
    ErrorCode,
    Layer,
    LayerState,
    ServerMessage,
    Verdict,
    decode_client_message,
    encode_server_message,
)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "make-schema"
SCHEMA = ROOT / "docs" / "schema" / "edge.v1.json"
DOCUMENT = (ROOT / "docs" / "signaling.md").read_text(encoding="utf-8")
CLIENT, SERVER = DOCUMENT.split("\n## From the server\n")
CLIENT_KINDS: tuple[Any, ...] = get_args(ClientMessage)
SERVER_KINDS: tuple[Any, ...] = get_args(ServerMessage)


def sections(text: str) -> dict[str, str]:
    """Return the parts under ``###`` headings, by heading."""
    return dict(re.findall(r"\n### (\S+)\n(.*?)(?=\n##|\Z)", text, re.DOTALL))


def examples(text: str) -> list[str]:
    return re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)


def tag(kind: Any) -> str:
    return str(kind.__struct_config__.tag)


def values_of(schema: dict[str, Any], name: str) -> set[str]:
    return set(schema["$defs"][name]["enum"])


def test_the_schema_is_current() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_schema_has_every_message_and_every_word() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for name, kinds in (("ClientMessage", CLIENT_KINDS), ("ServerMessage", SERVER_KINDS)):
        mapping = schema["$defs"][name]["discriminator"]["mapping"]
        assert mapping == {tag(kind): f"#/$defs/{kind.__name__}" for kind in kinds}
    for words in (ErrorCode, ByeReason, Verdict, Layer, LayerState):
        assert values_of(schema, words.__name__) == {each.value for each in words}


@pytest.mark.parametrize("kind", CLIENT_KINDS)
def test_a_clients_message_is_documented(kind: Any) -> None:
    text = sections(CLIENT)[tag(kind)]
    check_fields(kind, text)
    found = examples(text)
    assert found
    for example in found:
        message = decode_client_message(example)
        assert isinstance(message, kind)
        if kind.__struct_config__.forbid_unknown_fields:
            assert json.loads(encode_client_message(message)) == full(kind, example)


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_a_servers_message_is_documented(kind: Any) -> None:
    text = sections(SERVER)[tag(kind)]
    check_fields(kind, text)
    found = examples(text)
    assert found
    for example in found:
        message = decode_server_message(example)
        assert isinstance(message, kind)
        assert json.loads(encode_server_message(message)) == json.loads(example)


@pytest.mark.parametrize("words", [ErrorCode, ByeReason, Verdict])
def test_every_word_has_a_row_in_its_table(words: Any) -> None:
    section = {ErrorCode: "error", ByeReason: "bye", Verdict: "bye"}[words]
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", sections(SERVER)[section], re.MULTILINE)
    documented = set(re.findall(r"`([a-z-]+)`", " ".join(rows)))
    assert {each.value for each in words} <= documented


def test_nothing_is_documented_that_there_is_not() -> None:
    assert sections(CLIENT).keys() == {tag(kind) for kind in CLIENT_KINDS}
    assert sections(SERVER).keys() == {tag(kind) for kind in SERVER_KINDS}
    words = {each.value for words in (ErrorCode, ByeReason, Verdict) for each in words}
    for section in ("error", "bye"):
        rows = re.findall(r"^\| `([a-z-]+)`", sections(SERVER)[section], re.MULTILINE)
        fields = {"code", "reason", "verdict", "message"}
        assert set(rows) - words - fields - {"retry_after"} == set()


def check_fields(kind: Any, text: str) -> None:
    """Assert that every field is named; one field may be told in prose."""
    for field in msgspec.structs.fields(kind):
        assert f"`{field.encode_name}`" in text, f"{kind.__name__}.{field.encode_name}"


def full(kind: Any, example: str) -> dict[str, Any]:
    """Return an example with the fields that it leaves out as they are encoded: null."""
    optional = {field.encode_name: None for field in msgspec.structs.fields(kind)}
    return {**optional, **json.loads(example)}
