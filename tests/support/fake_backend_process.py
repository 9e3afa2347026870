"""A fake backend in a process of its own, to be stopped, or to flood with another CPU's time."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import frozen

from tests.support.fake_backend import (
    Script,
    Visitor,
    fake_backend,
    flood,
    never_read,
    record,
    speak_garbage,
)
from tests.support.native_backend import heard

RECEIVE_BUFFER_BYTES = 65_536
"""A second or two of sound."""
REPOSITORY = Path(__file__).parent.parent.parent


@frozen
class BackendProcess:
    url: str
    process: subprocess.Popen[bytes]

    def lines(self) -> list[str]:
        """Return what it has printed since the last call."""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        return (self.process.stdout.read() or b"").decode().splitlines()


@asynccontextmanager
async def recording_process() -> AsyncIterator[BackendProcess]:
    """Run a backend that takes everything."""
    async with _process("record") as backend:
        yield backend


@asynccontextmanager
async def flooding_process(pattern: bytes, total_bytes: int) -> AsyncIterator[BackendProcess]:
    """Run a backend that sends the same bytes over and over."""
    async with _process("flood", pattern.hex(), str(total_bytes)) as backend:
        yield backend


@asynccontextmanager
async def never_reading_process() -> AsyncIterator[BackendProcess]:
    """Run a backend that accepts and leaves it at that."""
    async with _process("never-read") as backend:
        yield backend


@asynccontextmanager
async def garbage_process() -> AsyncIterator[BackendProcess]:
    """Run a server that speaks another protocol."""
    async with _process("garbage") as backend:
        yield backend


@asynccontextmanager
async def listening_process() -> AsyncIterator[BackendProcess]:
    """Run a backend that writes down when in media time each frame was."""
    async with _process("listen") as backend:
        yield backend


@asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[BackendProcess]:
    with subprocess.Popen(  # noqa: ASYNC220 - it takes no time worth waiting for
        [sys.executable, "-m", "tests.support.fake_backend_process", *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as child:
        try:
            assert child.stdout is not None
            yield BackendProcess(json.loads(child.stdout.readline()), child)
        finally:
            child.kill()


_SCRIPTS: Mapping[str, Script] = {
    "record": record,
    "never-read": never_read,
    "garbage": speak_garbage,
}


async def _listen(visitor: Visitor) -> None:
    """Print lines of the connection's number and a media time in seconds."""
    assert isinstance(visitor.stream, trio.SocketStream)
    visitor.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    await visitor.accept()
    number = os.urandom(2).hex()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visitor.read)
        while not visitor.gone.is_set():
            await visitor.arrived.wait()
            frames, visitor.messages = heard(visitor), []
            for frame in frames:
                print(number, frame.media_time / 1e6, flush=True)


async def _main(*arguments: str) -> None:
    script = _listen if arguments[0] == "listen" else _SCRIPTS.get(arguments[0], record)
    if arguments[0] == "flood":
        os.nice(19)  # a backend is another machine: it takes no CPU time from the appliance
        pattern, total_bytes = bytes.fromhex(arguments[1]), int(arguments[2])
        script = flood(pattern * (65_536 // len(pattern)), total_bytes)
    async with fake_backend(script) as backend:
        print(json.dumps(backend.url), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])
