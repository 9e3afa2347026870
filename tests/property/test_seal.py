"""Sealed frames under any bytes, under loss, repetition and reordering, and under wrong clocks."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from edge.errors import FrameError
from edge.fleet.map import FleetKey
from edge.fleet.seal import COUNTS_ON, FRESH, WINDOW, FrameOpener, FrameSealer, KeyRing

RING = KeyRing((FleetKey(1, bytes(range(32))),))
HERE, THERE = ("10.0.0.2", 3600), ("10.0.0.1", 3500)
NOW = 1_800_000_000.0
OFFSETS = st.sampled_from((0.0, 25.0, 3_600.0, -25.0)) | st.floats(-10.0, 10.0)
"""By how much a clock is wrong."""
ERAS_APART = 15
"""More than a clock goes back in one run of the machine: the eras of its senders all differ."""


@given(st.binary(max_size=1_500))
def test_any_bytes_are_a_frame_error(data: bytes) -> None:
    opener = FrameOpener(RING, THERE)
    try:
        opener.open(memoryview(data), HERE, NOW)
    except FrameError:
        return
    raise AssertionError("nobody has sealed that")


@given(st.lists(st.binary(max_size=300), max_size=5), st.binary(min_size=6, max_size=6))
def test_pieces_come_out_as_one(pieces: list[bytes], entrance: bytes) -> None:
    data = FrameSealer(RING, HERE, THERE).seal(entrance, pieces, NOW)
    opened = FrameOpener(RING, THERE).open(memoryview(data), HERE, NOW)
    assert (opened.entrance, bytes(opened.frame)) == (entrance, b"".join(pieces))


@given(st.lists(st.integers(0, 2 * WINDOW), max_size=4 * WINDOW))
def test_no_order_of_arrival_has_a_frame_taken_twice(order: list[int]) -> None:
    sealer, opener = FrameSealer(RING, HERE, THERE), FrameOpener(RING, THERE)
    sent = [sealer.seal(bytes(6), (), NOW) for _ in range(2 * WINDOW + 1)]
    taken: set[int] = set()
    recent: list[int] = []
    for number in order:
        try:
            opener.open(memoryview(sent[number]), HERE, NOW)
        except FrameError:
            behind = len(recent) > WINDOW and number < max(recent[:-WINDOW])
            assert number in taken or behind, "a new frame within the window is taken"
        else:
            assert number not in taken
            taken.add(number)
            recent.append(number)


class Clocks(RuleBasedStateMachine):
    """A sender, a receiver, their clocks, and somebody who keeps and repeats all frames."""

    def __init__(self) -> None:
        super().__init__()
        self.true = NOW
        self.sender_off = self.receiver_off = 0.0
        self.starts = 0
        self.opener = FrameOpener(RING, THERE)
        self.sent: list[bytes] = []
        self.taken: set[bytes] = set()
        self.start_again()

    def offer(self, data: bytes) -> str | None:
        try:
            self.opener.open(memoryview(data), HERE, self.true + self.receiver_off)
        except FrameError as exc:
            return exc.reason
        sequence = data[8:16]
        assert sequence not in self.taken, "no sequence is taken twice"
        self.taken.add(sequence)
        return None

    def seal(self) -> bytes:
        data = self.sealer.seal(bytes(6), (), self.true + self.sender_off)
        self.sent.append(data)
        return data

    @rule()
    def start_again(self) -> None:
        self.sealer = FrameSealer(RING, HERE, THERE, era=self.starts * ERAS_APART % 256)
        self.starts += 1

    @rule(seconds=st.floats(0.0, 30.0) | st.just(3_600.0))
    def wait(self, seconds: float) -> None:
        self.true += seconds

    @rule(sender=OFFSETS, receiver=OFFSETS)
    def set_clocks(self, sender: float, receiver: float) -> None:
        self.sender_off, self.receiver_off = sender, receiver

    @rule(both=OFFSETS)
    def set_both_clocks(self, both: float) -> None:
        self.sender_off = self.receiver_off = both

    @rule(count=st.integers(1, 20) | st.just(WINDOW + 1), arrives=st.booleans())
    def send(self, count: int, arrives: bool) -> None:
        for _ in range(count):
            data = self.seal()
            if arrives:
                self.offer(data)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.offer(data.draw(st.sampled_from(self.sent)))

    @rule()
    def repeat_all(self) -> None:
        for data in self.sent:
            self.offer(data)

    @rule(apart=st.floats(-FRESH + COUNTS_ON + 0.01, FRESH - COUNTS_ON - 0.01))
    def put_right(self, apart: float) -> None:
        """With clocks that agree well enough, the very next frame is taken, whatever was before."""
        self.sender_off, self.receiver_off = apart, 0.0
        assert self.offer(self.seal()) is None


Clocks.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestClocks = Clocks.TestCase
