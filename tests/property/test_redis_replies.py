"""However the reads cut what a server sends, it is the same replies, or refused."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import StoreError
from edge.redis.bounds import DEPTH_MAX, ELEMENTS_MAX
from edge.redis.resp import Replies, Reply

cuts = st.lists(st.integers(0, 400), max_size=40)
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.none(),
    st.binary(max_size=40),
    st.sampled_from([b"*300000000\r\n", b"\r\n", b"\r", b"$5\r\n", b"%1\r\n"]),
)
shallow = st.one_of(
    scalars,
    st.lists(st.one_of(scalars, st.lists(st.one_of(scalars, st.lists(scalars, max_size=4))))),
)
"""As deep as a reply may be, and no deeper."""
huge = st.integers(ELEMENTS_MAX + 1, 2**63 - 1)
headers = st.lists(st.integers(1, ELEMENTS_MAX), min_size=DEPTH_MAX, max_size=DEPTH_MAX + 5)


def encode(reply: Reply) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))
    raise AssertionError(reply)


def cut(sent: bytes, at: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(sent) + 1) for place in at), len(sent)]
    return [sent[start:end] for start, end in pairwise(ends)]


def receive(parts: list[bytes]) -> tuple[list[Reply], str]:
    """Return the replies before the first bad one's read, and its reason if there is one."""
    replies, got = Replies(), list[Reply]()
    for part in parts:
        try:
            got += replies.receive(part)
        except StoreError as exc:
            return got, exc.reason
    return got, ""


@given(st.lists(shallow, max_size=6), cuts)
def test_replies_come_back(sent: list[Reply], at: list[int]) -> None:
    assert receive(cut(b"".join(map(encode, sent)), at)) == (sent, "")


@given(st.lists(shallow, max_size=3), st.lists(st.just(b"*1\r\n"), max_size=2), huge, cuts)
def test_a_huge_header_is_refused_wherever_it_is_cut(
    before: list[Reply], around: list[bytes], size: int, at: list[int]
) -> None:
    sent = b"".join(map(encode, before)) + b"".join(around) + b"*%d\r\n" % size
    got, reason = receive(cut(sent, at))
    assert got == before[: len(got)]
    assert reason == "redis-reply-too-long"


@given(headers, cuts)
def test_nested_headers_are_refused_wherever_they_are_cut(sizes: list[int], at: list[int]) -> None:
    """One more than may be nested, or more elements in all than may be."""
    sent = b"".join(b"*%d\r\n" % size for size in (*sizes, 1))
    got, reason = receive(cut(sent, at))
    assert not got
    too_many = sum((*sizes, 1)[: DEPTH_MAX + 1]) > ELEMENTS_MAX
    assert reason == ("redis-reply-too-long" if too_many else "redis-protocol")


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"*2\r\n", b"$3\r\n"])), cuts)
def test_any_bytes_are_the_same_wherever_they_are_cut(parts: list[bytes], at: list[int]) -> None:
    sent = b"".join(parts)
    whole, reason = receive([sent])
    got, cut_reason = receive(cut(sent, at))
    assert bool(cut_reason) == bool(reason)
    assert repr(got) == repr(whole) or reason, "by repr, as errors are only equal to themselves"
