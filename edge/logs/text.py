"""A log record as text that is safe to print, and the two kinds of lines made of it.

Control characters are escaped and further lines indented, so that nothing that a client or a
backend sent can pass for a line of its own. Secrets are masked, and very long texts cut.
"""

import logging
import re
from datetime import UTC, datetime

from edge.logs.redaction import redact

TEXT_CHARS_MAX = 32_768
VALUE_CHARS_MAX = 256

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_exceptions = logging.Formatter()


def priority_of(record: logging.LogRecord) -> int:
    """Return a record's level as syslog counts it."""
    return _PRIORITIES.get(record.levelno, 5)


def safe_lines(record: logging.LogRecord) -> list[str]:
    """Return a record's message, and its exception if it has one, in lines that may be printed."""
    text = record.getMessage()
    if suppressed := getattr(record, "suppressed", 0):
        text += f" (and {suppressed} more like this since the last one)"
    if record.exc_info:
        text += "\n" + _exceptions.formatException(record.exc_info)
    if len(text) > TEXT_CHARS_MAX:
        text = f"{text[:TEXT_CHARS_MAX]}\n({len(text) - TEXT_CHARS_MAX} more characters)"
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], redact(text)).split("\n")


def safe_value(text: str) -> str:
    """Return a text as one line that may be printed."""
    text = redact(text[:VALUE_CHARS_MAX])
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text).replace("\n", "\\n")


class PlainFormatter(logging.Formatter):
    """``2026-11-22T10:00:00.123Z info    relay-0: message``."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level = record.levelname.lower()
        start = f"{moment.removesuffix('+00:00')}Z {level:<7} {self._process}: "
        return start + "\n    ".join(safe_lines(record))


class PriorityFormatter(logging.Formatter):
    """``<6>relay-0: message``; every line has its priority (sd-daemon(3))."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{priority_of(record)}>"
        lines = f"\n{priority}    ".join(safe_lines(record))
        return f"{priority}{self._process}: {lines}"
