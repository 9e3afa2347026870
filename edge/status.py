"""The operator's view of the running appliance: one JSON document over a Unix socket.

A client connects and reads until the end of the stream; nothing is asked. The socket is readable by
its owner and group.
"""

import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from edge.control import RelayStatistics, Status, TransceiverStatistics, WorkerStatistics
from edge.errors import BootError, EdgeError

SEND_TIME = 5.0
FETCH_TIME = 5.0
READERS_MAX = 16


class StatusError(EdgeError):
    """The appliance could not be asked."""


def open_status_socket(path: Path) -> socket.socket:
    """Listen at ``path``; a socket that a killed predecessor left behind is replaced.

    Raises:
        BootError: an appliance is running there already, or the path cannot be used.

    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with contextlib.ExitStack() as undo:
        undo.enter_context(listener)
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(0o660)
            listener.listen(READERS_MAX)
        except OSError as exc:
            raise BootError(f"cannot open the status socket {path}: {exc.strerror}") from exc
        undo.pop_all()
    return listener


async def serve_status(listener: socket.socket, snapshot: Callable[[], Status]) -> None:
    """Answer everybody who connects with the status of that moment."""
    limit = trio.CapacityLimiter(READERS_MAX)

    async def answer(stream: trio.SocketStream) -> None:
        async with limit, stream:
            with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(SEND_TIME):
                await stream.send_all(msgspec.json.encode(snapshot()))

    await trio.serve_listeners(
        answer, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
    )


def fetch_status(path: Path) -> Status:
    """Ask the appliance that listens at ``path``.

    Raises:
        StatusError: nobody answers there, or not with a status.

    """
    chunks: list[bytes] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(FETCH_TIME)
            connection.connect(str(path))
            while chunk := connection.recv(65_536):
                chunks.append(chunk)
    except OSError as exc:
        raise StatusError(f"no appliance answers at {path}: {exc.strerror or exc}") from exc
    try:
        return msgspec.json.decode(b"".join(chunks), type=Status)
    except msgspec.DecodeError as exc:
        raise StatusError(f"what answers at {path} is not this version of edge: {exc}") from exc


def render_status(status: Status) -> str:
    """Return the status as lines for people."""
    tcp = f"; tcp {', '.join(status.tcp)}" if status.tcp else ""
    lines = [
        f"edge {status.version}, up {status.uptime:.0f} s",
        f"media      udp {', '.join(status.udp)}{tcp}",
        f"signaling  tcp {', '.join(status.signaling)}",
        "",
        "worker          pid      state        restarts  doing",
    ]
    for worker in status.workers:
        name = f"{worker.kind}-{worker.index}"
        pid = "-" if worker.pid is None else worker.pid
        doing = _describe(worker.statistics)
        lines.append(f"{name:<15} {pid:<8} {worker.state:<12} {worker.restarts:<9} {doing}")
    by_key: Counter[int] = Counter()
    drops: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for worker in status.workers:
        if worker.statistics is not None:
            drops.update(worker.statistics.drops)
        if isinstance(worker.statistics, TransceiverStatistics):
            by_key.update(worker.statistics.sessions_by_key)
            verdicts.update(worker.statistics.verdicts)
    if by_key:
        counts = (f"key {key}: {count}" for key, count in sorted(by_key.items()))
        lines += ["", f"sessions by routing key: {', '.join(counts)}"]
    if verdicts:
        lines += ["", "ended sessions, by verdict"]
        lines += [f"{count:>9}  {verdict}" for verdict, count in verdicts.most_common()]
    if drops:
        lines += ["", "dropped packets, by reason"]
        lines += [f"{count:>9}  {reason}" for reason, count in drops.most_common()]
    return "".join(f"{line}\n" for line in lines)


def _describe(statistics: WorkerStatistics | None) -> str:
    match statistics:
        case None:
            return "not heard from yet"
        case RelayStatistics():
            flows = sum(table.confirmed for table in statistics.flows)
            refused = sum(table.conflicts for table in statistics.flows)
            text = (
                f"{statistics.packets} packets in, {statistics.forwarded} forwarded, {flows} flows"
            )
            if statistics.tcp.accepted:
                text += f", {statistics.tcp.connections} over TCP"
            return f"{text} ({refused} claims to others' flows refused)" if refused else text
        case TransceiverStatistics():
            return _describe_transceiver(statistics)


def _describe_transceiver(statistics: TransceiverStatistics) -> str:
    placed, paced = statistics.placement, statistics.punctuality
    sessions = f"{statistics.sessions} of {placed.sessions_max} sessions"
    text = (
        f"{sessions} ({statistics.opened} opened, {statistics.reached_media} with media), "
        f"{statistics.packets_received} packets in, {statistics.packets_sent} out"
    )
    if paced.frames + paced.skipped:
        text += (
            f", {paced.on_time_ratio:.2%} of {paced.frames} frames on time"
            f" (lately {placed.on_time_ratio:.2%})"
        )
    text += (
        f"; offers: {placed.opened_here} kept, {placed.opened_elsewhere} placed elsewhere,"
        f" {placed.opened_for_others} taken for others"
    )
    return f"{text}, {placed.refused} refused as busy" if placed.refused else text


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(FETCH_TIME)
        try:
            connection.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise BootError(f"an appliance is already running: it answers at {path}")
