"""Backends of the appliance, by docs/backend-protocol.md and none of the appliance's own code."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from tests.support.appliance import Appliance, running_appliance
from tests.support.fake_backend import FakeBackend, Script, Visitor, fake_backend, record

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo_backend.py"
SUBPROTOCOL = "edge.media.v1"

_HEARD = struct.Struct("<BBBBIqI")
_SOUND = struct.Struct("<BBxxI")
_LABELS = ("received", "fec", "concealed", "dtx")


class Heard(NamedTuple):
    """One frame of what the client says. Microseconds."""

    label: str
    flags: int
    level: int
    delay: int
    media_time: int
    duration: int
    audio: bytes


def heard(visitor: Visitor) -> list[Heard]:
    """Return the frames that came."""
    frames = []
    for message in visitor.messages:
        if isinstance(message, bytes):
            kind, label, flags, level, *times = _HEARD.unpack_from(message)
            assert kind == 0x11
            delay, media_time, duration = times
            audio = message[_HEARD.size :]
            frames.append(Heard(_LABELS[label], flags, level, delay, media_time, duration, audio))
    return frames


def events(visitor: Visitor, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the events that came, all or those of one type."""
    found = [json.loads(each) for each in visitor.messages if isinstance(each, str)]
    return [each for each in found if kind in {None, each.get("type")}]


async def wait_event(visitor: Visitor, kind: str, count: int = 1) -> dict[str, Any]:
    """Wait for the ``count``-th event of a type."""
    with trio.fail_after(10):
        while len(found := events(visitor, kind)) < count:
            await visitor.arrived.wait()
    return found[count - 1]


async def wait_frames(visitor: Visitor, count: int) -> list[Heard]:
    with trio.fail_after(20):
        while sum(isinstance(each, bytes) for each in visitor.messages) < count:
            await visitor.arrived.wait()
    return heard(visitor)


def sound(item: int, audio: bytes, *, ends: bool = False) -> bytes:
    """Return the message that plays ``audio``."""
    return _SOUND.pack(0x12, int(ends), item) + audio


async def order(visitor: Visitor, kind: str, **fields: Any) -> None:
    """Send an event."""
    await visitor.send(json.dumps({"type": kind, **fields}))


@asynccontextmanager
async def appliance_with_backend(
    directory: Path, lines: str = "rate_hz = 24000", *scripts: Script, **config: Any
) -> AsyncIterator[tuple[Appliance, FakeBackend]]:
    """Run an appliance whose default route is a backend in this process.

    ``lines`` are more of the route's table, ``config`` is ``write_config``'s.
    """
    async with fake_backend(*(scripts or (record,)), subprotocol=SUBPROTOCOL) as backend:
        route = f'kind = "websocket"\nurl = "{backend.url}"\n{lines}'
        async with running_appliance(directory, routes={"default": route}, **config) as appliance:
            yield appliance, backend


@asynccontextmanager
async def example_backend() -> AsyncIterator[str]:
    """Run examples/echo_backend.py; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, str(EXAMPLE), str(port)]) as child:  # noqa: ASYNC220 - it takes no time worth waiting for
        try:
            await _wait_listening(port)
            yield f"ws://127.0.0.1:{port}"
        finally:
            child.kill()


async def _wait_listening(port: int) -> None:
    with trio.fail_after(10):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.05)
            else:
                await stream.aclose()
                return
