"""Sessions per core: the real appliance, its transceiver alone on a core, more callers each time.

The relay, the supervisor, the callers and the backend share the other core. All sessions talk all
the time, both ways: 50 packets a second from every caller, 50 frames a second back. A level is
passed when at least 99.9 % of what the transceiver sent left within 5 ms of its time, the callers
heard all of it, and the backend heard all of them.
"""

import time

import msgspec
from attrs import frozen

from bench.echo.processes import cpu_time, cpu_times, machine_busy
from bench.media.backend import Received
from bench.media.load import Counted
from bench.media.processes import (
    Appliance,
    Child,
    ask,
    running_appliance,
    running_backend,
    running_callers,
)

SETTLE = 1.5
"""Seconds after the last session was opened: handshakes are over, counters current."""
TRIES = 3
ON_TIME_MS = 5.0
ON_TIME_RATIO = 0.999
HEARD_RATIO = 0.99
"""Beginnings and ends of a level are not exactly the same moment for all who count."""


@frozen
class Level:
    """What a number of sessions did. CPU in percent of a core."""

    sessions: int
    on_time_ratio: float
    """In echo mode: echoes back at the caller within 5 ms, which has more in it."""
    lateness_p99_ms: float
    """Upper bound of its bucket; of the round trip in echo mode."""
    heard_ratio: float
    """Of what the callers should have heard."""
    backend_ratio: float
    """Of what the backend should have heard."""
    cpu_percent: float
    cpu_ms_per_session_second: float
    load_cpu_percent: float
    """Everything on the other core that belongs to the benchmark."""
    others_cpu_percent: float
    """Everything else on the machine, on whichever core."""
    load_lateness_p99_ms: float

    @property
    def passed(self) -> bool:
        return (
            self.on_time_ratio >= ON_TIME_RATIO
            and self.heard_ratio >= HEARD_RATIO
            and self.backend_ratio >= HEARD_RATIO
        )


@frozen
class _Counters:
    """Of the transceiver, backend and kernel at one moment."""

    at: float
    late_up_to: dict[str, int]
    """Frames sent, by the upper bound of their lateness in ms, the last one without."""
    skipped: int
    backend_frames: int
    cpu: float
    load_cpu: float
    busy: float


def measure_capacity(mode: str, levels: list[int], seconds: float) -> list[Level]:
    """Raise the sessions level by level until one fails; return the last try of each."""
    found: list[Level] = []
    with (
        running_backend(mode) as backend,
        running_appliance(mode, backend) as appliance,
        running_callers(appliance, mode) as callers,
    ):
        for sessions in levels:
            ask(callers, f"open {sessions}")
            time.sleep(SETTLE)
            for _ in range(TRIES):
                level = _try(appliance, backend, callers, mode, seconds)
                _report(mode, level)
                if level.passed:
                    break
            found.append(level)
            if not level.passed:
                break
    return found


def best(levels: list[Level]) -> Level | None:
    """Return the greatest level that was passed."""
    passed = [level for level in levels if level.passed]
    return passed[-1] if passed else None


def _try(
    appliance: Appliance,
    backend: Child | None,
    callers: Child,
    mode: str,
    seconds: float,
) -> Level:
    before = _read_counters(appliance, backend, callers)
    counted = msgspec.json.decode(ask(callers, f"count {seconds}"), type=Counted)
    after = _read_counters(appliance, backend, callers)
    elapsed = after.at - before.at
    expected = counted.sent  # 50 packets a second of each, as are the frames back
    cpu, load_cpu = after.cpu - before.cpu, after.load_cpu - before.load_cpu
    backend_expected = expected * elapsed / seconds
    backend_frames = after.backend_frames - before.backend_frames
    if mode == "echo":
        on_time = 1 - counted.late / max(1, counted.looked_at)
        lateness = counted.echo_p99_ms
    else:
        counts = {
            bound: count - before.late_up_to[bound] for bound, count in after.late_up_to.items()
        }
        on_time = _on_time_ratio(counts, after.skipped - before.skipped)
        lateness = _lateness_p99_ms(counts)
    return Level(
        sessions=counted.sessions,
        on_time_ratio=on_time,
        lateness_p99_ms=lateness,
        heard_ratio=counted.heard / expected,
        backend_ratio=1.0 if backend is None else backend_frames / backend_expected,
        cpu_percent=100 * cpu / elapsed,
        cpu_ms_per_session_second=1e3 * cpu / elapsed / counted.sessions,
        load_cpu_percent=100 * load_cpu / elapsed,
        others_cpu_percent=100 * max(0.0, after.busy - before.busy - cpu - load_cpu) / elapsed,
        load_lateness_p99_ms=counted.send_lateness_p99_ms,
    )


def _read_counters(
    appliance: Appliance,
    backend: Child | None,
    callers: Child,
) -> _Counters:
    """Read all meters. The transceiver's own counters are up to a heartbeat old."""
    statistics = appliance.transceiver()
    frames = 0
    pids = [callers.pid, *appliance.other_pids]
    if backend is not None:
        frames = msgspec.json.decode(ask(backend, "read"), type=Received).frames
        pids.append(backend.pid)
    return _Counters(
        at=time.monotonic(),
        late_up_to=statistics.punctuality.late_up_to,
        skipped=statistics.punctuality.skipped,
        backend_frames=frames,
        cpu=cpu_time(appliance.transceiver_pid),
        load_cpu=cpu_times(pids),
        busy=machine_busy(),
    )


def _on_time_ratio(counts: dict[str, int], skipped: int) -> float:
    due = sum(counts.values()) + skipped
    on_time = sum(count for bound, count in counts.items() if _bound_ms(bound) <= ON_TIME_MS)
    return on_time / due if due else 0.0


def _lateness_p99_ms(counts: dict[str, int]) -> float:
    total, reached = sum(counts.values()), 0
    for bound, count in counts.items():
        reached += count
        if reached >= 0.99 * total:
            return _bound_ms(bound)
    return 0.0


def _bound_ms(bound: str) -> float:
    return float("inf") if bound == "more" else float(bound)


def _report(mode: str, level: Level) -> None:
    print(
        f"{mode:9}{level.sessions:5} sessions: on time {100 * level.on_time_ratio:.3f} %, "
        f"p99 {level.lateness_p99_ms:.1f} ms, heard {100 * level.heard_ratio:.1f} / "
        f"{100 * level.backend_ratio:.1f} %, CPU {level.cpu_percent:.0f} % "
        f"({level.cpu_ms_per_session_second:.2f} ms/session-second), "
        f"load {level.load_cpu_percent:.0f} % (late {level.load_lateness_p99_ms:.1f} ms), "
        f"others {level.others_cpu_percent:.0f} %  {'passed' if level.passed else 'FAILED'}",
        flush=True,
    )
