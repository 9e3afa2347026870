"""What is told of the appliance as a whole, and of each worker's process."""

from collections import Counter

from edge.control.statistics import ProcessCounts
from edge.control.status import Status, WorkerStatus
from edge.metrics.figure import Figure, Kind, Reading

SERVING = frozenset({"running", "leaving"})
"""The states of a worker that does something for calls."""


def name(worker: WorkerStatus) -> str:
    """Return what a worker is called in labels and logs."""
    return f"{worker.kind}-{worker.index}"


def _states(status: Status) -> Reading:
    return dict(Counter(worker.state for worker in status.workers))


APPLIANCE: tuple[Figure[Status], ...] = (
    Figure(
        "edge_build_info", Kind.GAUGE, "Always 1.", lambda status: {status.version: 1}, "version"
    ),
    Figure(
        "edge_uptime_seconds",
        Kind.GAUGE,
        "Since the service was started.",
        lambda status: status.uptime,
    ),
    Figure(
        "edge_draining",
        Kind.GAUGE,
        "1 while the operator wants no new sessions.",
        lambda status: int(status.drain is not None),
    ),
    Figure("edge_workers", Kind.GAUGE, "Workers by what they are doing.", _states, "state"),
)

WORKERS: tuple[Figure[WorkerStatus], ...] = (
    Figure(
        "edge_worker_up",
        Kind.GAUGE,
        "1 for a worker that serves, 0 for one that starts, ends or waits to be restarted.",
        lambda worker: int(worker.state in SERVING),
    ),
    Figure(
        "edge_worker_restarts",
        Kind.COUNTER,
        "How often a worker had to be started again.",
        lambda worker: worker.restarts,
    ),
)

PROCESSES: tuple[Figure[ProcessCounts], ...] = (
    Figure(
        "edge_worker_cpu_seconds",
        Kind.COUNTER,
        "CPU time of a worker's process.",
        lambda process: process.cpu,
    ),
    Figure(
        "edge_worker_resident_max_bytes",
        Kind.GAUGE,
        "The most memory that a worker's process ever had.",
        lambda process: process.resident_max_bytes,
    ),
)
