"""``edge status`` and ``edge ufrag`` against a running appliance and its keys."""

import json
import sys
from pathlib import Path

import pytest
import trio

from edge.cli import main
from tests.support.appliance import running_appliance
from tests.support.caller import calling


async def edge(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit status and output."""
    done = await trio.run_process(
        [sys.executable, "-m", "edge", *arguments], capture_stdout=True, check=False
    )
    return done.returncode, done.stdout.decode()


async def test_status_shows_what_runs(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(20)
        await trio.sleep(0.3)  # three heartbeats
        status, text = await edge("status", "--config", str(tmp_path / "edge.toml"))
        assert status == 0
        for name in ("relay-0", "relay-1", "transceiver-0", "transceiver-1"):
            assert name in text
        assert "1 of 1000 sessions (1 opened, 1 with media)" in text
        status, text = await edge("status", "--json", "--config", str(tmp_path / "edge.toml"))
        assert status == 0
        document = json.loads(text)
        assert [worker["state"] for worker in document["workers"]] == ["running"] * 4
        assert document["udp"] == [":".join(map(str, await appliance.udp()))]

        status, text = await edge(
            "ufrag", "inspect", call.ufrag, "--config", str(tmp_path / "edge.toml")
        )
        assert status == 0
        assert f"transceiver  {call.session.split('.')[1]}\n" in text
        assert "cluster      1\n" in text


def test_status_without_an_appliance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"STATE_DIRECTORY": str(tmp_path)}
    assert main(["status"], environment) == 69
    assert f"no appliance answers at {tmp_path}/status.sock" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("token", "reason"), [("nonsense", "malformed"), ("A" * 24, "unknown-version")]
)
def test_a_ufrag_of_somebody_else(
    token: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ufrag", "inspect", token], {"STATE_DIRECTORY": str(tmp_path)}) == 65
    assert f"{token}: not a ufrag of ours: {reason}" in capsys.readouterr().err
