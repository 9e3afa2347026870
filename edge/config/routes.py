"""The tables ``[routes.<name>]``: which backend a session talks to. ``kind`` says which keys apply.

As in the rest of the schema, a key of type ``X | None`` is None when the file has the empty string.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from math import isfinite
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from edge.config.keypath import KeyPath
from edge.config.table import Problem, Seconds, Table
from edge.config.values import AbsolutePath, BackendUrl, HeaderName, Secret

Attempts = Annotated[int, Meta(ge=1, le=100)]

OPUS_CLOCK_RATE_HZ = 48_000
_PCM16_RATE_HZ = 24_000
_FRAME_MS = 20


class EchoRoute(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["echo"] = "echo"


class LoopbackRoute(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["loopback"] = "loopback"


class LinkedRoute(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all kinds with a WebSocket connection to a backend have in common."""

    url: BackendUrl
    insecure: bool = False
    headers: dict[HeaderName, Secret] = field(default_factory=dict)
    ca_file: AbsolutePath | None = None
    connect_timeout: Seconds = 5.0
    attempts: Attempts = 3
    on_failure: Literal["end", "reconnect"] = "end"
    reconnect_limit: Seconds = 30.0
    queue_max: Seconds = 5.0

    def problems(self) -> Iterator[Problem]:
        if not (self.url.is_encrypted or self.url.is_near or self.insecure):
            text = (
                "ws:// is for loopback and private addresses; use wss://, or set insecure = true "
                "if nobody can listen in on the way"
            )
            yield Problem(("url",), text)
        if self.ca_file is not None and not self.url.is_encrypted:
            yield Problem(("ca_file",), "a ws:// connection has no certificate to check")
        seen: set[str] = set()
        for name in self.headers:
            if name.lower() in seen:
                yield Problem(("headers", name), "is named twice: case does not count")
            seen.add(name.lower())


class WebSocketRoute(LinkedRoute, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["websocket"] = "websocket"
    encoding: Literal["pcm16", "opus"] = "pcm16"
    rate_hz: Literal[8000, 16000, 24000, 48000] | None = None

    @property
    def format_rate_hz(self) -> int:
        """The rate that ``rate_hz`` stands for: the encoding's own unless the file says one."""
        if self.encoding == "opus":
            return OPUS_CLOCK_RATE_HZ
        return self.rate_hz or _PCM16_RATE_HZ

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.encoding == "opus" and self.rate_hz not in {None, OPUS_CLOCK_RATE_HZ}:
            text = f"Opus packets are on a clock of {OPUS_CLOCK_RATE_HZ} Hz; leave it out"
            yield Problem(("rate_hz",), text)


class TwilioRoute(LinkedRoute, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["twilio"] = "twilio"


class RealtimeRoute(LinkedRoute, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["realtime"] = "realtime"
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    key: Secret | None = None
    key_file: AbsolutePath | None = None
    voice: str | None = None
    instructions: str | None = None
    session: dict[str, Any] = field(default_factory=dict)
    gather_ms: Annotated[int, Meta(ge=_FRAME_MS, le=200, multiple_of=_FRAME_MS)] = _FRAME_MS
    interrupt: bool = True
    digits: Literal["ignore", "text"] = "ignore"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.key is not None and self.key_file is not None:
            yield Problem(("key_file",), "either a key file or a key written here, not both")
        has_key = self.key is not None or self.key_file is not None
        for name in self.headers:
            if has_key and name.lower() == "authorization":
                yield Problem(("headers", name), "the key is sent in this header")
        yield from _not_json(self.session, ("session",))


Route = EchoRoute | LoopbackRoute | WebSocketRoute | TwilioRoute | RealtimeRoute


def _not_json(value: object, path: KeyPath) -> Iterator[Problem]:
    """Find the values of TOML that JSON has no word for."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_json(inner, (*path, name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from _not_json(inner, (*path, index))
    elif isinstance(value, datetime | date | time):
        yield Problem(path, "JSON has no dates and times; write a string")
    elif isinstance(value, float) and not isfinite(value):
        yield Problem(path, "JSON has no such number")
