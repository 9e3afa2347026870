"""Commands in order, replies in order, bounds, and what a server must not do."""

import pytest

from edge.errors import StoreError
from edge.redis.pipeline import Pipeline
from edge.redis.resp import Replies, Reply, encode_command


def test_a_command_travels_as_an_array_of_bulk_strings() -> None:
    assert encode_command("SET", b"k\r\n", 5) == b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$1\r\n5\r\n"


def test_replies_go_to_those_who_asked_in_order() -> None:
    pipeline, got = Pipeline(1.0), list[tuple[int, Reply]]()
    for number in range(3):
        pipeline.submit(lambda reply, n=number: got.append((n, reply)), "GET", number, now=0.0)  # type: ignore[misc]
    assert pipeline.take_outgoing().count(b"GET") == 3
    assert pipeline.take_outgoing() == b""
    for byte in b"$1\r\na\r\n$-1\r\n:7\r\n":
        assert pipeline.receive(bytes((byte,))) is None
    assert got == [(0, b"a"), (1, None), (2, 7)]
    assert pipeline.pending == 0
    assert pipeline.deadline is None


def test_an_error_reply_is_one_commands_alone() -> None:
    pipeline, got = Pipeline(1.0), list[Reply]()
    pipeline.submit(got.append, "SET", "a", 1, now=0.0)
    pipeline.submit(got.append, "GET", "a", now=0.0)
    assert pipeline.receive(b"-OOM command not allowed\r\n$1\r\nx\r\n") is None
    assert isinstance(got[0], StoreError)
    assert got[0].reason == "redis-out-of-memory"
    assert got[1] == b"x"


def test_a_replica_is_the_wrong_server() -> None:
    pipeline = Pipeline(1.0)
    pipeline.submit(None, "SET", "a", 1, now=0.0)
    wrong = pipeline.receive(b"-READONLY You can't write against a read only replica.\r\n")
    assert wrong is not None
    assert wrong.reason == "redis-read-only"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"NOAUTH Authentication required.", "redis-denied"),
        (b"WRONGPASS invalid", "redis-denied"),
        (b"NOPERM this user", "redis-denied"),
        (b"WRONGTYPE Operation against a key", "redis-wrong-type"),
        (b"LOADING Redis is loading", "redis-loading"),
        (b"ERR whatever", "redis-refused"),
        (b"", "redis-refused"),
    ],
)
def test_error_replies_have_fixed_reasons(line: bytes, reason: str) -> None:
    (reply,) = Replies().receive(b"-" + line + b"\r\n")
    assert isinstance(reply, StoreError)
    assert reply.reason == reason


def test_too_many_commands_are_refused_and_change_nothing() -> None:
    pipeline, got = Pipeline(1.0, pending_max=2), list[Reply]()
    for _ in range(2):
        pipeline.submit(got.append, "PING", now=0.0)
    with pytest.raises(StoreError, match="redis-busy"):
        pipeline.submit(got.append, "PING", now=0.0)
    assert pipeline.take_outgoing().count(b"PING") == 2
    pipeline.receive(b"+PONG\r\n")
    pipeline.submit(got.append, "PING", now=0.0)
    assert got == [b"PONG"]


def test_the_deadline_is_the_oldest_commands() -> None:
    pipeline = Pipeline(1.0)
    assert pipeline.deadline is None
    pipeline.submit(None, "PING", now=5.0)
    pipeline.submit(None, "PING", now=5.5)
    assert pipeline.deadline == 6.0
    pipeline.receive(b"+PONG\r\n")
    assert pipeline.deadline == 6.5


def test_everybody_who_waits_hears_of_a_failure_once() -> None:
    pipeline, got = Pipeline(1.0), list[Reply]()
    failure = StoreError("redis-lost")
    pipeline.submit(got.append, "PING", now=0.0)
    pipeline.submit(None, "PING", now=0.0)
    pipeline.fail(failure)
    pipeline.fail(failure)
    assert got == [failure]
    assert pipeline.take_outgoing() == b""


@pytest.mark.parametrize(
    "junk", [b"HTTP/1.1 400 Bad Request\r\n", b"+PONG\r\n", b"*-5\r\n", b"%1\r\n*0\r\n+a\r\n"]
)
def test_what_is_no_answer_ends_the_connection(junk: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        Pipeline(1.0).receive(junk)
    assert caught.value.reason == "redis-protocol"
