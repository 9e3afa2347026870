"""Where a client that is redirected goes: the URL has a mark, so that it is not sent on."""

from urllib.parse import urlsplit, urlunsplit

from edge.steering.visitor import STEERED

_HTTP = {"ws": "http", "wss": "https"}


def websocket_url(signaling: str) -> str:
    """Return the URL for a WebSocket to a cluster whose signaling is at ``signaling``."""
    return _marked(signaling)


def http_url(signaling: str, path: str, query: str) -> str:
    """Return the URL for a request that was made here with this path and query."""
    there = urlsplit(signaling)
    return _marked(urlunsplit((_HTTP[there.scheme], there.netloc, path, query, "")))


def _marked(url: str) -> str:
    parts = urlsplit(url)
    query = f"{parts.query}&{STEERED}" if parts.query else STEERED
    return urlunsplit(parts._replace(query=query))
