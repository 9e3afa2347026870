"""What no command of ours is answered with is refused, before anything is allocated for it."""

import pytest

from edge.errors import StoreError
from edge.redis.bounds import DEPTH_MAX, ELEMENTS_MAX, LINE_BYTES_MAX, REPLY_BYTES_MAX
from edge.redis.resp import Replies, Reply

TOO_LONG = {
    "an array": b"*%d\r\n" % (ELEMENTS_MAX + 1),
    "an array beyond all measure": b"*9223372036854775807\r\n",
    "arrays in an array": b"*2\r\n*%d\r\n" % (ELEMENTS_MAX - 1),
    "arrays after others": b"*3\r\n*1\r\n:1\r\n*%d\r\n" % (ELEMENTS_MAX - 3),
    "a string": b"$%d\r\n" % REPLY_BYTES_MAX,
    "strings": b"*2\r\n$3\r\nabc\r\n$%d\r\n" % (REPLY_BYTES_MAX - 16),
    "a line": b"+" + b"x" * LINE_BYTES_MAX,
    "an error": b"-" + b"x" * LINE_BYTES_MAX,
}
NOT_RESP2 = {
    "nested too deep": b"*1\r\n" * (DEPTH_MAX + 1),
    "nested too deep in the last element": b"*2\r\n:1\r\n" * (DEPTH_MAX + 1),
    "a map": b"%1\r\n",
    "a set": b"~1\r\n",
    "a push": b">1\r\n",
    "an attribute": b"|1\r\n",
    "a verbatim string": b"=5\r\n",
    "a null": b"_\r\n",
    "a number with a sign": b"*+1\r\n",
    "a number with zeros": b"*01\r\n",
    "a number beyond all measure": b"*92233720368547758070\r\n",
    "a negative one": b"*-2\r\n",
    "no number": b"$\r\n",
}


def receive(sent: bytes, step: int) -> list[Reply]:
    """Receive so many bytes at a time."""
    replies, got = Replies(), list[Reply]()
    for start in range(0, len(sent), step):
        got += replies.receive(sent[start : start + step])
    return got


@pytest.mark.parametrize("step", [1, 3, 65_536])
@pytest.mark.parametrize(
    ("sent", "reason"),
    [(sent, "redis-reply-too-long") for sent in TOO_LONG.values()]
    + [(sent, "redis-protocol") for sent in NOT_RESP2.values()],
    ids=[*TOO_LONG, *NOT_RESP2],
)
def test_what_is_beyond_bounds_ends_the_connection(sent: bytes, reason: str, step: int) -> None:
    """At once, wherever the reads cut it."""
    with pytest.raises(StoreError) as caught:
        receive(b"+OK\r\n" + sent, step)
    assert caught.value.reason == reason


@pytest.mark.parametrize("step", [7, 65_536])
def test_the_largest_replies_come_one_after_the_other(step: int) -> None:
    string = bytes(REPLY_BYTES_MAX - len(b"$1048576\r\n\r\n"))
    largest: dict[bytes, Reply] = {
        b"*%d\r\n" % ELEMENTS_MAX + b"$-1\r\n" * ELEMENTS_MAX: [None] * ELEMENTS_MAX,
        b"*2\r\n*%d\r\n" % (ELEMENTS_MAX - 2) + b":1\r\n" * (ELEMENTS_MAX - 2) + b"*-1\r\n": [
            [1] * (ELEMENTS_MAX - 2),
            None,
        ],
        b"*1\r\n" * (DEPTH_MAX - 1) + b"*0\r\n": [[[]]],
        b"+" + b"x" * (LINE_BYTES_MAX - 3) + b"\r\n": b"x" * (LINE_BYTES_MAX - 3),
        b"$%d\r\n%b\r\n" % (len(string), string): string,
    }
    assert receive(b"".join(largest), step) == list(largest.values())


def test_what_looks_like_a_header_in_a_string_is_none() -> None:
    text = b"*300000000\r\n" * 7
    assert Replies().receive(b"*1\r\n$%d\r\n%b\r\n:1\r\n" % (len(text), text)) == [[text], 1]
