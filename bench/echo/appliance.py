"""The real appliance, started the way an operator would, with the defaults but for its ports."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from edge.control.statistics import RelayStatistics
from edge.control.status import Status
from edge.operate.client import ControlError, fetch_status

START_TIME = 30.0
STOP_TIME = 30.0

CONFIG = """
[relay]
listen = ["127.0.0.1:0"]
workers = {relays}
{relay_keys}

[transceiver]
workers = {transceivers}
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
"""


@frozen
class Appliance:
    """A running ``edge run``."""

    origin: str
    """``host:port`` of signaling."""
    relay_pids: list[int]
    transceiver_pids: list[int]
    _control_socket: Path

    def packets_and_frames(self) -> tuple[int, int]:
        """Return what the relays have counted; up to a heartbeat (1 s) old."""
        workers = fetch_status(self._control_socket).workers
        found = [each.statistics for each in workers]
        relays = [each for each in found if isinstance(each, RelayStatistics)]
        return sum(each.forwarded for each in relays), sum(each.frames for each in relays)


@contextmanager
def running_appliance(
    relays: int, transceivers: int, relay_keys: Sequence[str] = ()
) -> Iterator[Appliance]:
    """Start an appliance, wait until it is ready, end it afterwards. Its log goes to our stderr.

    ``relay_keys`` are more lines for the configuration's table ``relay``.
    """
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
        config = Path(directory) / "edge.toml"
        config.write_text(
            CONFIG.format(
                directory=directory,
                relays=relays,
                relay_keys="\n".join(relay_keys),
                transceivers=transceivers,
            )
        )
        command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
        process = subprocess.Popen(command)
        try:
            control_socket = Path(directory) / "control.sock"
            status = _wait_ready(process, control_socket)
            yield Appliance(
                status.signaling[0],
                _pids(status, "relay"),
                _pids(status, "transceiver"),
                control_socket,
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIME)


def _wait_ready(process: subprocess.Popen[bytes], control_socket: Path) -> Status:
    """Wait for the first heartbeat of every worker."""
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
