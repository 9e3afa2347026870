"""The status as people read it."""

import pytest

from edge.control.statistics import (
    FlowCounts,
    Placement,
    Punctuality,
    RelayStatistics,
    StreamCounts,
    TransceiverStatistics,
    WorkerStatistics,
)
from edge.control.status import DrainStatus, Status, WorkerStatus
from edge.operate.status_text import render_status, span


def worker(kind: str, statistics: WorkerStatistics | None) -> WorkerStatus:
    return WorkerStatus(
        kind="relay" if kind == "relay" else "transceiver",
        index=0,
        pid=7 if statistics else None,
        state="running" if statistics else "backing-off",
        restarts=2,
        statistics=statistics,
    )


def relay(conflicts: int, tcp: int = 0) -> RelayStatistics:
    table = FlowCounts(
        confirmed=3, tentative=0, conflicts=conflicts, evicted=0, full=0, taken_over=0
    )
    return RelayStatistics(
        packets=10,
        bytes=1000,
        forwarded=9,
        frames=4,
        first_checks=[1],
        drops={"unknown-flow": 1},
        flows=[table, table],
        tcp=StreamCounts(connections=tcp, half_open=0, accepted=tcp, refused={}, closed={}),
    )


def transceiver(refused: int = 0) -> TransceiverStatistics:
    return TransceiverStatistics(
        sessions=2,
        sessions_by_key={0: 1, 3: 1},
        opened=5,
        reached_media=4,
        ended={"client-bye": 3},
        verdicts={"ok": 2, "no-check": 1},
        packets_received=9,
        packets_sent=8,
        punctuality=Punctuality(
            frames=200, skipped=0, on_time_ratio=0.995, late_up_to={"5": 199, "more": 1}
        ),
        placement=Placement(
            sessions_max=100,
            on_time_ratio=1.0,
            opened_here=3,
            opened_elsewhere=4,
            opened_for_others=2,
            refused=refused,
            remote=1,
            detached=0,
        ),
        drops={"unknown-flow": 1, "replay": 1},
    )


def render(*workers: WorkerStatus, drain: DrainStatus | None = None) -> str:
    return render_status(
        Status(
            version="1.2.3",
            uptime=61.4,
            udp=["203.0.113.7:3478"],
            tcp=["203.0.113.7:443"],
            signaling=["127.0.0.1:8080"],
            workers=list(workers),
            drain=drain,
        )
    )


def test_everything_that_runs_is_named() -> None:
    text = render(worker("relay", relay(0)), worker("transceiver", transceiver()))
    assert "edge 1.2.3, up 1 min 1 s\n" in text
    assert "sessions   2 of 100, 100.00% of frames on time lately\n" in text
    assert "udp 203.0.113.7:3478; tcp 203.0.113.7:443\n" in text
    assert "        2  ok\n        1  no-check\n" in text
    assert "10 packets in, 9 forwarded, 6 flows\n" in text
    assert "2 of 100 sessions (5 opened, 4 with media), 9 packets in, 8 out" in text
    assert "8 out, 99.50% of 200 frames on time (lately 100.00%)" in text
    assert "; offers: 3 kept, 4 placed elsewhere, 2 taken for others\n" in text
    assert "sessions by routing key: key 0: 1, key 3: 1" in text


def test_drops_are_summed_over_workers_most_frequent_first() -> None:
    text = render(worker("relay", relay(0)), worker("transceiver", transceiver()))
    assert text.endswith("        2  unknown-flow\n        1  replay\n")


def test_clients_over_tcp_show() -> None:
    assert "6 flows, 5 over TCP\n" in render(worker("relay", relay(0, tcp=5)))


def test_refused_claims_show() -> None:
    assert "6 flows (4 claims to others' flows refused)" in render(worker("relay", relay(2)))


def test_offers_that_were_refused_show() -> None:
    text = render(worker("transceiver", transceiver(refused=7)))
    assert "taken for others, 7 refused as busy\n" in text


def test_a_worker_that_is_down_shows_as_down() -> None:
    text = render(worker("relay", None))
    assert "backing-off" in text
    assert "not heard from yet" in text
    assert "dropped" not in text


def test_a_drain_shows() -> None:
    assert "DRAINING" not in render()
    text = render(drain=DrainStatus(since=61.0, deadline=None))
    assert "DRAINING   for 1 min 1 s: no new sessions; they may go on\n" in text
    text = render(drain=DrainStatus(since=0.0, deadline=600.0))
    assert "no new sessions; they are ended in 10 min 0 s\n" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (90_000.0, "1 d 1 h"),
    ],
)
def test_spans_have_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_version_that_is_installed_and_does_not_run_is_named() -> None:
    status = Status(version="1.0.0", uptime=1.0, udp=[], tcp=[], signaling=[], workers=[])
    text = "INSTALLED  edge 2.0.0, which does not run yet: edge upgrade"
    assert text in render_status(status, installed="2.0.0")
    assert "INSTALLED" not in render_status(status, installed="1.0.0")
    assert "INSTALLED" not in render_status(status)
