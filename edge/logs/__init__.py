"""Logging of the supervisor and the workers: to the journal, or as lines on standard error.

Whoever logs about a session says so in ``extra``: ``logger.info("session %s ended", name,
extra={"session_id": name})``. ``FIELDS`` are the keys that there are. The journal gets them as
fields that can be searched for; lines of text have what the message says.
"""

from edge.logs.fields import FIELDS
from edge.logs.output import configure, flush, is_journal, journal_in_use, report_suppressed

__all__ = [
    "FIELDS",
    "configure",
    "flush",
    "is_journal",
    "journal_in_use",
    "report_suppressed",
]
