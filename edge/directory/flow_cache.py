"""A relay worker's side of the directory: flows that it writes to Redis and asks Redis for.

A flow is written when it is confirmed, renewed now and then while it is used, and removed when it
ends. A relay that gets packets of a flow which nobody on its host knows (the public address has
moved to it, or it has just been started) asks for it once and keeps the packets for some
milliseconds. What the answer makes is a tentative flow, like a check's: only the transceiver
confirms flows.

Values may be anybody's, so no more of one is read than a flow's has. The hosts are read over a
connection of their own: what lies there costs no question about a flow.

Nothing here is needed for a call: the client's next check brings all of it back. So nobody here
waits for Redis, and what cannot be done at once is counted and left, but for flows beyond what may
be written at once: a number of those is kept, and written by and by.
"""

import logging
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final

import trio
from attrs import define

from edge.control.statistics import RedisCounts
from edge.directory.bucket import TokenBucket
from edge.directory.flow_entry import FLOW_BYTES, Owner, decode_flow, encode_flow, flow_subject
from edge.directory.hosts import HostDirectory
from edge.directory.reading import Register, read_hosts
from edge.directory.settings import DirectorySettings
from edge.directory.signing import Secret, Signer
from edge.directory.unknown import Flow, Meeting, UnknownFlows
from edge.errors import StoreError
from edge.redis.client import RedisClient
from edge.redis.resp import Argument, Reply

logger = logging.getLogger(__name__)

WRITES_PER_SECOND: Final = 2_000
WRITES_AT_ONCE: Final = 4_000
OWED_MAX: Final = 65_536
"""Flows that wait to be written."""
OWED_PER_TURN: Final = 150
OWED_PAUSE: Final = 0.1
"""Between two turns: three quarters of all writes, the rest is for what happens meanwhile."""
LOG_INTERVAL: Final = 10.0
"""Between two lines about refused writes."""

_OF_THE_VALUE: Final = {"redis-wrong-type"}
"""Refusals that say what stands there, not how Redis is."""

Recall = Callable[[Flow, Owner, list[bytes]], None]
"""Takes what Redis knew: a flow's owner, and the packets that waited for it."""


@define
class _Question:
    """A flow that is asked for, once under each key's name."""

    flow: Flow
    unanswered: int
    is_open: bool = True


