"""Whatever bytes arrive on the signaling port: an answer or silence, never a failure."""

import re
from functools import partial

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from edge.errors import SignalError
from edge.signal.exchange import RequestHead, Response, json_response
from edge.signal.http import HttpConnection
from edge.signal.intake import Turnstile
from edge.signal.multipart import decode_form
from edge.signal.settings import SignalSettings

SETTINGS = SignalSettings(
    head_timeout=1, body_timeout=1, keep_alive_timeout=1, close_timeout=1, requests_max=3
)
BODY_BYTES_MAX = 100

_names = st.sampled_from(
    ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "X"]
)
_values = st.sampled_from(
    ["x", "0", "5", "101", "chunked", "close", "keep-alive", "100-continue", "websocket", "\xff"]
)
_heads = st.builds(
    lambda line, headers: "\r\n".join((line, *headers, "", "")).encode("latin-1"),
    st.sampled_from(
        [
            "GET / HTTP/1.1",
            "POST /v1/whip?a=b HTTP/1.1",
            "HEAD / HTTP/1.0",
            "CONNECT a:1 HTTP/1.1",
            "PRI * HTTP/2.0",
        ]
    ),
    st.lists(st.builds("{}: {}".format, _names, _values), max_size=5),
)
_bodies = st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", bytes(200)])
_bytes = st.lists(st.one_of(_heads, _bodies, st.binary(max_size=50)), max_size=6).map(b"".join)


async def _serve(stream: trio.abc.HalfCloseableStream, *, reads_bodies: bool) -> int:
    """Answer requests as the server does; return how many there were."""
    connection = HttpConnection(stream, stream, Turnstile(0.001), SETTINGS)
    answered = 0
    more = True
    while more:
        head = await connection.receive_head()
        if head is None:
            await connection.close()
            break
        answered += 1
        response = json_response(200, "fine")
        assert isinstance(head, Response) or head.method != "CONNECT"
        if isinstance(head, RequestHead) and reads_bodies:
            body = await connection.receive_body(head, BODY_BYTES_MAX)
            assert isinstance(body, Response) or len(body) <= BODY_BYTES_MAX
        if isinstance(head, Response):
            assert head.status >= 400
            response = head
        more = await connection.respond(response, last=isinstance(head, Response))
    return answered


async def _exchange(data: bytes, *, reads_bodies: bool) -> None:
    client, server = trio.testing.memory_stream_pair()
    await client.send_all(data)
    await client.send_eof()
    answered = await _serve(server, reads_bodies=reads_bodies)
    assert answered <= SETTINGS.requests_max
    received = b"".join([chunk async for chunk in client])
    assert len(re.findall(rb"HTTP/1\.1 [2-5]\d\d \r\n", received)) == answered


@given(_bytes, st.booleans())
@example(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4, False)
def test_any_bytes(data: bytes, reads_bodies: bool) -> None:
    trio.run(
        partial(_exchange, data, reads_bodies=reads_bodies),
        clock=trio.testing.MockClock(autojump_threshold=0),
    )


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"--b",
                    b"--b--",
                    b"\r\n",
                    b"\r\n\r\n",
                    b'Content-Disposition: form-data; name="sdp"',
                ]
            ),
            st.binary(max_size=20),
        ),
        max_size=12,
    ).map(b"".join),
    st.one_of(st.just("multipart/form-data; boundary=b"), st.text(max_size=40)),
)
def test_any_form(body: bytes, content_type: str) -> None:
    try:
        parts = decode_form(body, content_type)
    except SignalError as exc:
        assert exc.reason == "malformed-message"  # noqa: PT017 (bytes may be good, too)
        return
    for name, value in parts.items():
        assert name
        assert value in body


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.binary(max_size=60).filter(lambda value: b"\r\n--b" not in b"\r\n" + value + b"\r\n"),
        min_size=1,
        max_size=5,
    )
)
def test_forms_come_back(parts: dict[str, bytes]) -> None:
    pieces = [
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in parts.items()
    ]
    body = b"".join(pieces) + b"--b--\r\n"
    assert decode_form(body, "multipart/form-data; boundary=b") == parts


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_request_may_come_in_pieces(size: int, autojump_clock: object) -> None:
    del autojump_clock
    data = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    client, server = trio.testing.memory_stream_pair()
    connection = HttpConnection(server, server, Turnstile(0.001), SETTINGS)

    async def send() -> None:
        for start in range(0, len(data), size):
            await client.send_all(data[start : start + size])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        head = await connection.receive_head()
        assert isinstance(head, RequestHead)
        assert await connection.receive_body(head, BODY_BYTES_MAX) == b"abcde"
