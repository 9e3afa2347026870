"""What the operator decides about sessions with a Realtime server, and how the server is told."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from attrs import field, frozen

from edge.backend.realtime_messages import FORMAT


class DigitPolicy(StrEnum):
    """What becomes of the keys that the client presses."""

    IGNORE = "ignore"
    TEXT = "text"
    """Each is a text of the user in the conversation; the model is not asked to answer it."""


@frozen
class RealtimeSettings:
    model: str
    """For ``realtime_url``."""
    voice: str | None = None
    """None: the server's choice."""
    instructions: str | None = None
    session: Mapping[str, Any] = field(factory=dict)
    """More of the protocol's session object, merged over ours but for type and formats."""
    gather_ms: int = 20
    """Sound in one message, at least."""
    interrupt: bool = True
    """Speech of the client ends the answer."""
    digits: DigitPolicy = DigitPolicy.IGNORE


def realtime_url(base: str, model: str) -> str:
    """Return the address of a session with ``model``; the rest of the query stays."""
    parts = urlsplit(base)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "model"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("model", model)])))


def session_object(settings: RealtimeSettings) -> dict[str, Any]:
    """Return the session object that ``session.update`` carries."""
    turn_detection = {
        "type": "server_vad",
        "create_response": True,
        "interrupt_response": settings.interrupt,
    }
    output = {} if settings.voice is None else {"voice": settings.voice}
    ours: dict[str, Any] = {
        "audio": {"input": {"turn_detection": turn_detection}, "output": output}
    }
    if settings.instructions is not None:
        ours["instructions"] = settings.instructions
    pcm = {"type": "audio/pcm", "rate": FORMAT.rate_hz}
    fixed = {"type": "realtime", "audio": {"input": {"format": pcm}, "output": {"format": pcm}}}
    return _merge(_merge(ours, settings.session), fixed)


def server_interrupts(session: Mapping[str, Any]) -> bool:
    """Tell whether a server with this session object ends its answer when the client speaks."""
    turn_detection = session["audio"]["input"].get("turn_detection")
    if not isinstance(turn_detection, Mapping):
        return True
    return turn_detection.get("interrupt_response") is not False


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` put over it, object by object; all else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(value, Mapping):
            merged[name] = _merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged
