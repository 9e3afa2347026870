"""One client's conversation with the fake Realtime server.

It hears speech by its energy, answers with a tone of known length that it streams faster than real
time in pieces of random size, keeps the items with their truncations, and records everything.
"""

import json
import random
from base64 import b64encode
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import trio
from attrs import define, field, frozen
from trio_websocket import ConnectionClosed, WebSocketConnection

from tests.support import realtime_events as events
from tests.support.realtime_events import RefusedError

RATE_HZ = 24_000
BYTES_PER_MS = RATE_HZ * 2 // 1000
WINDOW_BYTES = 20 * BYTES_PER_MS
ONSET_WINDOWS = 3
APPEND_BYTES_MAX = 15 * 1024 * 1024


@frozen
class FakeSettings:
    key: str | None = None
    """What the Authorization header has to carry; other clients get HTTP status 401."""
    refuse: int | None = None
    """HTTP status for every client."""
    is_silent: bool = False
    """Accept connections, and then neither read nor write."""
    tone: float = 1.0
    """Seconds of each answer."""
    speed: float = 20.0
    """How many times faster than real time an answer is streamed."""
    is_beta: bool = False
    """The audio events have their old names."""
    seed: int = 1


@define
class Item:
    """A conversation item."""

    id: str
    role: str
    status: str = "completed"
    text: str = ""
    """What was said: for the model's sound its transcript, which a truncation removes."""
    sound: bytearray = field(factory=bytearray, repr=False)
    truncated_ms: int | None = None

    @property
    def sound_ms(self) -> int:
        return len(self.sound) // BYTES_PER_MS

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "role": self.role,
            "status": self.status,
            "content": [],
        }


@define
class Response:
    id: str
    item: Item
    scope: trio.CancelScope = field(factory=trio.CancelScope, repr=False)
    status: str = "in_progress"


