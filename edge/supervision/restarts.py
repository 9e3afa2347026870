"""When a worker that ended is started again.

A worker that reports that it cannot boot, or dies before it was ever ready, is not restarted: in
the first case the configuration or the machine is wrong and the operator must hear of it; in the
second the service ends and is itself started again. A worker that dies later has crashed. The first
crash is repaired at once, because calls wait for it; further ones after a delay that doubles, until
the worker has lived for a while again. A successor that cannot boot counts as one more crash: the
other workers' calls are not the price of a file that is missing.
"""

STABLE_AFTER = 30.0
"""A worker that ran this long had a good life; its crash starts a new series."""


class RestartPolicy:
    """One worker's restart delays: 0, ``first_delay``, twice that and so on.

    Times: seconds on the caller's monotonic clock.
    """

    def __init__(self, first_delay: float, longest_delay: float) -> None:
        self.first_delay = first_delay
        self.longest_delay = longest_delay
        self._delay = 0.0
        self._started_at: float | None = None
        self.restarts = 0

    def space(self, other: "RestartPolicy") -> None:
        """Take over the delays of another policy from the next series on."""
        self.first_delay = other.first_delay
        self.longest_delay = other.longest_delay

    def note_started(self, now: float) -> None:
        self._started_at = now

    def next_delay(self, now: float) -> float:
        """The worker has crashed: return how long to wait before the next start."""
        if self._started_at is not None and now - self._started_at >= STABLE_AFTER:
            self._delay = 0.0
        delay = self._delay
        self._delay = min(max(delay * 2, self.first_delay), self.longest_delay)
        self.restarts += 1
        return delay
