"""Forms with parts, as clients write them."""

import pytest

from edge.errors import SignalError
from edge.signal.multipart import PARTS_MAX, decode_form

CURL = (
    b"--------------------------f0\r\n"
    b'Content-Disposition: form-data; name="sdp"\r\n'
    b"\r\n"
    b"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n\r\n"
    b"--------------------------f0\r\n"
    b'Content-Disposition: form-data; name="session"; filename="session.json"\r\n'
    b"Content-Type: application/json\r\n"
    b"\r\n"
    b"{}\r\n"
    b"--------------------------f0--\r\n"
)
CURL_TYPE = "multipart/form-data; boundary=------------------------f0"


def part(name: str, value: str = "x") -> str:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


def form(*parts: str, end: str = "--b--") -> bytes:
    return "".join((*parts, end)).encode()


def test_parts_by_their_names() -> None:
    assert decode_form(CURL, CURL_TYPE) == {
        "sdp": b"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n",
        "session": b"{}",
    }


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=b",
        'multipart/form-data; boundary="b"',
        "multipart/form-data;charset=utf-8;BOUNDARY=b; x=y",
    ],
)
def test_ways_to_write_the_boundary(content_type: str) -> None:
    assert decode_form(form(part("sdp")), content_type) == {"sdp": b"x"}


@pytest.mark.parametrize(
    "head",
    [
        "content-disposition:form-data;name=sdp",
        'Content-Type: a/b\r\nContent-Disposition: form-data; filename="f"; name="sdp"',
        'Content-Disposition: form-data; name="sdp"; filename="name=other"',
    ],
)
def test_ways_to_write_the_name(head: str) -> None:
    body = f"preamble\r\n--b  \r\n{head}\r\n\r\nx\r\n--b--\r\nepilogue"
    assert decode_form(body.encode(), "multipart/form-data; boundary=b") == {"sdp": b"x"}


def test_of_two_with_one_name_the_first_counts() -> None:
    body = form(part("sdp", "1"), part("sdp", "2"))
    assert decode_form(body, "multipart/form-data; boundary=b") == {"sdp": b"1"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(part("sdp")), "multipart/form-data"),
        (form(part("sdp")), "multipart/form-data; boundary="),
        (form(part("sdp")), "multipart/form-data; boundary=" + "b" * 71),
        (form(part("sdp")), "multipart/form-data; boundary=c"),
        (form(part("sdp"), end=""), "multipart/form-data; boundary=b"),
        (form(part("")), "multipart/form-data; boundary=b"),
        (form(part("s" * 65)), "multipart/form-data; boundary=b"),
        (form("--b\r\nno head\r\n"), "multipart/form-data; boundary=b"),
        (form("--bx\r\n" + part("sdp")[5:]), "multipart/form-data; boundary=b"),
        (form(*[part(f"p{n}") for n in range(PARTS_MAX + 1)]), "multipart/form-data; boundary=b"),
        (b"", "multipart/form-data; boundary=b"),
    ],
)
def test_what_cannot_be_read(body: bytes, content_type: str) -> None:
    with pytest.raises(SignalError) as caught:
        decode_form(body, content_type)
    assert caught.value.reason == "malformed-message"


def test_as_many_parts_as_there_may_be() -> None:
    body = form(*[part(f"p{n}") for n in range(PARTS_MAX)])
    assert len(decode_form(body, "multipart/form-data; boundary=b")) == PARTS_MAX