class FlowCache:
    """One relay worker's."""

    def __init__(
        self,
        settings: DirectorySettings,
        public: tuple[tuple[str, int], ...],
        generation: float,
        drops: Counter[str],
        recall: Recall,
        register: Register | None,
    ) -> None:
        """``public``: what clients are told to send to, by public socket.

        ``generation``: seconds between two calls of ``begin_generation``. ``drops`` counts packets
        that waited in vain. ``register`` gets the places of registered transceivers; None: there is
        no fleet, so nobody asks for them.
        """
        self._settings = settings
        self._public = public
        self._recall = recall
        self._register = register
        self._client = RedisClient(settings.redis)
        self._hosts_client = RedisClient(settings.redis, "Redis for the hosts")
        self._signer = Signer.of(settings.secrets)
        self._hosts = HostDirectory(self._signer, settings.hosts_place)
        self._drops = drops
        self._unknown = UnknownFlows(drops)
        self._writes = TokenBucket(WRITES_PER_SECOND, WRITES_AT_ONCE)
        self._owed: dict[Flow, tuple[Owner, str]] = {}  # and what to count it as
        self._turns = max(1, int(settings.flow_lifetime / 2 / generation))
        self._generation = 0
        self._connections_seen = 0
        self._renews_all = False
        self._refused = ""
        self._told_at = -LOG_INTERVAL
        self._events: Counter[str] = Counter()

    async def run(self) -> None:
        """Stay connected, and know the hosts. A bug in here ends the cache, not the relay."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._client.run)
                nursery.start_soon(self._pay)
                if self._register is not None:
                    nursery.start_soon(self._hosts_client.run)
                    place = self._settings.hosts_place
                    await read_hosts(self._hosts_client, place, self._hosts, self._register)
        except* Exception:
            logger.exception("the flow cache has failed: calls go on without it")

    def use_keys(self, secrets: Iterable[Secret]) -> None:
        """Sign with the first of these from now on, and believe all of them."""
        self._signer = self._hosts.signer = Signer.of(secrets)
        self._renews_all = True

    @property
    def is_asking(self) -> bool:
        """Whether packets wait for an answer."""
        return self._unknown.asked > 0

    def meet(self, flow: Flow, payload: memoryview, now: float) -> Meeting:
        """Take a packet whose flow is not known here; say what becomes of it."""
        if not self._client.is_up:
            return Meeting.MISSED
        meeting = self._unknown.meet(flow, payload, now)
        self._events[meeting.value] += 1
        return self._ask(flow, now) if meeting is Meeting.ASK else meeting

    def store(self, flow: Flow, owner: Owner) -> None:
        """Write a flow that has just been confirmed."""
        self._write_flow(flow, owner, "flow-written")

    def remove(self, flow: Flow) -> None:
        """A flow has ended."""
        self._owed.pop(flow, None)
        self._unknown.miss(flow, time.monotonic())
        names = self._signer.names(self._subject(flow))
        place = self._settings.flows_place
        self._events["flow-removed"] += self._write("DEL", *(place + name for name in names))

    def begin_generation(self) -> None:
        """Flows that were used will be named by ``renew``: let it be the next ones' turn.

        All of them have it after a connection was made: this Redis may not have them.
        """
        self._generation += 1
        if self._client.is_up:
            connections = self._client.connected
            self._renews_all = self._renews_all or connections > self._connections_seen
            self._connections_seen = connections

    def renew(self, flow: Flow, owner: Owner) -> None:
        """A flow was used in the generation that has ended: write it again if it is its turn."""
        has_turn = zlib.crc32(flow[1]) % self._turns == self._generation % self._turns
        if has_turn or self._renews_all:
            self._write_flow(flow, owner, "flow-renewed")

    def end_generation(self) -> None:
        """All flows have been named."""
        if self._client.is_up:
            self._renews_all = False

    def counts(self) -> RedisCounts:
        link = self._client.statistics()
        return RedisCounts(
            state=link.state.value,
            server=link.server,
            connected=link.connected,
            lost=link.lost,
            pending=link.pending,
            events=dict(self._events),
            refused=self._refused,
            hosts=len(self._hosts),
            distrusted=dict(self._hosts.drops),
        )

    def _subject(self, flow: Flow) -> bytes:
        public_socket, client = flow
        return flow_subject(client, self._public[public_socket])

    # Asking

    def _ask(self, flow: Flow, now: float) -> Meeting:
        names = self._signer.names(self._subject(flow))
        place = self._settings.flows_place
        question = _Question(flow, len(names))
        for name in names:
            take = partial(self._take_value, question, name)
            try:
                self._client.submit(take, "GETRANGE", place + name, 0, FLOW_BYTES)
            except StoreError as exc:
                self._events[exc.reason] += 1
                self._unknown.answer(flow, now)
                question.is_open = False
                return Meeting.FULL
        return Meeting.ASK

    def _take_value(self, question: "_Question", name: bytes, reply: Reply) -> None:
        """Take what stands under one of a flow's names; the first good value is the answer."""
        question.unanswered -= 1
        if not question.is_open:
            return
        if isinstance(reply, StoreError) and reply.reason not in _OF_THE_VALUE:
            self._events[reply.reason] += 1
            self._drops["unknown-flow"] += len(self._close(question))
            return
        owner = self._owner_in(name, reply)
        if owner is not None:
            self._events["redis-hit"] += 1
            self._recall(question.flow, owner, self._close(question))
        elif not question.unanswered:
            self._events["redis-miss"] += 1
            self._drops["unknown-flow"] += len(self._close(question))
            self._unknown.miss(question.flow, time.monotonic())

    def _close(self, question: "_Question") -> list[bytes]:
        question.is_open = False
        return self._unknown.answer(question.flow, time.monotonic())

    def _owner_in(self, name: bytes, value: Reply) -> Owner | None:
        if value == b"":
            return None  # there is no such key
        lifetime = self._settings.flow_lifetime
        try:
            if isinstance(value, StoreError):
                raise value
            return decode_flow(self._signer, name, value, lifetime, time.time())
        except StoreError as exc:
            self._events[exc.reason] += 1
        return None

    # Writing

    async def _pay(self) -> None:
        """Write the flows that were too many, oldest first."""
        while True:
            await trio.sleep(OWED_PAUSE)
            if self._owed and self._client.is_up:
                for flow in list(islice(self._owed, OWED_PER_TURN)):
                    self._write_flow(flow, *self._owed[flow])

    def _write_flow(self, flow: Flow, owner: Owner, event: str) -> None:
        """Write a flow and count it as ``event``, or keep it for later if there are too many."""
        self._owed.pop(flow, None)
        if not self._client.is_up:
            self._events["write-redis-down"] += 1
        elif self._writes.take(time.monotonic()):
            self._events[event] += self._submit_flow(flow, owner)
        elif len(self._owed) < OWED_MAX:
            self._owed[flow] = owner, event
        else:
            self._events["write-limited"] += 1

    def _submit_flow(self, flow: Flow, owner: Owner) -> bool:
        name = self._signer.names(self._subject(flow))[0]
        value = encode_flow(self._signer, name, owner, time.time())
        place, lifetime = self._settings.flows_place, int(self._settings.flow_lifetime)
        return self._submit("SET", place + name, value, "EX", lifetime)

    def _write(self, *command: Argument) -> bool:
        """Send a write, if it can be sent at once; return whether it was."""
        if not self._client.is_up:
            self._events["write-redis-down"] += 1
            return False
        if not self._writes.take(time.monotonic()):
            self._events["write-limited"] += 1
            return False
        return self._submit(*command)

    def _submit(self, *command: Argument) -> bool:
        """Send a write; return whether that could be done."""
        try:
            self._client.submit(self._take_written, *command)
        except StoreError as exc:
            self._events[f"write-{exc.reason}"] += 1
            return False
        return True

    def _take_written(self, reply: Reply) -> None:
        refused = reply.reason if isinstance(reply, StoreError) else ""
        if refused:
            self._events[f"write-{refused}"] += 1
        if refused == self._refused or not self._client.is_up:
            return
        self._refused = refused
        now = time.monotonic()
        if refused and now - self._told_at >= LOG_INTERVAL:
            logger.warning("Redis: writing is refused: %s (%s)", reply, refused)
            self._told_at = now
