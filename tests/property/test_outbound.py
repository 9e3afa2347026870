"""Whatever backend, caller and client do, the send path keeps to a model of what must come out.

The model is a list of items with the mu-law bytes that wait in each. Nothing is lost, doubled or
reordered but by clear and overflow; slots, timestamps and sequence numbers keep their laws.
"""

from itertools import pairwise

from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.audio.g711 import decode_ulaw
from edge.media.dialogue import (
    Clear,
    Cleared,
    Digit,
    EndItem,
    ItemEnded,
    ItemPosition,
    ItemStarted,
    Mark,
    MarkReached,
    Pause,
    Play,
    Resume,
    SoundDropped,
)
from tests.support.playing import START, Stage

QUEUE_MAX = 1.0
SAMPLES_MAX = 8000
FRAME = 160
ITEMS = st.sampled_from(["a", "b", "c"])
TOLERANCE = 1e-6
TICK = 1 / 8000
MU_LAW = {decode_ulaw(bytes((byte,))): byte for byte in range(101)}


@define(eq=False)
class Item:
    id: str
    waiting: bytearray = field(factory=bytearray)
    half: bytes = b""
    ended: bool = False
    sent: int = 0
    gone: int = 0
    """Samples sent or dropped."""


class SendPath(RuleBasedStateMachine):
    @initialize(
        gaps=st.sampled_from(["dtx", "silence"]),
        prebuffer=st.sampled_from([0.0, 0.02, 0.1]),
    )
    def begin(self, gaps: str, prebuffer: float) -> None:
        self.stage = Stage(
            gaps="dtx" if gaps == "dtx" else "silence", prebuffer=prebuffer, queue_max=QUEUE_MAX
        )
        self.prebuffer = prebuffer
        self.items: list[Item] = []
        self.counter = 0
        self.marks: list[tuple[str, Item | None, int]] = []
        self.paused = False
        self.first_slot = START

    @rule(id_=ITEMS, samples=st.integers(1, 12_000), cut=st.integers(0, 400))
    def play(self, id_: str, samples: int, cut: int) -> None:
        """Append sound that no other has, in two parts that may split a sample."""
        self.counter += 1
        row = bytes(1 + (self.counter + index // 7) % 100 for index in range(samples))
        pcm = decode_ulaw(row)
        for part in (pcm[:cut], pcm[cut:]):
            self.append(id_, part)
            self.stage.command(Play(id_, part))
            self.check_notices()

    @rule(id_=ITEMS)
    def end(self, id_: str) -> None:
        item = next((item for item in self.items if item.id == id_ and not item.ended), None)
        if item is not None:
            item.ended = True
        self.stage.command(EndItem(id_))
        self.check_notices()

    @rule()
    def mark(self) -> None:
        self.counter += 1
        name = str(self.counter)
        item = next((item for item in reversed(self.items) if item.waiting), None)
        self.marks.append((name, item, item.gone + len(item.waiting) if item else 0))
        self.stage.command(Mark(name))
        self.check_notices()

    @rule()
    def clear(self) -> None:
        self.stage.command(Clear())
        self.check_notices()
        assert self.items == []
        assert self.marks == []

    @rule()
    def pause(self) -> None:
        self.paused = True
        self.stage.command(Pause())

    @rule()
    def resume(self) -> None:
        self.paused = False
        self.stage.command(Resume())

    @rule(wait=st.sampled_from([0.0, 0.0004, 0.003, 0.01, 0.019, 0.02]) | st.floats(0, 0.05))
    def call(self, wait: float) -> None:
        """Call whether it is time or not, once."""
        self.stage.now += wait
        self.step()

    @rule(late=st.sampled_from([0.0, 0.001, 0.015, 0.02, 0.021, 0.3, 10.0]))
    def call_after_due(self, late: float) -> None:
        due = self.stage.outbound.next_due()
        if due is not None:
            self.stage.now = max(self.stage.now, due) + late
            self.step()

    @rule(frames=st.integers(1, 40))
    def punctual(self, frames: int) -> None:
        for _ in range(frames):
            self.call_after_due(0.0)

    @rule(back=st.integers(-3, 50), lost=st.floats(0, 1))
    def report(self, back: int, lost: float) -> None:
        if self.stage.packets:
            highest = self.stage.packets[-1].sequence_number - back
            self.stage.outbound.note_report(highest & 0xFFFF, lost, self.stage.now)

    @invariant()
    def waiting_sound_is_due_in_time(self) -> None:
        waits = any(item.waiting for item in self.items)
        assert self.stage.outbound.statistics().queued == self.total() / 8000
        if waits and not self.paused:
            due = self.stage.outbound.next_due()
            assert due is not None
            assert due <= self.stage.now + max(self.prebuffer, 0.02) + TOLERANCE

    def step(self) -> None:
        """Call, and hold what comes out against the model."""
        stage, outbound = self.stage, self.stage.outbound
        due = outbound.next_due()
        frames = outbound.statistics().frames_sent
        packet = stage.call()
        if due is None or stage.now < due:
            assert packet is None
            assert outbound.next_due() == due
            return
        assert packet is not None  # this encoder leaves no slot empty
        sound = None
        if outbound.statistics().frames_sent > frames:
            assert not self.paused
            sound = packet.payload
        self.check_notices(sound)
        next_due = outbound.next_due()
        assert next_due is None or next_due > stage.now - TOLERANCE
        self.check_headers()

    def take(self, payload: bytes) -> None:
        item = self.items[0]
        frame = bytes(item.waiting[:FRAME])
        assert frame
        assert payload == frame.ljust(FRAME, b"\xff")
        del item.waiting[:FRAME]
        item.sent += len(frame)
        item.gone += len(frame)

    def append(self, id_: str, pcm: bytes) -> None:
        if not pcm:
            return
        item = next((item for item in self.items if item.id == id_ and not item.ended), None)
        if item is None:
            item = Item(id_)
            self.items.append(item)
        pcm = item.half + pcm
        whole = len(pcm) // 2
        item.half = pcm[2 * whole :]
        item.waiting += self.encode(pcm[: 2 * whole])
        for oldest in self.items:
            excess = min(max(0, self.total() - SAMPLES_MAX), len(oldest.waiting))
            del oldest.waiting[:excess]
            oldest.gone += excess

    @staticmethod
    def encode(pcm: bytes) -> bytes:
        return bytes(MU_LAW[pcm[at : at + 2]] for at in range(0, len(pcm), 2))

    def total(self) -> int:
        return sum(len(item.waiting) for item in self.items)

    def check_notices(self, sound: bytes | None = None) -> None:
        """Hold the notices of one call against the model; ``sound`` is what the call sent."""
        clearing = any(isinstance(notice, Cleared) for notice in self.stage.notices)
        for notice in self.stage.notices:
            match notice:
                case MarkReached(name, cleared):
                    marked, item, place = self.marks.pop(0)
                    assert name == marked
                    if sound is not None and item is not None and item.gone < place:
                        self.take(sound)
                        sound = None
                    assert clearing or item is None or item.gone >= place
                    assert cleared or not clearing
                case ItemStarted(id_):
                    assert (self.items[0].id, self.items[0].sent) == (id_, 0)
                case ItemEnded(ItemPosition(id_, sent, received)):
                    if self.items[0].waiting and sound is not None:
                        self.take(sound)
                        sound = None
                    item = self.items.pop(0)
                    assert (item.id, item.sent) == (id_, round(sent * 8000))
                    assert not item.waiting
                    assert item.ended or self.total()
                    assert received is None or 0 <= received <= sent
                case Cleared(positions):
                    told = [(each.item, round(each.sent * 8000)) for each in positions]
                    assert told == [(item.id, item.sent) for item in self.items]
                    self.items.clear()
                case SoundDropped(seconds):
                    assert seconds > 0
                case Digit():
                    raise AssertionError(notice)
        self.stage.notices.clear()
        if sound is not None:
            self.take(sound)
        assert all(item is not None and item.gone < place for _, item, place in self.marks)
        assert not any(item.ended and not item.waiting for item in self.items[:1])

    def check_headers(self) -> None:
        stage = self.stage
        last, latest = stage.packets[-1], stage.packets[-2:]
        for earlier, later in pairwise(latest):
            assert (later.sequence_number - earlier.sequence_number) & 0xFFFF == 1
            step = (later.timestamp - earlier.timestamp) & 0xFFFF_FFFF
            assert FRAME <= step < 2**31
        origin = self.origin()
        slot = ((last.timestamp - stage.packets[0].timestamp) & 0xFFFF_FFFF) / 8000 + origin
        assert slot - TOLERANCE <= stage.now < slot + 0.02 + TICK + TOLERANCE

    def origin(self) -> float:
        """Return when the first packet's slot began."""
        if len(self.stage.packets) == 1:
            outbound = self.stage.outbound
            assert outbound._origin is not None
            base = outbound._packetizer._timestamp
            slot = (self.stage.packets[0].timestamp - base) & 0xFFFF_FFFF
            self.first_slot = outbound._origin + slot / 8000
            assert self.first_slot >= START
        return self.first_slot


SendPath.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck), deadline=None
)
TestSendPath = SendPath.TestCase
