"""What a log record may say about itself, beside its text."""

from collections.abc import Iterator, Mapping
from logging import LogRecord

from edge.logs.text import safe_value

FIELDS: Mapping[str, str] = {
    "session_id": "SESSION_ID",
    "verdict": "VERDICT",
    "reason": "REASON",
    "backend": "BACKEND",
    "worker": "WORKER",  # that the supervisor talks about; who talks is there anyway
}
"""Keys of ``extra``, and the names of the journal's fields that they fill."""


def fields_of(record: LogRecord) -> Iterator[tuple[str, str]]:
    """Yield the journal's fields that a record fills by ``extra``, safe to print."""
    for key, name in FIELDS.items():
        value = getattr(record, key, None)
        if value is not None:
            yield name, safe_value(str(value))
