"""The HTTP endpoint that Prometheus scrapes and load balancers ask, in the supervisor.

``GET /metrics`` is the status of this moment. ``GET /healthz`` says whether the appliance takes new
calls: 200, or 503 with what is in the way. There is nothing else. Connections are few, and each is
bounded in what it may send and how long it may take for it.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

import trio

from edge.config.values import ListenAddress
from edge.control.status import Status
from edge.errors import BootError
from edge.metrics.collector import CONTENT_TYPE, encode_metrics
from edge.metrics.workers import SERVING, name
from edge.signal.exchange import RequestHead, Response
from edge.signal.http import HttpConnection
from edge.signal.intake import Turnstile, serve_connections
from edge.signal.settings import SignalSettings

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 16
TURN_INTERVAL = 0.001
BACKLOG = 16

_LIMITS = SignalSettings(head_timeout=5.0, head_bytes_max=8_192, send_timeout=5.0)
_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)

Snapshot = Callable[[], Status]


def open_metrics_listeners(addresses: Iterable[ListenAddress]) -> list[socket.socket]:
    """Listen on the addresses.

    Raises:
        BootError: one cannot be bound; the message names it. Nothing stays open.

    """
    listeners: list[socket.socket] = []
    with ExitStack() as undo:
        for each in addresses:
            family = socket.AF_INET if each.ip.version == 4 else socket.AF_INET6
            try:
                one = socket.create_server((each.host, each.port), family=family, backlog=BACKLOG)
            except OSError as exc:
                text = f"cannot listen on tcp {each} for metrics: {exc.strerror}"
                raise BootError(f"{text} (metrics.listen)") from exc
            listeners.append(undo.enter_context(one))
        undo.pop_all()
    return listeners


async def serve_metrics(listeners: Sequence[socket.socket], snapshot: Snapshot) -> None:
    """Answer until cancelled. A request that fails, for whatever reason, fails alone."""
    if not listeners:
        return
    endpoint = _Endpoint(snapshot)
    await serve_connections(
        endpoint.serve,
        [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in listeners],
    )


def health(status: Status) -> Response:
    """Return 200 if new calls can come: a worker of each kind serves, and none drains. Else 503."""
    kinds = dict.fromkeys(worker.kind for worker in status.workers)
    serving = {worker.kind for worker in status.workers if worker.state in SERVING}
    lines = [f"{name(each)} {each.state}\n" for each in status.workers if each.state not in SERVING]
    if status.drain is not None:
        first = "draining"
    else:
        first = "ok" if kinds and serving == set(kinds) else "not serving"
    good = first == "ok"
    return Response(200 if good else 503, "".join([f"{first}\n", *lines]).encode(), _TEXT)


class _Endpoint:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._turnstile = Turnstile(TURN_INTERVAL)
        self._connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                await self._converse(HttpConnection(stream, stream, self._turnstile, _LIMITS))
        except Exception:  # of one connection: the supervisor has more to do
            logger.exception("a request for metrics has failed")
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def _converse(self, connection: HttpConnection) -> None:
        more = True
        while more:
            head = await connection.receive_head()
            if head is None:
                await connection.close()
                return
            if isinstance(head, Response):
                more = await connection.respond(head, last=True)
            else:
                more = await connection.respond(self._answer(head))

    def _answer(self, head: RequestHead) -> Response:
        if head.path not in {"/metrics", "/healthz"}:
            return Response(404, b"There are /metrics and /healthz.\n", _TEXT)
        if head.method not in {"GET", "HEAD"}:
            return Response(405, b"", (("Allow", "GET, HEAD"),))
        if head.path == "/healthz":
            return health(self._snapshot())
        return Response(200, encode_metrics(self._snapshot()), (("Content-Type", CONTENT_TYPE),))
