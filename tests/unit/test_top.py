"""``edge top``: rates between two looks, and the picture of them."""

import io

from attrs import evolve
from msgspec import structs
from rich.console import Console

from edge.control.statistics import (
    Placement,
    Punctuality,
    RelayStatistics,
    StreamCounts,
    TransceiverStatistics,
    WorkerStatistics,
)
from edge.control.status import DrainStatus, Status, WorkerKind, WorkerStatus
from edge.operate.rates import Rates, compare
from edge.operate.top import picture_of


def relay(packets: int, drops: dict[str, int]) -> RelayStatistics:
    return RelayStatistics(
        packets=packets,
        bytes=0,
        forwarded=packets - 1,
        frames=0,
        first_checks=[],
        drops=drops,
        flows=[],
        tcp=StreamCounts(connections=0, half_open=0, accepted=0, refused={}, closed={}),
    )


def transceiver(opened: int, received: int, late: dict[str, int]) -> TransceiverStatistics:
    return TransceiverStatistics(
        sessions=3,
        sessions_by_key={},
        opened=opened,
        reached_media=0,
        ended={"client-bye": opened - 3},
        verdicts={},
        packets_received=received,
        packets_sent=received * 2,
        punctuality=Punctuality(frames=0, skipped=0, on_time_ratio=1.0, late_up_to=late),
        placement=Placement(
            sessions_max=10,
            on_time_ratio=0.95,
            opened_here=0,
            opened_elsewhere=0,
            opened_for_others=0,
            refused=0,
            remote=0,
            detached=0,
        ),
        drops={"replay": 4},
    )


def status(*found: tuple[WorkerKind, int, WorkerStatistics | None]) -> Status:
    workers = [
        WorkerStatus(
            kind=kind, index=0, pid=pid, state="running", restarts=0, statistics=statistics
        )
        for kind, pid, statistics in found
    ]
    return Status(version="1.2", uptime=5.0, udp=[], tcp=[], signaling=[], workers=workers)


def two_looks(pid: int = 7) -> Rates:
    before = status(
        ("relay", 6, relay(100, {"unknown-flow": 1})),
        ("transceiver", 7, transceiver(5, 1000, {"1": 50, "5": 0, "more": 0})),
    )
    after = status(
        ("relay", 6, relay(300, {"unknown-flow": 21, "garbage": 1})),
        ("transceiver", pid, transceiver(9, 1400, {"1": 148, "5": 1, "more": 1})),
    )
    return compare(before, after, 2.0)


def text_of(rates: Rates, width: int = 80, *, folds: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(picture_of(rates, folds=folds))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rates_are_per_second() -> None:
    rates = two_looks()
    assert (rates.opened, rates.ended) == (2.0, 2.0)
    first, second = rates.workers
    assert (first.packets_in, first.packets_out, first.sessions) == (100.0, 100.0, None)
    assert (second.packets_in, second.packets_out, second.sessions) == (200.0, 400.0, 3)
    assert rates.drops == {"unknown-flow": 10.0, "garbage": 0.5}


def test_lateness_is_that_of_nearly_all_frames_of_the_interval() -> None:
    assert two_looks().workers[1].lateness == "5"


def test_a_restarted_worker_has_no_rates_yet() -> None:
    rates = two_looks(pid=8)
    assert rates.workers[1].packets_in is None
    assert rates.opened is None
    assert rates.workers[0].packets_in == 100.0


def test_the_first_look_has_none() -> None:
    rates = compare(None, two_looks().status, 1.0)
    assert rates.opened is None
    assert rates.drops == {}
    assert "transceiver-0" in text_of(rates)


def test_the_picture() -> None:
    text = text_of(two_looks())
    assert "sessions 3 of 10   opened 2.0/s   ended 2.0/s   on time 95.00%   drops 10/s" in text
    (worker,) = (line for line in text.splitlines() if line.startswith("transceiver-0"))
    row = "transceiver-0 running 0 3/10 95.00% <=5 ms 200/s 400/s 0/s"
    assert worker.split() == row.split()
    assert text.index("unknown-flow") < text.index("garbage")
    assert "draining" not in text


def test_a_drain_and_a_worker_without_news_are_in_the_picture() -> None:
    found = status(("transceiver", 7, None))
    drained = structs.replace(found, drain=DrainStatus(since=1.0, deadline=90.0))
    text = text_of(compare(None, drained, 1.0))
    assert "draining: no new sessions, sessions are ended in 1 min 30 s" in text


def test_it_fits_into_80_columns() -> None:
    busy = transceiver(1000, 10**7, {"100": 10**6, "more": 0})
    before = status(("transceiver", 7, transceiver(3, 0, {"100": 0, "more": 0})))
    text = text_of(compare(before, status(("transceiver", 7, busy)), 100.0))
    assert "<=100 ms" in text
    assert " 100k/s " in text
    assert "…" not in text


def test_a_narrow_terminal_is_asked_for_no_character_that_it_may_lack() -> None:
    rates = two_looks()
    rates = evolve(rates, drops={**rates.drops, "a-reason-with-a-long-name" * 3: 4.0})
    for width in (20, 40, 60):
        text = text_of(rates, width, folds=True)
        assert text.isascii(), width
        assert max(map(len, text.splitlines())) <= width
        assert not text_of(rates, width).isascii(), "figures that are cut look so"
