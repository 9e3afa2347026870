"""The real appliance, as an operator would start it: ``edge run`` with a configuration file."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio
from attrs import define, field

from edge.control.statistics import RelayStatistics, TransceiverStatistics
from edge.control.status import Status, WorkerStatus
from edge.operate.client import ControlError, fetch_status

START_TIME = 30.0
STOP_TIME = 30.0
DRAIN_TIME = 0.5
"""Seconds that calls which a test has left are waited for, if it does not say otherwise."""

CONFIG = """
[relay]
listen = ["{host}:0"]
workers = {relays}
{relay}

[transceiver]
workers = {transceivers}
on_time_min = {on_time_min}
{transceiver}

[signal]
listen = ["127.0.0.1:0"]
{signal}

[supervisor]
state_directory = "{directory}"
heartbeat_interval = 0.1
heartbeat_limit = 5.0
restart_backoff = 0.05
{supervisor}

[media]
{media}

[metrics]
listen = {metrics}

{routes}

{more}
"""


@define
class Appliance:
    """A running ``edge run``."""

    process: trio.Process
    directory: Path
    lines: list[str] = field(factory=list)
    """What it has written to standard error so far."""
    ready: trio.Event = field(factory=trio.Event)

    @property
    def control_socket(self) -> Path:
        return self.directory / "control.sock"

    async def status(self) -> Status:
        return await trio.to_thread.run_sync(fetch_status, self.control_socket)

    async def workers(self, kind: str) -> list[WorkerStatus]:
        return [one for one in (await self.status()).workers if one.kind == kind]

    async def relays(self) -> list[RelayStatistics]:
        found = [one.statistics for one in await self.workers("relay")]
        return [one for one in found if isinstance(one, RelayStatistics)]

    async def transceivers(self) -> list[TransceiverStatistics]:
        found = [one.statistics for one in await self.workers("transceiver")]
        return [one for one in found if isinstance(one, TransceiverStatistics)]

    async def udp(self) -> tuple[str, int]:
        host, _, port = (await self.status()).udp[0].rpartition(":")
        return host.strip("[]"), int(port)

    async def origin(self) -> str:
        """Return ``host:port`` of signaling and page."""
        return (await self.status()).signaling[0]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def wait_line(self, pattern: str, timeout: float = 10.0) -> str:
        """Wait until a line of its log matches."""
        with trio.fail_after(timeout):
            while True:
                for line in self.lines:
                    if re.search(pattern, line):
                        return line
                await trio.sleep(0.02)

    async def collect_lines(self) -> None:
        assert self.process.stderr is not None
        rest = b""
        async for chunk in self.process.stderr:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text = line.decode()
                self.lines.append(text)
                print(text)
                if "ready: " in text:
                    self.ready.set()
        self.ready.set()  # it has ended


def write_config(
    directory: Path,
    *,
    host: str = "127.0.0.1",
    relays: int = 2,
    transceivers: int = 2,
    relay: str = "",
    transceiver: str = "",
    signal: str = "",
    supervisor: str = "",
    media: str = "",
    metrics: str = "[]",
    routes: Mapping[str, str] = MappingProxyType({}),
    more: str = "",
    on_time_min: float = 0.0,
) -> Path:
    """Write a configuration file; ``relay`` and so on are lines for those tables, ``more`` more.

    ``routes`` has the lines of each route's table. Without one named "default",
    ``signal='default_route = "..."'`` has to name another. Without ``on_time_min`` calls are taken
    however late the workers are: tests run on busy machines. ``metrics`` is where metrics are: on
    no port, since many appliances run at once.
    """
    if "drain_limit" not in supervisor:
        supervisor += f"\ndrain_limit = {DRAIN_TIME}"
    path = directory / "edge.toml"
    path.write_text(
        CONFIG.format(
            directory=directory,
            host=host,
            relays=relays,
            transceivers=transceivers,
            relay=relay,
            transceiver=transceiver,
            on_time_min=on_time_min,
            signal=signal,
            supervisor=supervisor,
            media=media,
            metrics=metrics,
            routes="\n".join(f'[routes."{name}"]\n{lines}' for name, lines in routes.items()),
            more=more,
        )
    )
    return path


@asynccontextmanager
async def running_appliance(directory: Path, **config: Any) -> AsyncIterator[Appliance]:
    """Start an appliance, wait until it is ready, and end it in order afterwards.

    The keyword arguments are those of ``write_config``.
    """
    process = await start_edge("run", "--config", str(write_config(directory, **config)))
    async with attended(process, directory) as appliance:
        yield appliance


@asynccontextmanager
async def attended(process: trio.Process, directory: Path) -> AsyncIterator[Appliance]:
    """Wait until a started appliance is ready, and end it in order afterwards."""
    appliance = Appliance(process, directory)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(appliance.collect_lines)
            with trio.fail_after(START_TIME):
                await appliance.ready.wait()
            assert process.poll() is None, appliance.lines
            await wait_status(appliance, _all_heard, START_TIME)
            yield appliance
            if process.poll() is None:
                appliance.terminate()
                with trio.fail_after(STOP_TIME):
                    await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        if process.poll() is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def wait_status(
    appliance: Appliance, good: Callable[[Status], bool], timeout: float = 15.0
) -> Status:
    """Wait until the status is as it should be."""
    with trio.fail_after(timeout):
        while True:
            try:
                status = await appliance.status()
            except ControlError:
                await trio.sleep(0.05)
                continue
            if good(status):
                return status
            await trio.sleep(0.05)


async def start_edge(*arguments: str) -> trio.Process:
    """Start the command with its standard error piped."""
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "edge", *arguments], stderr=subprocess.PIPE
    )


async def start_edge_with(name: str, kept: socket.socket, *arguments: str) -> trio.Process:
    """``start_edge`` as a service manager does that has kept a socket under a name."""
    return await trio.lowlevel.open_process(
        [sys.executable, "-c", _AS_KEPT, str(kept.fileno()), "-m", "edge", *arguments],
        env=os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": name},
        pass_fds=[kept.fileno()],
        stderr=subprocess.PIPE,
    )


_AS_KEPT = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def _all_heard(status: Status) -> bool:
    """Every worker has answered a heartbeat."""
    return all(worker.statistics is not None for worker in status.workers)
