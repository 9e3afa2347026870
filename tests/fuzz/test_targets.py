"""Every fuzz target for a few seconds, from its corpus; and proof that a fault would be found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CORPUS = Path(__file__).with_name("corpus")
FUZZ_TIME = 5
RUNS_MIN = 1_000
FAULT_STATUS = 77
"""libFuzzer's exit status when a target has raised."""


def fuzz(target: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """Run a target; new finds and failing inputs go into the first folder."""
    options = [
        f"-max_total_time={FUZZ_TIME}",
        "-max_len=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={folders[0]}/",
    ]
    command = [sys.executable, "-m", "tests.fuzz.targets", target, *map(str, folders), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("target", ["peek", "frame", "ufrag", "request"])
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    done = fuzz(target, tmp_path, CORPUS / target)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = re.search(r"number_of_executed_units:\s+(\d+)", done.stderr)
    assert runs is not None, done.stderr[-4000:]
    print(f"{target}: {runs[1]} inputs")
    assert int(runs[1]) >= RUNS_MIN


def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    done = fuzz("planted", tmp_path)
    assert done.returncode == FAULT_STATUS, done.stderr[-4000:]
    assert "AssertionError" in done.stdout + done.stderr
