"""The laws of ``edge.machine``, as one check that any machine can be put through.

``check_machine_laws`` drives a fresh machine through a list of steps, drains it after each one as
an owner would, and asserts after every step what the laws promise. The clock starts at
``START`` and moves only with ``Wait`` steps.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import frozen

from edge.machine import EVENT_QUEUE_MAX, TRANSMIT_QUEUE_MAX, Address, Machine, Transmit

MachineT = TypeVar("MachineT", bound=Machine[Any])

START = 1000.0
TIMEOUTS_PER_WAIT_MAX = 10_000


@frozen
class Datagram:
    """``receive_datagram(data, source, now)``."""

    data: bytes
    source: Address
    junk: bool = False
    """The machine must refuse it: law 1 then demands one more drop and no other effect."""


@frozen
class Wait:
    """The clock moves on, and ``handle_timeout`` is called for every deadline that passes."""

    seconds: float
    late: bool = False
    """Call ``handle_timeout`` once, when the wait is over, as a busy owner would."""


@frozen
class Call(Generic[MachineT]):
    """A verb of the protocol: ``verb(machine, now)``."""

    verb: Callable[[MachineT, float], None]


@frozen
class Close:
    """``close(now)``."""


Step = Datagram | Wait | Call[MachineT] | Close


@frozen
class Trace:
    """All that can be seen of a machine after one step."""

    datagrams: tuple[Transmit, ...]
    events: tuple[object, ...]
    timeout: float | None
    drops: Counter[str]


def check_machine_laws(
    machine_factory: Callable[[], MachineT],
    inputs: Sequence[Step[MachineT]],
    *,
    invariant: Callable[[MachineT], None] | None = None,
    final_events: tuple[type, ...] = (),
    deterministic: bool = True,
) -> None:
    """Assert that a machine keeps laws 1 to 5 of ``edge.machine`` over ``inputs``.

    ``machine_factory`` makes equal, fresh machines: their entropy is seeded. ``invariant`` is
    called after every step, undrained ones too, and asserts what only this machine can know: the
    caps of its tables (law 3). ``final_events`` are the types of the events with which the machine
    says that it closed itself; law 4 holds from then on. ``deterministic`` is False for OpenSSL's
    exception to law 5.
    """
    traces = _Run(machine_factory(), invariant, final_events).all(inputs)
    again = _Run(machine_factory(), invariant, final_events).all(inputs)
    if deterministic:
        assert traces == again, "law 5: same inputs, different outputs"
    _check_undrained(machine_factory(), inputs, invariant)


class _Run(Generic[MachineT]):
    """One machine, its clock, and the checks of laws 1, 2 and 4."""

    def __init__(
        self,
        machine: MachineT,
        invariant: Callable[[MachineT], None] | None,
        final_events: tuple[type, ...],
    ) -> None:
        self.machine = machine
        self.invariant = invariant
        self.final_events = final_events
        self.now = START
        self.closed = False

    def all(self, inputs: Sequence[Step[MachineT]]) -> list[Trace]:
        """Do every step, then close, then do every step again to no effect."""
        traces = [self.step(step) for step in (*inputs, Close(), Close())]
        traces += [self.step(step) for step in inputs]
        return traces

    def step(self, step: Step[MachineT]) -> Trace:
        before = self.machine.next_timeout()
        drops = self.machine.drops.copy()
        was_closed = self.closed
        trace = self._wait(step) if isinstance(step, Wait) else self._input(step)
        if isinstance(step, Datagram) and step.junk and not was_closed:
            self._check_junk(trace, before, drops)
        if was_closed:
            assert not trace.datagrams, "law 4: a closed machine sends"
            assert not trace.events, "law 4: a closed machine emits"
        self.closed = self.closed or any(isinstance(e, self.final_events) for e in trace.events)
        if self.closed:
            assert trace.timeout is None, "law 4: a closed machine keeps a deadline"
        self._check_idle_timeout()
        return trace

    def _input(self, step: Datagram | Call[MachineT] | Close) -> Trace:
        _apply(self.machine, step, self.now)
        self.closed = self.closed or isinstance(step, Close)
        return self._drain()

    def _wait(self, step: Wait) -> Trace:
        """Move the clock, drain after every deadline, and return all of it as one trace."""
        until = self.now + step.seconds
        traces = [self._drain()]
        for _ in range(TIMEOUTS_PER_WAIT_MAX):
            due = self.machine.next_timeout()
            if due is None or due > until:
                break
            self.now = until if step.late else max(self.now, due)
            self.machine.handle_timeout(self.now)
            traces.append(self._drain())
            left = traces[-1].timeout
            assert left is None or left > self.now, "law 2: a deadline that has passed stays armed"
        else:
            raise AssertionError("law 2: deadlines come without end")
        self.now = until
        return Trace(
            datagrams=tuple(one for trace in traces for one in trace.datagrams),
            events=tuple(one for trace in traces for one in trace.events),
            timeout=traces[-1].timeout,
            drops=traces[-1].drops,
        )

    def _drain(self) -> Trace:
        if self.invariant is not None:
            self.invariant(self.machine)
        datagrams = tuple(iter(self.machine.next_datagram, None))
        events = tuple(iter(self.machine.next_event, None))
        assert len(datagrams) <= TRANSMIT_QUEUE_MAX, "law 3: the datagram queue has no cap"
        assert len(events) <= EVENT_QUEUE_MAX, "law 3: the event queue has no cap"
        return Trace(datagrams, events, self.machine.next_timeout(), self.machine.drops.copy())

    def _check_junk(self, trace: Trace, timeout: float | None, drops: Counter[str]) -> None:
        assert trace.drops.total() == drops.total() + 1, "law 1: junk is not counted once"
        assert not trace.datagrams, "law 1: junk is answered"
        assert not trace.events, "law 1: junk has an effect"
        assert trace.timeout == timeout, "law 1: junk moves the deadline"

    def _check_idle_timeout(self) -> None:
        """Call ``handle_timeout`` when nothing is due: it must do nothing (law 2)."""
        due = self.machine.next_timeout()
        if due is not None and due <= self.now:
            return
        drops = self.machine.drops.copy()
        self.machine.handle_timeout(self.now)
        idle = Trace((), (), due, drops)
        assert self._drain() == idle, "law 2: an early handle_timeout does something"


def _apply(machine: MachineT, step: Datagram | Call[MachineT] | Close, now: float) -> None:
    """Give one input to the machine. What it raises is a broken law 1."""
    match step:
        case Datagram(data, source):
            machine.receive_datagram(data, source, now)
        case Call(verb):
            verb(machine, now)
        case Close():
            machine.close(now)


def _check_undrained(
    machine: MachineT,
    inputs: Sequence[Step[MachineT]],
    invariant: Callable[[MachineT], None] | None,
) -> None:
    """Repeat each step for as long as it fills a queue that nobody drains (law 3)."""
    now = START
    for step in inputs:
        if isinstance(step, Wait):
            now += step.seconds
            machine.handle_timeout(now)
            continue
        queued = -1
        while queued < _queued(machine) <= TRANSMIT_QUEUE_MAX + EVENT_QUEUE_MAX:
            queued = _queued(machine)
            _apply(machine, step, now)
        assert len(machine._transmits) <= TRANSMIT_QUEUE_MAX, "law 3: no cap on datagrams"
        assert len(machine._events) <= EVENT_QUEUE_MAX, "law 3: no cap on events"
        if invariant is not None:
            invariant(machine)


def _queued(machine: Machine[Any]) -> int:
    return len(machine._transmits) + len(machine._events)
