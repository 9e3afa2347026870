"""Logging of the supervisor and the workers: lines on standard error, at a bounded rate.

A message is made safe to print: control characters are escaped and further lines indented, so that
nothing that a client or a backend sent can pass for a line of its own.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

LINES_MAX = 30
"""Lines of one kind (logger and message template) that are written per interval."""
INTERVAL = 10.0

_KINDS_MAX = 1024
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_JOURNAL_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def configure(level: str, process: str, *, journal: bool = False) -> None:
    """Send all log lines of this process to standard error.

    ``level`` is the least important level to write ("debug" to "error"), ``process`` the name that
    lines carry, such as ``relay-0``. ``journal``: standard error is the systemd journal, which
    keeps times itself and takes priorities as ``<N>`` prefixes (sd-daemon(3)).
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter(process) if journal else PlainFormatter(process))
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def journal_in_use() -> bool:
    """Whether this process was configured for the journal: what its children should be told."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    return any(isinstance(formatter, JournalFormatter) for formatter in formatters)


def is_journal(journal_stream: str | None, descriptor: int) -> bool:
    """Whether a descriptor is the one that ``$JOURNAL_STREAM`` means (systemd.exec(5))."""
    if journal_stream is None:
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


class PlainFormatter(logging.Formatter):
    """``2026-11-22T10:00:00.123Z info    relay-0: message``."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level = record.levelname.lower()
        start = f"{moment.removesuffix('+00:00')}Z {level:<7} {self._process}: "
        return start + "\n    ".join(_safe_lines(self, record))


class JournalFormatter(logging.Formatter):
    """``<6>relay-0: message``; every line has its priority."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_JOURNAL_PRIORITIES.get(record.levelno, 5)}>"
        lines = f"\n{priority}    ".join(_safe_lines(self, record))
        return f"{priority}{self._process}: {lines}"


class RateLimit(logging.Filter):
    """Pass so many records per interval of each kind; the next one says how many it swallowed."""

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
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        kind, now = (record.name, template), self._clock()
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= _KINDS_MAX:
                del self._windows[next(iter(self._windows))]
            window = self._windows[kind] = _Window(now)
        elif now - window.opened_at >= self._interval:
            record.suppressed = window.suppressed
            window.reopen(now)
        window.passed += 1
        if window.passed > self._lines_max:
            window.suppressed += 1
            return False
        return True


class _Window:
    __slots__ = ("opened_at", "passed", "suppressed")

    def __init__(self, now: float) -> None:
        self.reopen(now)

    def reopen(self, now: float) -> None:
        self.opened_at = now
        self.passed = self.suppressed = 0


def _safe_lines(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    text = record.getMessage()
    if suppressed := getattr(record, "suppressed", 0):
        text += f" (and {suppressed} more like this since the last one)"
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text).split("\n")
