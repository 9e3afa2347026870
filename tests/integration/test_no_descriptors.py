"""A supervisor that the system gives no more descriptors."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.integration.test_reload import assert_nothing_lost
from tests.support.appliance import running_appliance
from tests.support.caller import calling


@contextmanager
def starved(pid: int) -> Iterator[None]:
    """Let a process open nothing; what it has open goes on."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_worker_that_dies_then_is_back_when_there_are_some_again(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, transceivers=2) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(5)
        owner = int(call.session.split(".")[1])
        other = (await appliance.workers("transceiver"))[1 - owner]
        assert other.pid is not None
        with starved(appliance.process.pid):
            os.kill(other.pid, signal.SIGKILL)
            await appliance.wait_line(f"cannot fork worker transceiver-{other.index}", 20)
            async with await trio.open_unix_socket(str(appliance.control_socket)):
                await appliance.wait_line("connections cannot be accepted", 20)
        await appliance.wait_line(f"worker transceiver-{other.index} is back", 20)
        await assert_nothing_lost([call])
        assert len((await appliance.status()).workers) == len(await appliance.workers("relay")) + 2
