"""A worker that hangs says where, even if somebody has stopped it."""

import os
import signal
from pathlib import Path

from tests.support.appliance import running_appliance


async def test_a_stopped_worker_is_replaced_and_leaves_its_stack(tmp_path: Path) -> None:
    async with running_appliance(tmp_path, relays=1, transceivers=1) as appliance:
        (relay,) = await appliance.workers("relay")
        assert relay.pid is not None
        os.kill(relay.pid, signal.SIGSTOP)
        await appliance.wait_line("worker relay-0 does not answer", 15.0)
        await appliance.wait_line("most recent call first")
        await appliance.wait_line("worker relay-0 is back")
