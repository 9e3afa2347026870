"""What the status says of Redis."""

from edge.control.statistics import RedisCounts, RelayStatistics
from edge.control.statistics import StreamCounts as Tcp
from edge.control.status import RegistrationStatus, Status, WorkerStatus
from edge.operate.redis_text import redis_section

UP = RedisCounts(
    state="up",
    server="10.0.0.9:6379",
    connected=2,
    lost={"redis-timeout": 1},
    pending=0,
    events={"redis-hit": 3, "redis-miss": 0, "flow-written": 20},
    refused="",
    hosts=4,
    distrusted={"entry-forged": 2},
)
DOWN = RedisCounts(
    state="down",
    server="",
    connected=0,
    lost={"redis-timeout": 7},
    pending=0,
    events={},
    refused="",
    hosts=0,
    distrusted={},
)
FULL = RedisCounts(
    state="up",
    server="10.0.0.9:6379",
    connected=1,
    lost={},
    pending=0,
    events={"write-redis-out-of-memory": 9},
    refused="redis-out-of-memory",
    hosts=0,
    distrusted={},
)


def status(*counts: RedisCounts | None, registration: RegistrationStatus | None = None) -> Status:
    tcp = Tcp(connections=0, half_open=0, accepted=0, refused={}, closed={})
    relays = [
        RelayStatistics(
            packets=0,
            bytes=0,
            forwarded=0,
            frames=0,
            first_checks=[],
            drops={},
            flows=[],
            tcp=tcp,
            redis=each,
        )
        for each in counts
    ]
    workers = [
        WorkerStatus(kind="relay", index=0, pid=1, state="running", restarts=0, statistics=each)
        for each in relays
    ]
    return Status(
        version="1",
        uptime=1.0,
        udp=[],
        tcp=[],
        signaling=[],
        workers=workers,
        registration=registration,
    )


def test_without_redis_there_is_nothing_to_say() -> None:
    assert list(redis_section(status(None, None))) == []


def test_connections_and_events_are_summed() -> None:
    registered = RegistrationStatus(state="up", server="10.0.0.9:6379", written=12, refused="")
    assert list(redis_section(status(UP, DOWN, registration=registered))) == [
        "redis      up for 1 of 2 relay workers, at 10.0.0.9:6379; 4 hosts in the directory",
        "registered as a host, 12 times",
        "       20  flow-written",
        "        3  redis-hit",
        "        8  redis-timeout",
        "        2  entry-forged",
    ]


def test_trouble_is_said_first() -> None:
    refused = RegistrationStatus(state="up", server="s", written=0, refused="redis-denied")
    lines = list(redis_section(status(FULL, registration=refused)))
    assert lines[0].endswith("REFUSES WRITES: redis-out-of-memory")
    assert lines[1] == "registered NO: redis-denied"
    twin = RegistrationStatus(
        state="up", server="s", written=3, refused="", contested=1, rival="10.0.0.9"
    )
    text = "registered BUT SO IS 10.0.0.9, as the same host: their lists of hosts differ"
    assert text in redis_section(status(DOWN, registration=twin))
    gone = RegistrationStatus(state="down", server="", written=3, refused="")
    assert "registered NO: Redis is down" in redis_section(status(DOWN, registration=gone))
