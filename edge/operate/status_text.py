"""``edge status`` for people: sections of lines, each made from the status by one function."""

from collections import Counter
from collections.abc import Callable, Iterator

from edge.control.statistics import RelayStatistics, TransceiverStatistics, WorkerStatistics
from edge.control.status import Status, WorkerStatus
from edge.operate.fleet_text import fleet_section
from edge.operate.redis_text import redis_section

Section = Callable[[Status], Iterator[str]]


def render_status(status: Status, installed: str | None = None) -> str:
    """Return the status as text. Sections with nothing to say are left out.

    ``installed`` is the version that an upgrade would go on as.
    """
    sections = ["\n".join(section(status)) for section in SECTIONS]
    if installed not in {None, status.version}:
        sections.insert(1, f"INSTALLED  edge {installed}, which does not run yet: edge upgrade")
    return "\n\n".join(section for section in sections if section) + "\n"


def worker_name(worker: WorkerStatus) -> str:
    return f"{worker.kind}-{worker.index}"


def span(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    rest = round(seconds)
    if rest < 60:
        return f"{rest} s"
    minutes, rest = divmod(rest, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def transceivers(status: Status) -> list[TransceiverStatistics]:
    """Return what is known of the transceiver workers that have been heard from."""
    known = (worker.statistics for worker in status.workers)
    return [each for each in known if isinstance(each, TransceiverStatistics)]


def session_room(status: Status) -> int:
    """Return how many sessions the workers may have that take new ones."""
    working = (worker.statistics for worker in status.workers if worker.state == "running")
    return sum(
        each.placement.sessions_max for each in working if isinstance(each, TransceiverStatistics)
    )


def all_drops(status: Status) -> Counter[str]:
    """Return the drops of all workers by reason."""
    drops: Counter[str] = Counter()
    for worker in status.workers:
        if worker.statistics is not None:
            drops.update(worker.statistics.drops)
    return drops


def _overview(status: Status) -> Iterator[str]:
    yield f"edge {status.version}, up {span(status.uptime)}"
    tcp = f"; tcp {', '.join(status.tcp)}" if status.tcp else ""
    yield f"media      udp {', '.join(status.udp)}{tcp}"
    yield f"signaling  tcp {', '.join(status.signaling)}"
    known = transceivers(status)
    sessions = sum(each.sessions for each in known)
    room = session_room(status)
    on_time = min((each.placement.on_time_ratio for each in known), default=1.0)
    yield f"sessions   {sessions} of {room}, {on_time:.2%} of frames on time lately"
    if (drain := status.drain) is not None:
        ending = "they may go on"
        if drain.deadline is not None:
            ending = f"they are ended in {span(drain.deadline)}"
        yield f"DRAINING   for {span(drain.since)}: no new sessions; {ending}"


def _workers(status: Status) -> Iterator[str]:
    yield "worker          pid      state        restarts  doing"
    for worker in status.workers:
        pid = "-" if worker.pid is None else worker.pid
        doing = _describe(worker.statistics)
        yield (
            f"{worker_name(worker):<15} {pid:<8} {worker.state:<12} {worker.restarts:<9} {doing}"
        )


def _routing_keys(status: Status) -> Iterator[str]:
    by_key: Counter[int] = Counter()
    for each in transceivers(status):
        by_key.update(each.sessions_by_key)
    if by_key:
        counts = (f"key {key}: {count}" for key, count in sorted(by_key.items()))
        yield f"sessions by routing key: {', '.join(counts)}"


def _verdicts(status: Status) -> Iterator[str]:
    verdicts: Counter[str] = Counter()
    for each in transceivers(status):
        verdicts.update(each.verdicts)
    yield from _ranking("ended sessions, by verdict", verdicts)


def _drops(status: Status) -> Iterator[str]:
    yield from _ranking("dropped packets, by reason", all_drops(status))


SECTIONS: tuple[Section, ...] = (
    _overview,
    _workers,
    fleet_section,
    redis_section,
    _routing_keys,
    _verdicts,
    _drops,
)
"""In the order of their appearance."""


def _ranking(title: str, counts: Counter[str]) -> Iterator[str]:
    if counts:
        yield title
        for name, count in counts.most_common():
            yield f"{count:>9}  {name}"


def _describe(statistics: WorkerStatistics | None) -> str:
    match statistics:
        case None:
            return "not heard from yet"
        case RelayStatistics():
            return _describe_relay(statistics)
        case TransceiverStatistics():
            return _describe_transceiver(statistics)


def _describe_relay(statistics: RelayStatistics) -> str:
    flows = sum(table.confirmed for table in statistics.flows)
    refused = sum(table.conflicts for table in statistics.flows)
    text = f"{statistics.packets} packets in, {statistics.forwarded} forwarded, {flows} flows"
    if statistics.tcp.accepted:
        text += f", {statistics.tcp.connections} over TCP"
    if (trunk := statistics.trunk) is not None:
        text += f"; {trunk.packets} to other hosts, {trunk.delivered} from there"
    return f"{text} ({refused} claims to others' flows refused)" if refused else text


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
    if placed.opened_at_peers or placed.opened_for_peers:
        text += (
            f", {placed.opened_at_peers} placed on other hosts,"
            f" {placed.opened_for_peers} taken for other hosts"
        )
    if placed.redirected:
        text += f", {placed.redirected} redirected"
    return f"{text}, {placed.refused} refused as busy" if placed.refused else text
