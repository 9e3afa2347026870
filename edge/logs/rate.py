"""A bound on log lines of one kind: whoever can cause a line can cause only so many."""

import logging
import time
from collections.abc import Callable

LINES_MAX = 30
"""Lines of one kind (logger and message template) that are written per interval."""
INTERVAL = 10.0
KINDS_MAX = 1024

_FORGOTTEN = ("edge.logs", "lines of kinds that were too many to remember")


class RateLimit(logging.Filter):
    """Pass so many records per interval of each kind, and say how many were not.

    The number is told with the next record of the kind that passes, or by ``overdue`` when none
    comes.
    """

    def __init__(
        self,
        lines_max: int = LINES_MAX,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._lines_max = lines_max
        self._interval = interval
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "is_summary", False):
            return True
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        kind, now = (record.name, template), self._clock()
        window = self._windows.get(kind)
        if window is None:
            self._make_room(now)
            window = self._windows[kind] = _Window(now)
        elif now - window.opened_at >= self._interval:
            record.suppressed = window.suppressed
            window.reopen(now)
        window.passed += 1
        if window.passed > self._lines_max:
            window.suppressed += 1
            window.level = max(window.level, record.levelno)
            return False
        return True

    def overdue(self) -> list[logging.LogRecord]:
        """Return what is left to say of kinds whose interval is over: one record each."""
        now = self._clock()
        records = []
        for (name, template), window in list(self._windows.items()):
            if window.suppressed and now - window.opened_at >= self._interval:
                records.append(_summary(name, template, window))
                window.reopen(now)
        return records

    def _make_room(self, now: float) -> None:
        """Forget the oldest kind, but not how many of its lines were swallowed."""
        if len(self._windows) < KINDS_MAX:
            return
        oldest = next(kind for kind in self._windows if kind != _FORGOTTEN)
        forgotten = self._windows.pop(oldest)
        if forgotten.suppressed:
            window = self._windows.setdefault(_FORGOTTEN, _Window(now))
            window.suppressed += forgotten.suppressed
            window.level = max(window.level, forgotten.level)


class _Window:
    __slots__ = ("level", "opened_at", "passed", "suppressed")

    def __init__(self, now: float) -> None:
        self.reopen(now)

    def reopen(self, now: float) -> None:
        self.opened_at = now
        self.passed = self.suppressed = self.level = 0


def _summary(name: str, template: str, window: _Window) -> logging.LogRecord:
    message = "... and %d more like this: %s"
    record = logging.LogRecord(
        name, window.level, __file__, 0, message, (window.suppressed, template), None
    )
    record.is_summary = True
    return record
