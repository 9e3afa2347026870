"""Records in the journal's native protocol, on a socket like the journal's."""

import logging
import socket
import struct
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

import pytest

from edge.logs.journal import JournalHandler, encode_fields
from edge.logs.text import PriorityFormatter


def decode_fields(datagram: bytes) -> list[tuple[str, str]]:
    """Read what journald would."""
    fields = []
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
            datagram = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            name, value = line, rest[8 : 8 + length]
            assert rest[8 + length : 9 + length] == b"\n"
            datagram = rest[9 + length :]
        fields.append((name.decode(), value.decode()))
    return fields


class Journal:
    """The other end: a datagram socket, and standard error."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "socket")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.errors, theirs = socket.socketpair()
        self.errors.setblocking(False)
        self.stream = TextIOWrapper(theirs.makefile("wb", buffering=0), write_through=True)
        self._theirs = theirs
        lines = logging.StreamHandler(self.stream)
        lines.setFormatter(PriorityFormatter("relay-0"))
        self.handler = JournalHandler("relay-0", lines, self.path)
        self.logger = logging.getLogger("edge.relay.of.a.test")
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.logger.addHandler(self.handler)

    def receive(self) -> list[tuple[str, str]]:
        return decode_fields(self.socket.recv(1 << 20))

    def drain(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(dict(self.receive())["MESSAGE"])
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self.logger.removeHandler(self.handler)
        self.handler.close()
        self.stream.close()
        for each in (self.socket, self.errors, self._theirs):
            each.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(tmp_path)
    yield one
    one.close()


def test_a_record_has_its_fields(journal: Journal) -> None:
    session = "1.513.AbCdEfGhIjKlMnOp"
    extra = {"session_id": session, "verdict": "no-dtls", "reason": "client-bye", "other": "x"}
    journal.logger.warning("session %s ended", session, extra=extra)
    fields = journal.receive()
    known = dict(fields)
    assert len(known) == len(fields)
    assert known.pop("CODE_FILE") == __file__
    assert known.pop("CODE_FUNC") == "test_a_record_has_its_fields"
    assert int(known.pop("CODE_LINE")) > 0
    assert known == {
        "MESSAGE": f"relay-0: session {session} ended",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "edge",
        "WORKER": "relay-0",
        "SESSION_ID": session,
        "VERDICT": "no-dtls",
        "REASON": "client-bye",
        "LOGGER": "edge.relay.of.a.test",
    }


def test_a_worker_that_is_spoken_of_is_found_too(journal: Journal) -> None:
    journal.logger.error("worker %s ended", "relay-1", extra={"worker": "relay-1"})
    workers = [value for name, value in journal.receive() if name == "WORKER"]
    assert workers == ["relay-0", "relay-1"]


def test_exceptions_are_lines_of_one_message(journal: Journal) -> None:
    journal.logger.error("it failed", exc_info=RuntimeError("one\ntwo\x1b"))
    lines = dict(journal.receive())["MESSAGE"].split("\n")
    assert lines[0] == "relay-0: it failed"
    assert lines[-2:] == ["    RuntimeError: one", "    two\\x1b"]


def test_foreign_text_cannot_forge_a_field(journal: Journal) -> None:
    hostile = "bye\nPRIORITY=0\nSESSION_ID=else"
    journal.logger.info("peer: %s", hostile, extra={"reason": hostile})
    fields = journal.receive()
    assert [value for name, value in fields if name == "PRIORITY"] == ["6"]
    assert "SESSION_ID" not in dict(fields)
    assert dict(fields)["REASON"] == r"bye\nPRIORITY=0\nSESSION_ID=else"


def test_secrets_are_masked_in_text_and_fields(journal: Journal) -> None:
    journal.logger.info("a %s", "ek_0123456789abc", extra={"reason": "Bearer 0123456789"})
    known = dict(journal.receive())
    assert known["MESSAGE"] == "relay-0: a ek_[redacted]"
    assert known["REASON"] == "Bearer [redacted]"


def test_without_the_journals_socket_lines_go_to_standard_error(journal: Journal) -> None:
    Path(journal.path).unlink()
    journal.logger.info("still heard")
    assert journal.errors.recv(1000) == b"<6>relay-0: still heard\n"


def test_a_journal_that_does_not_read_holds_nobody_up(journal: Journal) -> None:
    """Its queue fills up, then standard error, then lines are lost and counted."""
    total = 5000
    for number in range(total):
        journal.logger.info("line %d %s", number, "x" * 1000)
    taken = len(journal.drain())
    written = journal.errors.recv(1 << 24, socket.MSG_WAITALL).count(b"\n")
    assert 0 < taken < total
    assert 0 < written < total - taken
    journal.logger.info("and then")
    lost = total - taken - written
    (message,) = journal.drain()
    assert f"({lost} lines before this one were lost: the journal was busy)" in message
    journal.logger.info("no more")
    assert journal.drain() == ["relay-0: no more"]


def test_flush_waits_until_all_was_read(journal: Journal) -> None:
    journal.logger.info("last words")
    assert journal.handler._is_unread()
    journal.receive()
    assert not journal.handler._is_unread()
    journal.handler.flush()


def test_text_that_is_not_utf8_is_sent(journal: Journal) -> None:
    journal.logger.info("odd \udcff")
    assert dict(journal.receive())["MESSAGE"] == "relay-0: odd \\udcff"


def test_field_encoding() -> None:
    """https://systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    fields = [("FOO", "1"), ("LINES", "a\nb")]
    assert encode_fields(fields) == b"FOO=1\nLINES\n\x03\0\0\0\0\0\0\0a\nb\n"
