"""The processes of a capacity run: the real appliance, the backend and the callers, on their cores.

The transceiver has one core for itself; everything else shares the other.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from edge.control.statistics import TransceiverStatistics
from edge.control.status import Status
from edge.operate.client import ControlError, fetch_status

Child = subprocess.Popen[str]

START_TIME = 30.0
STOP_TIME = 30.0
TRANSCEIVER_CORE, LOAD_CORE = 0, 1

CONFIG = """
[relay]
listen = ["127.0.0.1:0"]
workers = 1
pin_cores = false

[transceiver]
workers = 1
on_time_min = 0

[signal]
listen = ["127.0.0.1:0"]

[supervisor]
state_directory = "{directory}"
drain_limit = 0.0

[metrics]
listen = []

[log]
level = "warning"

[media]
gaps = "silence"

[routes.default]
{route}
"""

ROUTES = {
    "echo": 'kind = "echo"',
    "loopback": 'kind = "loopback"',
    "opus": 'kind = "websocket"\nencoding = "opus"\nurl = "ws://127.0.0.1:{port}/"',
    "pcm": 'kind = "websocket"\nencoding = "pcm16"\nrate_hz = 24000\nurl = "ws://127.0.0.1:{port}/"',
}


@frozen
class Appliance:
    """A running ``edge run`` with one relay and one transceiver."""

    origin: str
    """``host:port`` of signaling."""
    transceiver_pid: int
    other_pids: list[int]
    _control_socket: Path

    def transceiver(self) -> TransceiverStatistics:
        """Return what the transceiver has counted; up to a heartbeat (1 s) old."""
        for worker in fetch_status(self._control_socket).workers:
            if isinstance(worker.statistics, TransceiverStatistics):
                return worker.statistics
        raise RuntimeError("the transceiver has gone")


@contextmanager
def running_backend(mode: str) -> Iterator[Child | None]:
    """Start what a mode's route connects to, if anything."""
    if "{port}" not in ROUTES[mode]:
        yield None
        return
    with _running("bench.media.backend", "opus" if mode == "opus" else "pcm16") as backend:
        yield backend


@contextmanager
def running_callers(appliance: Appliance, mode: str) -> Iterator[Child]:
    """Start the load client."""
    speech = "echo" if mode == "echo" else "voice"
    with _running("bench.media.load", appliance.origin, speech) as callers:
        yield callers


@contextmanager
def running_appliance(mode: str, backend: Child | None) -> Iterator[Appliance]:
    """Start an appliance whose only route is the mode's. Its log goes to our stderr."""
    port = 0 if backend is None else int(read_line(backend))
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
        config = Path(directory) / "edge.toml"
        config.write_text(CONFIG.format(directory=directory, route=ROUTES[mode].format(port=port)))
        command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
        process = subprocess.Popen(command)
        try:
            control_socket = Path(directory) / "control.sock"
            status = _wait_ready(process, control_socket)
            (transceiver,) = _pids(status, "transceiver")
            others = [process.pid, *_pids(status, "relay")]
            os.sched_setaffinity(transceiver, {TRANSCEIVER_CORE})
            for pid in others:
                os.sched_setaffinity(pid, {LOAD_CORE})
            yield Appliance(status.signaling[0], transceiver, others, control_socket)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIME)


def ask(child: Child, line: str) -> str:
    """Give an order; return the answer."""
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()
    return read_line(child)


def read_line(child: Child) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"a part of the load has failed: {child.args!r}")
    return line.strip()


@contextmanager
def _running(module: str, *arguments: str) -> Iterator[Child]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        os.sched_setaffinity(child.pid, {LOAD_CORE})
        try:
            yield child
        finally:
            child.kill()


def _wait_ready(process: "subprocess.Popen[bytes]", control_socket: Path) -> Status:
    give_up_at = time.monotonic() + START_TIME
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise RuntimeError("the appliance did not start")
        time.sleep(0.1)
        try:
            status = fetch_status(control_socket)
        except ControlError:
            continue
        if all(each.statistics is not None for each in status.workers):
            return status
    raise RuntimeError("the appliance was not ready in time")


def _pids(status: Status, kind: str) -> list[int]:
    return [each.pid for each in status.workers if each.kind == kind and each.pid is not None]
