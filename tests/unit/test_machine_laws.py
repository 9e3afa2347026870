"""The law checker finds each kind of broken machine."""

from typing import Any

import pytest

from edge.machine import TRANSMIT_QUEUE_MAX, Address, Machine, Transmit
from tests.support.machine_laws import Call, Close, Datagram, Step, Wait, check_machine_laws

PEER = Address("192.0.2.7", 4000)


class Echo(Machine[bytes]):
    """Keeps the laws: sends back what it gets, one second later says that it was idle."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.idle_at: float | None = None

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        if self.closed:
            return
        if not data:
            self.drops["empty"] += 1
            return
        self._transmit(data, source)
        self.idle_at = now + 1.0

    def handle_timeout(self, now: float) -> None:
        if self.idle_at is not None and now >= self.idle_at:
            self.idle_at = None
            self._emit(b"idle")

    def close(self, now: float) -> None:  # noqa: ARG002 (the contract's signature)
        self.closed = True
        self.idle_at = None

    def next_timeout(self) -> float | None:
        return self.idle_at


class Raises(Echo):
    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        super().receive_datagram(data[:1] + data[1:2].decode().encode(), source, now)


class AnswersJunk(Echo):
    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        super().receive_datagram(data, source, now)
        self._transmit(b"what?", source)


class CountsNothing(Echo):
    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        if data:
            super().receive_datagram(data, source, now)


class JunkMovesDeadline(Echo):
    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        super().receive_datagram(data, source, now)
        if not self.closed:
            self.idle_at = now + 1.0


class Early(Echo):
    def handle_timeout(self, now: float) -> None:
        super().handle_timeout(now)
        self._emit(b"tick")


class Stuck(Echo):
    def handle_timeout(self, now: float) -> None:
        pass


class Uncapped(Echo):
    def _transmit(self, data: bytes, destination: Address) -> None:
        self._transmits.append(Transmit(data, destination))


class Undead(Echo):
    def close(self, now: float) -> None:
        pass


class Random(Echo):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        Random.made += 1

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        super().receive_datagram(data and data + bytes([Random.made]), source, now)


STEPS: list[Step[Any]] = [
    Datagram(b"hello", PEER),
    Wait(0.5),
    Datagram(b"", PEER, junk=True),
    Datagram(b"h\xff", PEER),
    Wait(3.0),
    Datagram(b"again", PEER),
    Wait(3.0, late=True),
    Call(lambda machine, now: machine.receive_datagram(b"verb", PEER, now)),
]


def test_a_lawful_machine_passes() -> None:
    check_machine_laws(Echo, STEPS)
    check_machine_laws(Echo, [*STEPS, Close(), *STEPS])


@pytest.mark.parametrize(
    ("machine", "law"),
    [
        (AnswersJunk, "law 1: junk is answered"),
        (CountsNothing, "law 1: junk is not counted once"),
        (JunkMovesDeadline, "law 1: junk moves the deadline"),
        (Early, "law 2: an early handle_timeout"),
        (Stuck, "law 2: a deadline that has passed"),
        (Uncapped, "law 3: no cap on datagrams"),
        (Undead, "law 4: a closed machine"),
        (Random, "law 5"),
    ],
)
def test_a_broken_machine_is_found(machine: type[Echo], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_machine_laws(machine, STEPS)


def test_an_exception_because_of_the_peer_gets_through() -> None:
    with pytest.raises(UnicodeDecodeError):
        check_machine_laws(Raises, STEPS)


def test_an_invariant_sees_the_undrained_machine() -> None:
    def small(machine: Echo) -> None:
        assert len(machine._transmits) < TRANSMIT_QUEUE_MAX // 2, "table full"

    with pytest.raises(AssertionError, match="table full"):
        check_machine_laws(Echo, STEPS, invariant=small)


def test_openssl_may_break_law_5() -> None:
    check_machine_laws(Random, STEPS, deterministic=False)


class Quits(Echo):
    """Closes itself with its one event, but forgets to stop answering."""

    def handle_timeout(self, now: float) -> None:
        if self.idle_at is not None and now >= self.idle_at:
            self._emit(b"idle")
            self.idle_at = None


class QuitsInOrder(Quits):
    def handle_timeout(self, now: float) -> None:
        super().handle_timeout(now)
        self.closed = self.idle_at is None


def test_a_machine_that_closed_itself_is_closed() -> None:
    check_machine_laws(QuitsInOrder, STEPS[:3], final_events=(bytes,))
    check_machine_laws(QuitsInOrder, STEPS[:2] + STEPS[4:], final_events=(bytes,))
    with pytest.raises(AssertionError, match="law 4: a closed machine"):
        check_machine_laws(Quits, STEPS, final_events=(bytes,))
