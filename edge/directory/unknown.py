"""Clients whose flow nobody here knows: whom to ask for, and what to keep until the answer.

Whoever can send packets can invent clients, so everything is bounded: the flows that are asked for
at once, the packets and bytes that wait, the questions per second. A flow that is not known is not
asked for again for some seconds. A packet that has waited too long is dropped, not sent late.
"""

from collections import Counter, deque
from enum import Enum

from attrs import define, field

from edge.directory.bucket import TokenBucket

ASKED_MAX = 1_024
"""Flows that are asked for at once."""
PACKETS_MAX = 8
"""Packets of one flow that wait."""
BYTES_MAX = 1 << 20
"""Of all packets that wait."""
KEEP_TIME = 0.05
"""Seconds that a packet may wait."""
QUESTIONS_PER_SECOND = 5_000
QUESTIONS_AT_ONCE = 5_000
MISSED_TIME = 3.0
"""Seconds that a flow which is not known is not asked for again."""
MISSED_MAX = 16_384
"""Such flows that are remembered."""

Flow = tuple[int, bytes]
"""Index of the public socket, and the client's 28-byte address."""


class Meeting(Enum):
    """What becomes of a packet of an unknown flow."""

    ASK = "redis-asked"
    """It is kept, and the flow is to be asked for."""
    KEPT = "redis-kept"
    """It is kept: the flow is being asked for."""
    MISSED = "unknown-flow"
    """Dropped: the flow was asked for not long ago, and is not known."""
    FULL = "redis-full"
    """Dropped: too much waits already."""
    LIMITED = "redis-limited"
    """Dropped: too many questions."""


@define
class _Waiting:
    packets: list[tuple[float, bytes]] = field(factory=list)
    """When each came, and what it was."""


class UnknownFlows:
    """Times: seconds on the caller's monotonic clock."""

    def __init__(self, drops: Counter[str]) -> None:
        """``drops`` counts what waited too long."""
        self._drops = drops
        self._asked: dict[Flow, _Waiting] = {}
        self._arrivals: deque[tuple[float, Flow]] = deque()
        self._bytes = 0
        self._missed: dict[Flow, float] = {}
        self._questions = TokenBucket(QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE)

    @property
    def asked(self) -> int:
        """How many flows are asked for now."""
        return len(self._asked)

    def meet(self, flow: Flow, payload: memoryview, now: float) -> Meeting:
        """Say what becomes of a packet."""
        waiting = self._asked.get(flow)
        if waiting is None and self._is_missed(flow, now):
            return Meeting.MISSED
        self._drop_late(now)
        if self._bytes + len(payload) > BYTES_MAX:
            return Meeting.FULL
        meeting = Meeting.KEPT
        if waiting is None:
            if len(self._asked) >= ASKED_MAX:
                return Meeting.FULL
            if not self._questions.take(now):
                return Meeting.LIMITED
            waiting = self._asked[flow] = _Waiting()
            meeting = Meeting.ASK
        elif len(waiting.packets) >= PACKETS_MAX:
            return Meeting.FULL
        waiting.packets.append((now, bytes(payload)))
        self._arrivals.append((now, flow))
        self._bytes += len(payload)
        return meeting

    def answer(self, flow: Flow, now: float) -> list[bytes]:
        """The answer is there: return the packets that waited for it, and not too long."""
        self._drop_late(now)
        waiting = self._asked.pop(flow, None)
        if waiting is None:
            return []
        packets = [payload for _, payload in waiting.packets]
        self._bytes -= sum(map(len, packets))
        return packets

    def miss(self, flow: Flow, now: float) -> None:
        """Do not ask for a flow again soon: nobody knows it, or it has ended."""
        self._missed.pop(flow, None)
        if len(self._missed) >= MISSED_MAX:
            del self._missed[next(iter(self._missed))]
        self._missed[flow] = now + MISSED_TIME

    def _is_missed(self, flow: Flow, now: float) -> bool:
        until = self._missed.get(flow)
        if until is None:
            return False
        if now < until:
            return True
        del self._missed[flow]
        return False

    def _drop_late(self, now: float) -> None:
        """Drop what has waited too long. Arrivals stand in order of time."""
        arrivals = self._arrivals
        while arrivals and arrivals[0][0] < now - KEEP_TIME:
            at, flow = arrivals.popleft()
            waiting = self._asked.get(flow)
            if waiting is None or not waiting.packets or waiting.packets[0][0] != at:
                continue  # answered meanwhile
            _, payload = waiting.packets.pop(0)
            self._bytes -= len(payload)
            self._drops["redis-late"] += 1
