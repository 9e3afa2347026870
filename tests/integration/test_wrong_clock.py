"""Hosts whose wall clocks were ahead for a while: calls go on as soon as the clocks are right."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.control.status import Status
from tests.integration.test_trunk_hosts import fleet, go_over
from tests.support.appliance import running_appliance, wait_status
from tests.support.caller import calling
from tests.support.trunk import wait_for

AHEAD = 600.0
SOON = 20.0
"""Seconds, far fewer than ``AHEAD``, that a busy machine may need to notice."""

WRONG_CLOCK = """
import os
import time

_right, _read_at, _ahead = time.time, 0.0, 0.0


def _time():
    global _read_at, _ahead
    if time.monotonic() - _read_at > 0.05:
        _read_at = time.monotonic()
        with open(os.environ["EDGE_TEST_AHEAD"]) as file:
            _ahead = float(file.read() or _ahead)
    return _right() + _ahead


if "EDGE_TEST_AHEAD" in os.environ:
    time.time = _time
"""
"""What the interpreters of these hosts run first. It stands in for the hosts' clocks."""


@contextmanager
def wrong_clock(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let processes that are started in here add to their clocks what the file says."""
    ahead = directory / "ahead"
    ahead.write_text("0")
    (directory / "sitecustomize.py").write_text(WRONG_CLOCK)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(directory))
        patch.setenv("EDGE_TEST_AHEAD", str(ahead))
        yield ahead


def stale(status: Status) -> int:
    """Return how many frames a host's workers have not taken for their time."""
    return sum(
        one.statistics.drops.get("frame-stale", 0)
        for one in status.workers
        if one.statistics is not None
    )


@pytest.mark.parametrize("wrong", [("relay",), ("owner",), ("owner", "relay")])
async def test_calls_go_on_when_clocks_that_were_ahead_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Sequence[str]
) -> None:
    for name in ("owner", "relay"):
        (tmp_path / name).mkdir()
    at_relay = {"relays": 1, "transceivers": 0, "more": fleet("relay")}
    at_owner = {"relays": 1, "transceivers": 1, "more": fleet("owner")}
    with wrong_clock(tmp_path, monkeypatch) as ahead, monkeypatch.context() as patch:
        if "owner" not in wrong:
            patch.delenv("EDGE_TEST_AHEAD")
        async with running_appliance(tmp_path / "owner", **at_owner) as owner:
            patch.setenv("EDGE_TEST_AHEAD", str(ahead))
            if "relay" not in wrong:
                patch.delenv("EDGE_TEST_AHEAD")
            async with (
                running_appliance(tmp_path / "relay", **at_relay) as relay,
                calling(await owner.origin()) as call,
            ):
                await call.wait_echo(20)
                await go_over(call, relay)
                record = call.peer.record
                ahead.write_text(str(AHEAD))
                if len(wrong) == 1:
                    await wait_status(owner, lambda status: stale(status) > 20)
                else:
                    echoed = record.echoed
                    await wait_for(lambda: record.echoed > echoed + 100, SOON)
                ahead.write_text("0")
                echoed = record.echoed
                await wait_for(lambda: record.echoed > echoed + 100, SOON)
