"""Log lines on standard error: formats, escaping, rate limit."""

import logging
import os
import subprocess
import sys

import pytest

from edge.logs import is_journal
from edge.logs.rate import KINDS_MAX, RateLimit
from edge.logs.text import TEXT_CHARS_MAX, PlainFormatter, PriorityFormatter, safe_lines


def record(message: str, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord("edge.relay", level, __file__, 1, message, arguments, None)
    made.created = 1_700_000_000.25
    return made


def failed_record() -> logging.LogRecord:
    made = record("session failed", level=logging.ERROR)
    failure = RuntimeError("line one\nline two")
    made.exc_info = (RuntimeError, failure, None)
    return made


def test_plain_line() -> None:
    line = PlainFormatter("relay-0").format(record("bound %s", "127.0.0.1:3478"))
    assert line == "2023-11-14T22:13:20.250Z info    relay-0: bound 127.0.0.1:3478"


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)],
)
def test_journal_line(level: str, priority: int) -> None:
    made = record("ready", level=getattr(logging, level))
    assert PriorityFormatter("relay-0").format(made) == f"<{priority}>relay-0: ready"


def test_foreign_text_cannot_forge_a_line() -> None:
    hostile = "bye\n2023-11-14T22:13:20.250Z error   relay-0: on fire\r\x1b[2J\x9b\u2028"
    plain = PlainFormatter("relay-0").format(record("peer says %s", hostile))
    assert plain.split("\n")[1].startswith("    2023")
    assert plain.replace("\n", "").isprintable()
    journal = PriorityFormatter("relay-0").format(
        record("peer says %s", "bye\n<0>relay-0: on fire")
    )
    assert journal.split("\n")[1] == "<6>    <0>relay-0: on fire"


def test_tracebacks_are_indented_and_keep_the_priority() -> None:
    plain = PlainFormatter("relay-0").format(failed_record()).split("\n")
    assert plain[0].endswith("session failed")
    assert all(line.startswith("    ") for line in plain[1:])
    journal = PriorityFormatter("relay-0").format(failed_record()).split("\n")
    assert all(line.startswith("<3>") for line in journal)
    assert journal[-1] == "<3>    line two"


def test_very_long_texts_are_cut() -> None:
    lines = safe_lines(record("peer says %s", "a " * TEXT_CHARS_MAX))
    assert len(lines[0]) == TEXT_CHARS_MAX
    assert lines[1] == f"({TEXT_CHARS_MAX + len('peer says ')} more characters)"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rate_limit_passes_some_then_says_how_many_it_swallowed() -> None:
    clock = Clock()
    limit = RateLimit(lines_max=3, interval=10.0, clock=clock)
    passed = [limit.filter(record("dropped %s", number)) for number in range(10)]
    assert passed == [True] * 3 + [False] * 7
    clock.now += 9.9
    assert not limit.filter(record("dropped %s", 10))
    clock.now += 0.1
    late = record("dropped %s", 11)
    assert limit.filter(late)
    line = PlainFormatter("relay-0").format(late)
    assert line.endswith("dropped 11 (and 8 more like this since the last one)")
    assert "more like this" not in PlainFormatter("relay-0").format(record("dropped %s", 12))


def test_rate_limit_counts_kinds_apart() -> None:
    limit = RateLimit(lines_max=1, clock=Clock())
    assert limit.filter(record("one %s", 1))
    assert limit.filter(record("two %s", 1))
    assert not limit.filter(record("one %s", 2))
    other_logger = record("one %s", 3)
    other_logger.name = "edge.supervisor"
    assert limit.filter(other_logger)


def test_rate_limit_says_how_many_it_swallowed_even_if_no_more_come() -> None:
    clock = Clock()
    limit = RateLimit(lines_max=3, interval=10.0, clock=clock)
    for number in range(10):
        limit.filter(record("dropped %s", number, level=logging.WARNING))
    limit.filter(record("another kind"))
    assert limit.overdue() == []
    clock.now += 10.0
    (summary,) = limit.overdue()
    assert limit.filter(summary)
    assert summary.levelno == logging.WARNING
    assert safe_lines(summary) == ["... and 7 more like this: dropped %s"]
    assert limit.overdue() == []


def test_rate_limit_remembers_a_bounded_number_of_kinds() -> None:
    clock = Clock()
    limit = RateLimit(lines_max=1, interval=10.0, clock=clock)
    for number in range(5000):
        assert limit.filter(record(f"kind {number}"))
        assert not limit.filter(record(f"kind {number}"))
    assert len(limit._windows) <= KINDS_MAX + 1
    assert not limit.filter(record("kind 4999"))
    clock.now += 10.0
    told = [summary.args for summary in limit.overdue()]
    assert sum(args[0] for args in told if isinstance(args, tuple)) == 5001  # type: ignore[misc]


def test_journal_stream_is_recognised() -> None:
    read, write = os.pipe()
    try:
        status = os.fstat(write)
        assert is_journal(f"{status.st_dev}:{status.st_ino}", write)
        assert not is_journal(f"{status.st_dev}:{status.st_ino + 1}", write)
        assert not is_journal("nonsense", write)
        assert not is_journal(None, write)
    finally:
        os.close(read)
        os.close(write)
    assert not is_journal(f"{status.st_dev}:{status.st_ino}", write)


@pytest.mark.parametrize(
    ("journal", "expected"),
    [("False", "Z warning relay-0: shown\n"), ("True", "<4>relay-0: shown\n")],
)
def test_configured_process(journal: str, expected: str) -> None:
    """In a process of its own, because logging is a property of the process."""
    code = (
        "import logging; from edge import logs;"
        f"logs.configure('warning', 'relay-0', journal={journal});"
        f"assert logs.journal_in_use() is {journal};"
        "logging.getLogger('edge').info('hidden');"
        "logging.getLogger('edge').warning('shown')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith(expected)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
