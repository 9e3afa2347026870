"""What ``edge status`` says of Redis."""

from collections import Counter
from collections.abc import Iterator

from edge.control.statistics import RedisCounts, RelayStatistics
from edge.control.status import RegistrationStatus, Status


def redis_section(status: Status) -> Iterator[str]:
    """Describe the connections, and what was done; nothing if there is no Redis."""
    known = (worker.statistics for worker in status.workers)
    found = [each.redis for each in known if isinstance(each, RelayStatistics)]
    relays = [each for each in found if each is not None]
    if relays:
        yield f"redis      {_connections(relays)}"
    if status.registration is not None:
        yield f"registered {_registration(status.registration)}"
    events, trouble = Counter[str](), Counter[str]()
    for each in relays:
        events.update({name: count for name, count in each.events.items() if count})
        trouble.update(each.lost)
        trouble.update(each.distrusted)
    for name, count in (*events.most_common(), *trouble.most_common()):
        yield f"{count:>9}  {name}"


def _connections(relays: list[RedisCounts]) -> str:
    up = [each for each in relays if each.state == "up"]
    text = f"up for {len(up)} of {len(relays)} relay workers"
    if servers := sorted({each.server for each in up}):
        text += f", at {', '.join(servers)}"
    if hosts := max(each.hosts for each in relays):
        text += f"; {hosts} hosts in the directory"
    if refused := sorted({each.refused for each in up if each.refused}):
        text += f"; REFUSES WRITES: {', '.join(refused)}"
    return text


def _registration(status: RegistrationStatus) -> str:
    if status.refused:
        return f"NO: {status.refused}"
    if status.state != "up":
        return f"NO: Redis is {status.state}"
    if status.rival:
        return f"BUT SO IS {status.rival}, as the same host: their lists of hosts differ"
    return f"as a host, {status.written} times"
