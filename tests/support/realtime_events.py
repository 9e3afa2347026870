"""What a Realtime server accepts from a client, and how it words its refusals.

As strict as the real one: an unknown type, an unknown field, a missing one and one of the wrong
type are errors, each with its code and the path of what was wrong.
"""

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from attrs import frozen
from msgspec import UNSET, UnsetType


class _Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class Pcm(_Strict, tag_field="type", tag="audio/pcm"):
    rate: Literal[24000] = 24000


class Ulaw(_Strict, tag_field="type", tag="audio/pcmu"):
    pass


class Alaw(_Strict, tag_field="type", tag="audio/pcma"):
    pass


class ServerVad(_Strict, tag_field="type", tag="server_vad"):
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, msgspec.Meta(ge=0)] = 300
    silence_duration_ms: Annotated[int, msgspec.Meta(ge=0)] = 500
    idle_timeout_ms: int | None = None
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(_Strict, tag_field="type", tag="semantic_vad"):
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


class InputAudio(_Strict):
    format: Pcm | Ulaw | Alaw | UnsetType = UNSET
    turn_detection: ServerVad | SemanticVad | UnsetType | None = UNSET
    transcription: dict[str, Any] | UnsetType | None = UNSET
    noise_reduction: dict[str, Any] | UnsetType | None = UNSET


class OutputAudio(_Strict):
    format: Pcm | Ulaw | Alaw | UnsetType = UNSET
    voice: str | UnsetType = UNSET
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=1.5)] | UnsetType = UNSET


class SessionAudio(_Strict):
    input: InputAudio | UnsetType = UNSET
    output: OutputAudio | UnsetType = UNSET


class Session(_Strict, kw_only=True):
    type: Literal["realtime"]
    audio: SessionAudio | UnsetType = UNSET
    include: list[str] | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    max_output_tokens: int | Literal["inf"] | UnsetType = UNSET
    model: str | UnsetType = UNSET
    output_modalities: list[Literal["text", "audio"]] | UnsetType = UNSET
    prompt: dict[str, Any] | UnsetType | None = UNSET
    tool_choice: Any = UNSET
    tools: list[dict[str, Any]] | UnsetType = UNSET
    tracing: Any = UNSET
    truncation: Any = UNSET


class Content(_Strict):
    type: Literal["input_text", "input_audio", "output_text", "text"]
    text: str | UnsetType = UNSET
    audio: str | UnsetType = UNSET
    transcript: str | UnsetType = UNSET


class MessageItem(_Strict, tag_field="type", tag="message"):
    role: Literal["user", "system", "assistant"]
    content: list[Content]
    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: str | UnsetType = UNSET


class _Event(_Strict, tag_field="type"):
    event_id: str | None = None


class SessionUpdate(_Event, kw_only=True, tag="session.update"):
    session: Session


class Append(_Event, kw_only=True, tag="input_audio_buffer.append"):
    audio: bytes


class Commit(_Event, kw_only=True, tag="input_audio_buffer.commit"):
    pass


class ClearBuffer(_Event, kw_only=True, tag="input_audio_buffer.clear"):
    pass


class ItemCreate(_Event, kw_only=True, tag="conversation.item.create"):
    item: MessageItem
    previous_item_id: str | None = None


class ItemDelete(_Event, kw_only=True, tag="conversation.item.delete"):
    item_id: str


class ItemTruncate(_Event, kw_only=True, tag="conversation.item.truncate"):
    item_id: str
    content_index: int
    audio_end_ms: int


class ResponseCreate(_Event, kw_only=True, tag="response.create"):
    response: dict[str, Any] | UnsetType = UNSET


class ResponseCancel(_Event, kw_only=True, tag="response.cancel"):
    response_id: str | UnsetType = UNSET


ClientEvent = (
    SessionUpdate
    | Append
    | Commit
    | ClearBuffer
    | ItemCreate
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
)

_DECODER: msgspec.json.Decoder[ClientEvent] = msgspec.json.Decoder(ClientEvent)


@frozen
class RefusedError(Exception):
    """An ``error`` event; the session goes on."""

    code: str
    message: str
    param: str | None = None
    event_id: str | None = None

    def event(self) -> dict[str, Any]:
        return {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "code": self.code,
                "message": self.message,
                "param": self.param,
                "event_id": self.event_id,
            },
        }


def decode_client_event(text: str) -> ClientEvent:
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError as exc:
        raise _refusal(str(exc), json.loads(text)) from exc
    except msgspec.DecodeError as exc:
        raise RefusedError(
            "invalid_json", f"We could not parse the JSON of your event: {exc}"
        ) from exc


def _refusal(complaint: str, event: Any) -> RefusedError:
    words, _, where = complaint.partition(" - at `$")
    param = where.rstrip("`").lstrip(".")
    field = re.search(r"field `(\w+)`", words)
    if field:
        param = f"{param}.{field[1]}".lstrip(".")
    if "unknown field" in words:
        code = "unknown_parameter"
    elif "missing required field" in words:
        code = "missing_required_parameter"
    elif words.startswith("Expected `"):
        code = "invalid_type"
    else:
        code = "invalid_value"
    event_id = event.get("event_id") if isinstance(event, dict) else None
    return RefusedError(code, f"{words}: '{param}'.", param or None, event_id)