def tone(seconds: float, *, hz: float = 440.0) -> bytes:
    """Return PCM16 at 24 kHz, loud enough for the fake's ears too."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (np.sin(2 * np.pi * hz * time) * 8000).astype("<i2").tobytes()


class FakeConversation:
    """One client's session."""

    def __init__(self, ws: WebSocketConnection, path: str, settings: FakeSettings) -> None:
        self.path, self.settings = path, settings
        self.received: list[dict[str, Any]] = []
        """Every client event, those with sound without it."""
        self.refusals: list[RefusedError] = []
        self.heard = bytearray()
        """All that was appended."""
        self.items: dict[str, Item] = {}
        self.responses: list[Response] = []
        self.session: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": "sess_fake",
            "output_modalities": ["audio"],
            "instructions": "",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": RATE_HZ},
                    "turn_detection": _plain(events.ServerVad()),
                },
                "output": {"format": {"type": "audio/pcm", "rate": RATE_HZ}, "voice": "alloy"},
            },
        }
        self._ws = ws
        self._random = random.Random(settings.seed)
        self._send, self._outgoing = trio.open_memory_channel[str | bytes](10_000)
        self._nursery: trio.Nursery
        self._reading = trio.Event()
        self._reading.set()
        self._changed = trio.Event()
        # Turn detection
        self._buffer = bytearray()
        self._window = bytearray()
        self._windows = self._loud = self._quiet = 0
        self._speaking: str | None = None  # id of the item that will come of it

    # For tests

    def emit(self, event: dict[str, Any]) -> None:
        """Send an event, also one that makes no sense."""
        event = {"event_id": f"event_{self._random.getrandbits(64):016x}", **event}
        self.emit_raw(json.dumps(event))

    def emit_raw(self, message: str | bytes) -> None:
        self._send.send_nowait(message)

    def fail(self, code: str, *, kind: str = "invalid_request_error", message: str = "") -> None:
        """Send an ``error`` event out of the blue."""
        error = {"type": kind, "code": code, "message": message, "param": None, "event_id": None}
        self.emit({"type": "error", "error": error})

    async def close(self, code: int = 1000) -> None:
        await self._ws.aclose(code)

    def stall(self) -> None:
        """Stop reading."""
        self._reading = trio.Event()

    def received_types(self) -> list[str]:
        """Types of the events other than sound, in order."""
        types = [str(event["type"]) for event in self.received]
        return [each for each in types if each != "input_audio_buffer.append"]

    async def wait_for(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait for the ``count``-th client event of a type and return it."""
        while True:
            found = [event for event in self.received if event["type"] == kind]
            if len(found) >= count:
                return found[count - 1]
            await self._changed.wait()

    # The connection

    async def run(self) -> None:
        if self.settings.is_silent:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._write)
            self.emit({"type": "session.created", "session": self.session})
            with suppress(ConnectionClosed):
                while True:
                    await self._reading.wait()
                    self.take(await self._ws.get_message())
            nursery.cancel_scope.cancel()

    async def _write(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self._outgoing:
                await self._ws.send_message(message)

    def take(self, message: str | bytes) -> None:
        """Take an event of the client."""
        try:
            event = events.decode_client_event(
                message if isinstance(message, str) else message.decode("latin-1")
            )
            self._handle(event)
        except RefusedError as refusal:
            self.refusals.append(refusal)
            self.emit(refusal.event())
        with suppress(ValueError):
            self.received.append({**json.loads(message), "audio": None})
        self._changed.set()
        self._changed = trio.Event()

    def _handle(self, event: events.ClientEvent) -> None:
        match event:
            case events.SessionUpdate():
                self._update(event)
            case events.Append():
                self._listen(event)
            case events.Commit():
                if not self._buffer:
                    raise RefusedError("input_audio_buffer_commit_empty", "The buffer is empty.")
                self._commit(self._new_id("item"))
            case events.ClearBuffer():
                self._buffer.clear()
                self.emit({"type": "input_audio_buffer.cleared"})
            case events.ItemCreate():
                item_id = event.item.id if isinstance(event.item.id, str) else self._new_id("item")
                text = "".join(part.text for part in event.item.content if part.text)
                self._add(Item(item_id, event.item.role, text=text))
            case events.ItemDelete():
                if self.items.pop(event.item_id, None) is None:
                    raise RefusedError("item_delete_invalid_item_id", "No such item.", "item_id")
                self.emit({"type": "conversation.item.deleted", "item_id": event.item_id})
            case events.ItemTruncate():
                self._truncate(event)
            case events.ResponseCreate():
                if self._active is not None:
                    raise RefusedError("conversation_already_has_active_response", "One at a time.")
                self._respond()
            case events.ResponseCancel():
                if self._active is None:
                    raise RefusedError("response_cancel_not_active", "No active response found.")
                self._finish(self._active, "cancelled", reason="client_cancelled")

    def _update(self, event: events.SessionUpdate) -> None:
        changes = _plain(event.session)
        voice = changes.get("audio", {}).get("output", {}).get("voice")
        if voice not in {None, self.session["audio"]["output"]["voice"]} and self.responses:
            raise RefusedError(
                "cannot_update_voice", "The voice was heard.", "session.audio.output"
            )
        _merge(self.session, changes)
        self.emit({"type": "session.updated", "session": self.session})

    # Turn detection

    def _listen(self, event: events.Append) -> None:
        if len(event.audio) > APPEND_BYTES_MAX:
            raise RefusedError("audio_too_long", "Too much in one event.", "audio")
        self.heard += event.audio
        self._buffer += event.audio
        self._window += event.audio
        while len(self._window) >= WINDOW_BYTES:
            window = np.frombuffer(bytes(self._window[:WINDOW_BYTES]), "<i2").astype(np.float64)
            del self._window[:WINDOW_BYTES]
            self._judge(is_loud=float(np.sqrt(np.mean(window**2))) > 500)

    def _judge(self, *, is_loud: bool) -> None:
        self._windows += 1
        self._loud, self._quiet = (self._loud + 1, 0) if is_loud else (0, self._quiet + 1)
        detection = self.session["audio"]["input"]["turn_detection"]
        if detection is None:
            return
        now_ms = self._windows * 20
        if self._speaking is None and self._loud >= ONSET_WINDOWS:
            self._speaking = self._new_id("item")
            start = now_ms - ONSET_WINDOWS * 20 - detection.get("prefix_padding_ms", 300)
            self.emit(
                {
                    "type": "input_audio_buffer.speech_started",
                    "audio_start_ms": max(0, start),
                    "item_id": self._speaking,
                }
            )
            if self._active is not None and detection["interrupt_response"]:
                self._finish(self._active, "cancelled", reason="turn_detected")
        elif self._speaking and self._quiet * 20 >= detection.get("silence_duration_ms", 500):
            item_id, self._speaking = self._speaking, None
            self.emit(
                {
                    "type": "input_audio_buffer.speech_stopped",
                    "audio_end_ms": now_ms,
                    "item_id": item_id,
                }
            )
            self._commit(item_id)
            if detection["create_response"] and self._active is None:
                self._respond()

    def _commit(self, item_id: str) -> None:
        previous = next(reversed(self.items), None)
        self.emit(
            {
                "type": "input_audio_buffer.committed",
                "previous_item_id": previous,
                "item_id": item_id,
            }
        )
        self._add(Item(item_id, "user", sound=self._buffer))
        self._buffer = bytearray()

    # Answers

    @property
    def _active(self) -> Response | None:
        last = self.responses[-1] if self.responses else None
        return last if last is not None and last.status == "in_progress" else None

    def _respond(self) -> None:
        item = Item(self._new_id("item"), "assistant", status="in_progress", text="A tone. ")
        response = Response(self._new_id("resp"), item)
        self.responses.append(response)
        self._emit_response("response.created", response)
        self._nursery.start_soon(self._stream, response)

    async def _stream(self, response: Response) -> None:
        item = response.item
        of_item = {"response_id": response.id, "output_index": 0, "item_id": item.id}
        of_part = {**of_item, "content_index": 0}
        names = "audio" if self.settings.is_beta else "output_audio"
        with response.scope:
            await trio.lowlevel.checkpoint()
            self.emit({"type": "response.output_item.added", **of_item, "item": item.describe()})
            self._add(item)
            self.emit({"type": "response.content_part.added", **of_part, "part": {"type": "audio"}})
            sound = tone(self.settings.tone)
            while len(item.sound) < len(sound):
                size = 2 * self._random.randrange(100, 4_000)
                piece = sound[len(item.sound) : len(item.sound) + size]
                item.sound += piece
                delta = b64encode(piece).decode()
                self.emit({"type": f"response.{names}.delta", **of_part, "delta": delta})
                self.emit({"type": f"response.{names}_transcript.delta", **of_part, "delta": "la "})
                await trio.sleep(len(piece) / BYTES_PER_MS / 1000 / self.settings.speed)
            self.emit({"type": f"response.{names}.done", **of_part})
            self.emit({"type": "response.output_item.done", **of_item, "item": item.describe()})
            self._finish(response, "completed")

    def _finish(self, response: Response, status: str, *, reason: str | None = None) -> None:
        response.status = status
        response.item.status = "completed" if status == "completed" else "incomplete"
        response.scope.cancel()
        self._emit_response("response.done", response, {"type": status, "reason": reason})

    def _emit_response(
        self, kind: str, response: Response, details: dict[str, Any] | None = None
    ) -> None:
        body: dict[str, Any] = {
            "id": response.id,
            "object": "realtime.response",
            "status": response.status,
            "status_details": details,
            "output": [],
        }
        self.emit({"type": kind, "response": body})

    def _truncate(self, event: events.ItemTruncate) -> None:
        item = self.items.get(event.item_id)
        if item is None:
            raise RefusedError("item_truncate_invalid_item_id", "No such item.", "item_id")
        if item.role != "assistant" or not item.sound or event.content_index != 0:
            raise RefusedError(
                "unsupported_content_type", "Only model output audio can be truncated."
            )
        if not 0 <= event.audio_end_ms <= item.sound_ms:
            words = f"Audio of {item.sound_ms}ms is already shorter than {event.audio_end_ms}ms"
            raise RefusedError("invalid_value", words, "audio_end_ms")
        del item.sound[event.audio_end_ms * BYTES_PER_MS :]
        item.truncated_ms, item.text = event.audio_end_ms, ""
        self.emit(
            {
                "type": "conversation.item.truncated",
                "item_id": item.id,
                "content_index": 0,
                "audio_end_ms": event.audio_end_ms,
            }
        )

    def _add(self, item: Item) -> None:
        previous = next(reversed(self.items), None)
        self.items[item.id] = item
        self.emit(
            {
                "type": "conversation.item.added",
                "previous_item_id": previous,
                "item": item.describe(),
            }
        )

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{self._random.getrandbits(64):016x}"


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    plain = msgspec.to_builtins(value)
    assert isinstance(plain, dict)
    return plain


def _merge(below: dict[str, Any], over: dict[str, Any]) -> None:
    for name, value in over.items():
        inner = below.get(name)
        # A change of the kind of turn detection replaces it; else field by field.
        if isinstance(value, dict) and isinstance(inner, dict) and "type" not in value:
            _merge(inner, value)
        else:
            below[name] = value
