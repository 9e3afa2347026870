"""The contract that every protocol core keeps: bytes and time in; bytes, events and a deadline out.

Inputs are ``receive_datagram``, ``handle_timeout`` and verbs of the protocol such as ``close``.
After every input the owner pulls ``next_datagram`` and ``next_event`` until both return None, then
reads ``next_timeout`` again. The laws (tests/support/machine_laws.py holds every machine to
them):

1. No input raises because of the peer. Bad bytes are dropped, counted in ``drops`` by reason, and
   change nothing else.
2. ``now`` never decreases. An early or repeated ``handle_timeout`` does nothing; after it the next
   timeout is None or later than ``now``.
3. Every queue has a cap. Nothing is allocated for a peer that has not authenticated.
4. ``close`` is idempotent. Afterwards inputs are ignored and outputs still drain.
5. Same inputs, same outputs; randomness arrives as an ``Entropy`` callable. OpenSSL, which has its
   own clock and random numbers, is the known exception.

All times are seconds (float) on the caller's monotonic clock.
"""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

EventT = TypeVar("EventT")

Entropy = Callable[[int], bytes]
"""``entropy(n)`` returns n unpredictable bytes."""

TRANSMIT_QUEUE_MAX = 256
EVENT_QUEUE_MAX = 256


class Address(NamedTuple):
    """A remote transport address, and which of our public sockets it talks to.

    A tuple because it is hashed and compared once per packet.
    """

    host: str
    """Numeric IPv4 or IPv6 address in its canonical text form, never v4-mapped."""
    port: int
    socket: int = 0
    """Index of the public socket (the listen address) that the peer's packets come in by."""


class Transmit(NamedTuple):
    """One datagram to send."""

    data: bytes
    destination: Address


class Machine(ABC, Generic[EventT]):
    """Base of the protocol cores: the two output queues and the drop counters."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        """What was dropped, by reason."""
        self._transmits: deque[Transmit] = deque()
        self._events: deque[EventT] = deque()

    @abstractmethod
    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        """Take one datagram from the network."""

    @abstractmethod
    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``."""

    @abstractmethod
    def close(self, now: float) -> None:
        """End in order: say goodbye if the protocol has a word for it, then ignore all input."""

    @abstractmethod
    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called next."""

    def next_datagram(self) -> Transmit | None:
        """Take the next datagram to send, oldest first."""
        return self._transmits.popleft() if self._transmits else None

    def next_event(self) -> EventT | None:
        """Take the next event, oldest first."""
        return self._events.popleft() if self._events else None

    def _transmit(self, data: bytes, destination: Address) -> None:
        if len(self._transmits) >= TRANSMIT_QUEUE_MAX:
            self.drops["transmit-queue-full"] += 1
            return
        self._transmits.append(Transmit(data, destination))

    def _emit(self, event: EventT) -> None:
        if len(self._events) >= EVENT_QUEUE_MAX:
            self.drops["event-queue-full"] += 1
            return
        self._events.append(event)
