"""Which response a request head gets, without a socket."""

from pathlib import Path

import pytest

from edge.signal.exchange import RequestHead
from edge.signal.page import load_page, page_file, page_response
from edge.signal.upgrade import chosen_subprotocol, refuse_upgrade

PAGE = {"/": page_file("index.html", b"<p>hello"), "/app.js": page_file("app.js", b"1")}

UPGRADE = (
    (b"host", b"127.0.0.1:8080"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)


def head(
    path: str = "/",
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    http_version: str = "1.1",
) -> RequestHead:
    return RequestHead(method, path, http_version, headers)


def upgrade(*changes: tuple[bytes, bytes | None], method: str = "GET") -> RequestHead:
    """Return a good handshake (RFC 6455 §1.3) with headers replaced, or removed by None."""
    changed = dict(changes)
    kept = [pair for pair in UPGRADE if pair[0] not in changed]
    added = [(name, value) for name, value in changes if value is not None]
    return head("/v1/session", *kept, *added, method=method)


def test_serves_a_file_with_its_type_and_the_security_headers() -> None:
    response = page_response(PAGE, head("/"))
    headers = dict(response.headers)
    assert (response.status, response.body) == (200, b"<p>hello")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'self'; ")
    assert headers["X-Content-Type-Options"] == "nosniff"
    script = dict(page_response(PAGE, head("/app.js")).headers)
    assert script["Content-Type"] == "text/javascript; charset=utf-8"
    assert script["ETag"] != headers["ETag"]


@pytest.mark.parametrize("path", ["/nothing", "", "/app.js/", "/../app.js", "//app.js"])
def test_anything_else_is_not_found(path: str) -> None:
    assert page_response(PAGE, head(path)).status == 404
    assert page_response({}, head("/")).status == 404


def test_only_get_and_head() -> None:
    assert page_response(PAGE, head("/", method="HEAD")).status == 200
    response = page_response(PAGE, head("/", method="POST"))
    assert response.status == 405
    assert ("Allow", "GET, HEAD") in response.headers


def test_a_file_that_the_client_has_is_not_sent_again() -> None:
    etag = PAGE["/"].etag.encode()
    response = page_response(PAGE, head("/", (b"if-none-match", b'"other", ' + etag)))
    assert (response.status, response.body) == (304, b"")
    assert page_response(PAGE, head("/", (b"if-none-match", b'"other"'))).status == 200


def test_loads_a_folder(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b"<p>")
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.svg").write_bytes(b"<svg/>")
    page = load_page(tmp_path)
    assert set(page) == {"/", "/index.html", "/img/a.svg"}
    assert page["/"] == page["/index.html"]
    assert page["/img/a.svg"].content_type == "image/svg+xml"


def test_a_good_handshake_is_not_refused() -> None:
    assert refuse_upgrade(upgrade()) is None
    assert refuse_upgrade(upgrade((b"connection", b"UPGRADE"))) is None


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (upgrade(method="POST"), 405),
        (head("/v1/session"), 426),
        (upgrade((b"upgrade", b"h2c")), 426),
        (upgrade((b"sec-websocket-version", b"8")), 426),
        (upgrade((b"sec-websocket-version", None)), 426),
        (upgrade((b"upgrade", b"websocket, h2c")), 400),
        (upgrade((b"connection", b"close")), 400),
        (upgrade((b"sec-websocket-key", None)), 400),
        (upgrade((b"sec-websocket-key", b"dGhl")), 400),
        (upgrade((b"sec-websocket-key", b"not base64")), 400),
        (upgrade((b"host", b"xn--99999999999")), 400),
        (upgrade((b"content-length", b"5")), 400),
        (upgrade((b"transfer-encoding", b"chunked")), 400),
        (upgrade((b"x-name", "ü".encode())), 400),
        (upgrade((b"sec-websocket-protocol", b"edge.v9, chat")), 400),
    ],
)
def test_other_handshakes_are_refused(request_head: RequestHead, status: int) -> None:
    response = refuse_upgrade(request_head)
    assert response is not None
    assert response.status == status


def test_the_subprotocol_is_chosen_from_the_clients_list() -> None:
    several = upgrade((b"sec-websocket-protocol", b"edge.v9, edge.v1"))
    assert refuse_upgrade(several) is None
    assert chosen_subprotocol(several) == "edge.v1"
    assert chosen_subprotocol(upgrade()) is None
