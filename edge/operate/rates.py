"""What happened between two looks at the appliance: the figures of ``edge top``."""

from collections import Counter
from collections.abc import Mapping

from attrs import frozen

from edge.control.statistics import RelayStatistics, TransceiverStatistics
from edge.control.status import Status, WorkerStatus
from edge.operate.status_text import worker_name

LATE_SHARE = 0.99
"""The lateness that is shown is that of which so many frames have less."""
_MORE = "more"


@frozen
class WorkerRates:
    """One worker. Rates are per second; None: there is nothing to compare with, or nothing."""

    worker: WorkerStatus
    sessions: int | None
    sessions_max: int | None
    on_time_ratio: float | None
    """Of the last seconds, as the worker sees it."""
    lateness: str | None
    """Of 99 % of the frames since the look before, at most: milliseconds, or "more"."""
    packets_in: float | None
    packets_out: float | None
    """Forwarded, for a relay."""
    drops: Mapping[str, float]


@frozen
class Rates:
    status: Status
    workers: tuple[WorkerRates, ...]
    opened: float | None
    ended: float | None
    drops: Mapping[str, float]
    """By reason, without those that did not happen."""


def compare(before: Status | None, status: Status, elapsed: float) -> Rates:
    """Return what happened in the ``elapsed`` seconds since the status before."""
    known = {} if before is None else {_identity(each): each for each in before.workers}
    workers: list[WorkerRates] = []
    opened = ended = 0
    comparable = False
    for worker in status.workers:
        earlier = known.get(_identity(worker))
        workers.append(_worker_rates(earlier, worker, elapsed))
        if earlier is None:
            continue
        match earlier.statistics, worker.statistics:
            case TransceiverStatistics() as old, TransceiverStatistics() as new:
                comparable = True
                opened += new.opened - old.opened
                ended += sum(new.ended.values()) - sum(old.ended.values())
    drops: Counter[str] = Counter()
    for rates in workers:
        for reason, rate in rates.drops.items():
            drops[reason] += rate  # type: ignore[assignment]
    return Rates(
        status=status,
        workers=tuple(workers),
        opened=opened / elapsed if comparable else None,
        ended=ended / elapsed if comparable else None,
        drops=drops,
    )


def _identity(worker: WorkerStatus) -> tuple[str, int | None]:
    """Counters of one process can be compared."""
    return worker_name(worker), worker.pid


def _worker_rates(before: WorkerStatus | None, worker: WorkerStatus, elapsed: float) -> WorkerRates:
    old = before.statistics if before is not None else None
    new = worker.statistics
    packets_in = packets_out = None
    sessions = sessions_max = on_time_ratio = lateness = None
    if isinstance(new, TransceiverStatistics):
        sessions, sessions_max = new.sessions, new.placement.sessions_max
        on_time_ratio = new.placement.on_time_ratio
    match old, new:
        case RelayStatistics(), RelayStatistics():
            packets_in = (new.packets - old.packets) / elapsed
            packets_out = (new.forwarded - old.forwarded) / elapsed
        case TransceiverStatistics(), TransceiverStatistics():
            packets_in = (new.packets_received - old.packets_received) / elapsed
            packets_out = (new.packets_sent - old.packets_sent) / elapsed
            lateness = _lateness(old.punctuality.late_up_to, new.punctuality.late_up_to)
    drops: dict[str, float] = {}
    if old is not None and new is not None:
        for reason, count in new.drops.items():
            if (more := count - old.drops.get(reason, 0)) > 0:
                drops[reason] = more / elapsed
    return WorkerRates(
        worker=worker,
        sessions=sessions,
        sessions_max=sessions_max,
        on_time_ratio=on_time_ratio,
        lateness=lateness,
        packets_in=packets_in,
        packets_out=packets_out,
        drops=drops,
    )


def _lateness(old: Mapping[str, int], new: Mapping[str, int]) -> str | None:
    """Return the bound that most frames since then kept; None without frames."""
    frames = {bound: count - old.get(bound, 0) for bound, count in new.items()}
    wanted = LATE_SHARE * sum(frames.values())
    if not wanted:
        return None
    below = 0
    for bound, count in frames.items():
        below += count
        if below >= wanted:
            return bound
    return _MORE
