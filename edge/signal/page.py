"""The page: a handful of files, served from memory."""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from attrs import frozen

from edge.signal.exchange import RequestHead, Response, error_response

INDEX = "index.html"

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("Permissions-Policy", "microphone=(self)"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


@frozen
class PageFile:
    """One file of the page."""

    content_type: str
    body: bytes
    etag: str
    """Quoted, as in the header; changes with the body."""


def page_file(name: str, body: bytes) -> PageFile:
    """Return a file; its content type goes by the suffix of its name."""
    suffix = PurePosixPath(name).suffix
    digest = hashlib.blake2s(body, digest_size=16).hexdigest()
    return PageFile(CONTENT_TYPES.get(suffix, "application/octet-stream"), body, f'"{digest}"')


def load_page(folder: Path) -> dict[str, PageFile]:
    """Read a folder's files, by URL path. ``index.html`` is at ``/`` as well.

    Raises:
        OSError: a file cannot be read.

    """
    page = {
        f"/{file.relative_to(folder).as_posix()}": page_file(file.name, file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file()
    }
    if f"/{INDEX}" in page:
        page["/"] = page[f"/{INDEX}"]
    return page


def page_response(page: Mapping[str, PageFile], head: RequestHead) -> Response:
    """Answer a request for a file of the page."""
    file = page.get(head.path)
    if file is None:
        return error_response(404, "not-found", "There is nothing here.")
    if head.method not in {"GET", "HEAD"}:
        allowed = "GET, HEAD"
        return error_response(
            405, "method-not-allowed", f"Only {allowed} are served here.", ("Allow", allowed)
        )
    # no-cache: kept, but never used without asking. A page and a server of different versions
    # would not understand each other.
    caching = (("ETag", file.etag), ("Cache-Control", "no-cache"))
    if file.etag in head.tokens(b"if-none-match"):
        return Response(304, headers=caching)
    headers = (("Content-Type", file.content_type), *caching, *SECURITY_HEADERS)
    return Response(200, file.body, headers)
