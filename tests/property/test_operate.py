"""Any line is a request or one OperatorError, and any reply a value or one ValueError."""

import json
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from edge.operate.protocol import (
    OperatorError,
    Refused,
    decode_reply,
    decode_request,
    encode_line,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["status", "sessions", "session", "end", "drain", "undrain", "reload"])
    | st.text(st.characters(exclude_categories=[]), max_size=150),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["do", "is", "version", "session", "limit", "deadline", "code"])
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
LINES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
DEEP = b'{"do":"status","more":' + b"[" * 1990 + b"]" * 1990 + b"}"
NOT_UTF8 = b'{"do":"end","session":"\xff\xff"}'
HALF_A_CHARACTER = b'{"do":"end","session":"\\ud83d"}'


@given(LINES)
@example(DEEP)
@example(b"[" * 4000)
@example(NOT_UTF8)
@example(b'{"do":"\xff"}')
@example(HALF_A_CHARACTER)
@example(b'{"do":"end","session":"\\u0000"}')
def test_any_line_is_a_request_or_refused(line: bytes) -> None:
    try:
        request = decode_request(line)
    except OperatorError as exc:
        encode_line(Refused(code=exc.code, message=str(exc)))
    else:
        assert decode_request(encode_line(request)) == request


@given(LINES)
@example(DEEP.replace(b'"do"', b'"is"'))
@example(b"[" * 4000)
@example(b'{"is":"agreed","message":"\xff"}')
def test_any_reply_is_a_value_or_an_error(line: bytes) -> None:
    with suppress(ValueError):
        decode_reply(line)
