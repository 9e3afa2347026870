"""HTTP requests and responses as values."""

import json
from math import ceil

from attrs import frozen

JSON = "application/json"


@frozen
class RequestHead:
    """The request line and headers."""

    method: str
    path: str
    """Without its query; not percent-decoded."""
    http_version: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""
    query: str = ""
    """Not percent-decoded."""

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, in order."""
        return [value for each, value in self.headers if each == name]

    def text(self, name: bytes) -> str | None:
        """Return the value of a header; several, which only lists may have, joined by commas."""
        values = self.values(name)
        return b", ".join(values).decode("latin-1") if values else None

    def tokens(self, name: bytes) -> list[str]:
        """Return the members of a header that is a comma-separated list, over all its lines."""
        joined = self.text(name) or ""
        return [token.strip() for token in joined.split(",") if token.strip()]


@frozen
class Response:
    """A whole response. What frames it is added when it is sent."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def json_response(status: int, value: object, *headers: tuple[str, str]) -> Response:
    """Return a response whose body is JSON."""
    return Response(status, json.dumps(value).encode() + b"\n", (("Content-Type", JSON), *headers))


def error_response(status: int, code: str, message: str, *headers: tuple[str, str]) -> Response:
    """Return a refusal: a fixed word for programs and a sentence for people."""
    return json_response(status, {"error": {"code": code, "message": message}}, *headers)


def retry_after(seconds: float) -> tuple[str, str]:
    """Return the header that says when to try again (RFC 9110 section 10.2.3)."""
    return "Retry-After", str(max(1, ceil(seconds)))
