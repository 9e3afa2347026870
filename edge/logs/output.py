"""Where the log lines of a process go."""

import logging
import os
import sys

from edge.logs.journal import JournalHandler
from edge.logs.rate import RateLimit
from edge.logs.text import PlainFormatter, PriorityFormatter


def configure(level: str, process: str, *, journal: bool = False) -> None:
    """Send all log lines of this process to the journal or to standard error.

    ``level`` is the least important level to write ("debug" to "error"), ``process`` the name that
    lines carry, such as ``relay-0``. ``journal``: standard error is the systemd journal, which
    also takes fields by a socket of its own.
    """
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(PriorityFormatter(process) if journal else PlainFormatter(process))
    handler: logging.Handler = JournalHandler(process, lines) if journal else lines
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def journal_in_use() -> bool:
    """Whether this process was configured for the journal: what its children should be told."""
    return any(isinstance(each, JournalHandler) for each in logging.getLogger().handlers)


def report_suppressed() -> None:
    """Write what is overdue of the rate limit's sums. To be called now and then."""
    for handler in logging.getLogger().handlers:
        for limit in handler.filters:
            if isinstance(limit, RateLimit):
                for record in limit.overdue():
                    handler.handle(record)


def flush() -> None:
    """Let the journal read what this process said before it ends. Waits a moment."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def is_journal(journal_stream: str | None, descriptor: int) -> bool:
    """Whether a descriptor is the one that ``$JOURNAL_STREAM`` means (systemd.exec(5))."""
    if journal_stream is None:
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"
