"""What commands do when nobody can read them, or their terminal lacks characters."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge import cli
from edge.operate.protocol import (
    AskSession,
    OperatorError,
    decode_request,
    encode_line,
)

EDGE = f"{sys.executable} -m edge"


def shell(command: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["bash", "-c", command], capture_output=True, check=False)


@pytest.mark.parametrize("command", ["version", "completion zsh", "check-config"])
def test_a_full_disk_is_said(command: str) -> None:
    done = shell(f"{EDGE} {command} > /dev/full")
    assert done.stderr == b"standard output: No space left on device\n"
    assert done.returncode == 74


def test_nothing_is_done_that_could_not_be_told(tmp_path: Path) -> None:
    """Else status 69 would tell that the appliance was looked for."""
    done = shell(f"{EDGE} drain --socket {tmp_path}/none >&-")
    assert done.stderr == b"standard output: it is closed\n"
    assert done.returncode == 74


def test_errors_that_cannot_be_told_leave_the_status(tmp_path: Path) -> None:
    for nowhere in ("2>&-", "2>/dev/full"):
        assert shell(f"{EDGE} status --socket {tmp_path}/none {nowhere}").returncode == 69


def test_a_name_that_is_not_text_is_shown_in_escapes(tmp_path: Path) -> None:
    done = shell(f"cd {tmp_path}; touch $'\\xff'; {EDGE} check-config $'\\xff'")
    assert done.stdout.startswith(b"\\udcff: good: ")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["session", "end"])
@pytest.mark.parametrize("session", ["", "x" * 129, "x" * 5000, "\udcff"])
def test_what_is_no_id_is_a_wrong_argument(
    command: str, session: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, session], {})
    assert caught.value.code == 2
    assert "argument ID: not an id" in capsys.readouterr().err


def test_the_longest_id_is_taken_by_both_ends(tmp_path: Path) -> None:
    longest = "\N{GRINNING FACE}" * 128
    assert cli.main(["session", longest, "--socket", str(tmp_path / "none")], {}) == 69
    assert decode_request(encode_line(AskSession(session=longest))) == AskSession(session=longest)
    with pytest.raises(OperatorError):
        decode_request(encode_line(AskSession(session=f"{longest}x")))
