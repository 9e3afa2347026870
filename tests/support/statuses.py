"""A status with something in every figure."""

from edge.control.statistics import (
    FlowCounts,
    Placement,
    ProcessCounts,
    Punctuality,
    RedisCounts,
    RelayStatistics,
    StreamCounts,
    TransceiverStatistics,
    TrunkCounts,
    WayCounts,
    WorkerStatistics,
)
from edge.control.status import RegistrationStatus, Status, WorkerKind, WorkerStatus
from edge.media.frames import Label
from edge.transceiver.tally import Tally
from edge.transceiver.vocabulary import Layer


def relay() -> RelayStatistics:
    table = FlowCounts(confirmed=3, tentative=2, conflicts=1, evicted=4, full=5, taken_over=6)
    return RelayStatistics(
        packets=10,
        bytes=1000,
        forwarded=9,
        frames=4,
        first_checks=[1, 2],
        drops={"unknown-flow": 1},
        flows=[table, table],
        tcp=StreamCounts(
            connections=5,
            half_open=2,
            accepted=8,
            refused={"too-many": 1},
            closed={"idle": 2},
        ),
        redis=RedisCounts(
            state="up",
            server="192.0.2.9:6379",
            connected=3,
            lost={"connection-lost": 2},
            pending=4,
            events={"flow-written": 20, "redis-hit": 5},
            refused="",
            hosts=6,
            distrusted={"signature": 1},
        ),
        trunk=TrunkCounts(
            transceivers=2,
            packets=60,
            frames=10,
            frames_back=11,
            delivered=61,
            first_checks=3,
        ),
        process=ProcessCounts(cpu=1.5, resident_max_bytes=50_000_000),
    )


def tally() -> Tally:
    """Return what a worker has counted."""
    counted = Tally()
    counted.setup[Layer.ICE].note(0.03)
    counted.setup[Layer.ICE].note(99.0)
    counted.quality.note_reception(0.004, 0.0)
    counted.quality.note_report(0.006, 0.3, 0.08)
    counted.heard.update({Label.RECEIVED: 40, Label.CONCEALED: 2})
    counted.links.states["open"] = 1
    counted.links.connect.note(0.02)
    counted.links.failures["time-out"] += 1
    counted.links.drops["message-lost"] = 1
    counted.links.messages_sent = 12
    return counted


def transceiver(counted: Tally | None = None) -> TransceiverStatistics:
    counted = counted or tally()
    return TransceiverStatistics(
        sessions=2,
        sessions_by_key={0: 1, 3: 1},
        opened=5,
        reached_media=4,
        ended={"client-bye": 3, "dtls-timeout": 1},
        verdicts={"ok": 2, "no-check": 1},
        packets_received=9,
        packets_sent=8,
        punctuality=Punctuality(
            frames=200,
            skipped=7,
            on_time_ratio=0.995,
            late_up_to={"1": 150, "5": 49, "more": 1},
            late=0.25,
        ),
        placement=Placement(
            sessions_max=100,
            on_time_ratio=0.97,
            opened_here=3,
            opened_elsewhere=4,
            opened_for_others=2,
            refused=1,
            remote=1,
            detached=0,
        ),
        drops={"unbound-address": 1},
        bytes_received=900,
        bytes_sent=800,
        setup=counted.setup_counts(),
        quality=counted.quality_counts(),
        media=counted.media_counts(),
        links=counted.link_counts(),
        trunk=WayCounts(frames=12, ways=3, turned=1),
        process=ProcessCounts(cpu=2.5, resident_max_bytes=90_000_000),
    )


def worker(
    kind: WorkerKind,
    index: int = 0,
    state: str = "running",
    statistics: WorkerStatistics | None = None,
) -> WorkerStatus:
    return WorkerStatus(
        kind=kind, index=index, pid=7, state=state, restarts=2, statistics=statistics
    )


def status(*workers: WorkerStatus) -> Status:
    """Return the status of an appliance; without ``workers`` there is one of each kind."""
    both = (
        worker("relay", 0, "running", relay()),
        worker("transceiver", 0, "running", transceiver()),
    )
    return Status(
        version="1.2.3",
        uptime=61.4,
        udp=["203.0.113.7:3478"],
        tcp=["203.0.113.7:443"],
        signaling=["127.0.0.1:8080"],
        workers=list(workers or both),
        registration=RegistrationStatus(
            state="up", server="192.0.2.9:6379", written=9, refused="", contested=2
        ),
    )
