"""When a worker that ended is started again, and when the service gives up.

A worker that reports that it cannot boot, or dies before it was ever ready, is not restarted during
start-up: the configuration or the machine is wrong and the operator must hear of it. A worker that
dies later has crashed: it is restarted after a delay that doubles with every crash that follows
soon after the last, and goes back to the shortest once the worker has lived for a while.
"""

STABLE_AFTER = 30.0
"""A worker that ran this long had a good life; its crash starts a new series."""


class RestartPolicy:
    """One worker's restart delays. Times: seconds on the caller's monotonic clock."""

    def __init__(self, first_delay: float, longest_delay: float) -> None:
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._delay = first_delay
        self._started_at: float | None = None
        self.restarts = 0

    def note_started(self, now: float) -> None:
        self._started_at = now

    def next_delay(self, now: float) -> float:
        """The worker has crashed: return how long to wait before the next start."""
        if self._started_at is not None and now - self._started_at >= STABLE_AFTER:
            self._delay = self._first_delay
        delay = self._delay
        self._delay = min(self._delay * 2, self._longest_delay)
        self.restarts += 1
        return delay
