"""A fake backend in a process of its own, to be stopped, or to flood with another CPU's time."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import frozen

from tests.support.fake_backend import Script, fake_backend, flood, record

REPOSITORY = Path(__file__).parent.parent.parent


@frozen
class BackendProcess:
    url: str
    process: subprocess.Popen[bytes]


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


async def _main(*arguments: str) -> None:
    script: Script = record
    if arguments[0] == "flood":
        pattern, total_bytes = bytes.fromhex(arguments[1]), int(arguments[2])
        script = flood(pattern * (65_536 // len(pattern)), total_bytes)
    async with fake_backend(script) as backend:
        print(json.dumps(backend.url), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])
