"""What an operator sees of an installed appliance: status, figures, journal."""

import json
import os
from pathlib import Path
from typing import Any, TypeAlias

from tests.install.caller import calling, wait_echoed
from tests.install.machine import REPOSITORY, Machine
from tests.install.service import UNIT, status, wait

Entry: TypeAlias = dict[str, Any]

FIGURES = "http://127.0.0.1:9464/metrics"
FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"


def test_install_takes_two_commands() -> None:
    """Those that tests/install does, as the README has them."""
    text = Path(REPOSITORY, "README.md").read_text()
    assert "```sh\nmake deb\napt-get install ./dist/edge_*.deb\n```" in text


def test_root_sees_the_status(host: Machine) -> None:
    assert host.run("edge", "status").stdout.count("relay-") == 2
    assert {each["state"] for each in status(host)["workers"]} == {"running"}


def test_members_of_the_group_see_the_status_and_others_are_told_why_not(host: Machine) -> None:
    host.run("useradd", "--groups", "edge", "alice")
    host.run("useradd", "stranger")
    as_user = ("runuser", "--user")
    told = host.run(*as_user, "alice", "--", "edge", "status", "--json")
    assert len(json.loads(told.stdout)["workers"]) == 4
    refused = host.run(*as_user, "stranger", "--", "edge", "status", check=False)
    assert refused.returncode == os.EX_NOPERM
    assert "edge" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_figures_are_on_loopback_only(host: Machine) -> None:
    text = host.run("python3", "-c", FETCH, FIGURES).stdout
    assert "\nedge_" in text
    listening = host.run("ss", "--listening", "--tcp", "--numeric", "--no-header").stdout
    assert [line.split()[3] for line in listening.splitlines() if ":9464" in line] == [
        "127.0.0.1:9464"
    ]


async def test_a_call_is_found_in_the_journal(host: Machine) -> None:
    before = _sessions(host)
    async with calling(host) as peer:
        await wait_echoed(peer, 10)
    await wait(host, lambda: bool(_ends(host, _sessions(host) - before)))
    (session,) = _sessions(host) - before
    (end,) = _ends(host, {session})
    assert end["VERDICT"] == "ok"
    assert end["WORKER"].startswith("transceiver-")
    assert end["_SYSTEMD_UNIT"] == UNIT
    assert end["SYSLOG_IDENTIFIER"] == "edge"
    assert end["PRIORITY"] == "6"
    assert f"session {session} ended: verdict=ok" in end["MESSAGE"]
    assert len(_entries(host, f"SESSION_ID={session}")) > 1
    assert _entries(host, "WORKER=relay-0") == _entries(host, "WORKER=relay-0", f"--unit={UNIT}")


def test_every_entry_of_the_journal_says_whose_it_is(host: Machine) -> None:
    entries = _entries(host, "_TRANSPORT=journal", "SYSLOG_IDENTIFIER=edge")
    assert len(entries) > 10
    for entry in entries:
        worker = entry["WORKER"]  # a list, if it is of one of the workers
        speaker = worker if isinstance(worker, str) else worker[0]
        assert entry["MESSAGE"].startswith(f"{speaker}: ")


def _sessions(machine: Machine) -> set[str]:
    return set(machine.run("journalctl", "--field", "SESSION_ID").stdout.split())


def _ends(machine: Machine, sessions: set[str]) -> list[Entry]:
    return [
        entry
        for session in sessions
        for entry in _entries(machine, f"SESSION_ID={session}")
        if "VERDICT" in entry
    ]


def _entries(machine: Machine, *matches: str) -> list[Entry]:
    found = machine.run("journalctl", "--output", "json", "--no-pager", *matches).stdout
    return [json.loads(line) for line in found.splitlines()]
