"""The pacer on virtual time: many sessions, absolute deadlines, stalls, crashes."""

import math
import random
from collections import Counter, defaultdict
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge.media.dialogue import EndItem, Play
from edge.media.endpoint import PacedPacket
from edge.media.frames import AudioFormat, AudioFrame, Encoding
from edge.media.inbound import Inbound
from edge.media.path import MediaPath
from edge.media.payloads import Codec, PayloadTypes
from edge.media.punctuality import Punctuality
from edge.rtp.jitter import JitterLimits
from edge.rtp.packet import decode_rtp
from edge.transceiver.driven import Driven
from edge.transceiver.pacing import FLUSH_INTERVAL, TURNS_MAX, Pacer
from tests.support.playing import START, Stage, sound

FRAME = 0.02
EPSILON = 1e-6


class Deaf:
    def hear(self, frame: AudioFrame) -> None: ...

    def tell(self, notice: object) -> None: ...


class PlainSession:
    """The two verbs of a session that a pacer uses, without encryption."""

    def __init__(self, path: MediaPath) -> None:
        self.path = path

    def next_media(self) -> float | None:
        return self.path.next_wake()

    def send_media(self, now: float) -> PacedPacket | None:
        return self.path.wake(now)


class Broken(PlainSession):
    def send_media(self, now: float) -> PacedPacket | None:  # noqa: ARG002 - a session's verb
        raise ZeroDivisionError("a bug")


class Eager(PlainSession):
    """Always wants to be woken, and never sends."""

    turns = 0

    def next_media(self) -> float | None:
        return START

    def send_media(self, now: float) -> PacedPacket | None:  # noqa: ARG002 - a session's verb
        self.turns += 1
        return None


class Worker:
    """A pacer, its clock and what it sent. Encoding a packet costs ``cost`` seconds."""

    def __init__(self, cost: float = 0.0) -> None:
        self.now = START
        self.cost = cost
        self.punctuality = Punctuality()
        self.pacer = Pacer(self.punctuality, lambda: self.now, self._send, self._flush, self._crash)
        self.queued: list[tuple[Driven, bytes]] = []
        self.sent: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        """When packets of each session have left, and their timestamps."""
        self.crashed: list[str] = []

    def add(
        self, name: str, seconds: float, kind: type[PlainSession] = PlainSession
    ) -> tuple[Driven, MediaPath]:
        """Add a session that has so much to say, from now on."""
        stage = Stage()
        outbound = stage.outbound
        outbound._punctuality = self.punctuality
        inbound = Inbound(
            PayloadTypes(Codec.PCMU, 0),
            AudioFormat(Encoding.PCM16, 8000),
            JitterLimits(0.0, 0.3, steady=False),
        )
        path = MediaPath(1, inbound, outbound, Deaf(), self.now)
        path.start(self.now)
        path.command(Play("a", sound(1, seconds * 1e3)), self.now)
        path.command(EndItem("a"), self.now)
        session = cast("Any", kind(path))
        driven = Driven(name, name.encode(), session, lambda _: None, 0)
        self.pacer.schedule(driven)
        return driven, path

    def run(self, seconds: float) -> None:
        """Let time pass with a worker that wakes when the pacer asks for it."""
        end = self.now + seconds
        while (wake := self.pacer.next_wake()) <= end:
            self.now = max(self.now, wake)
            self.pacer.fire(self.now)
        self.now = max(self.now, end)

    def _send(self, driven: Driven, packet: bytes) -> None:
        self.now += self.cost
        self.queued.append((driven, packet))

    def _flush(self) -> None:
        for driven, packet in self.queued:
            self.sent[driven.id].append((self.now, decode_rtp(packet).timestamp))
        self.queued.clear()

    def _crash(self, driven: Driven, error: Exception) -> None:
        assert isinstance(error, ZeroDivisionError)
        self.crashed.append(driven.id)


def test_deadlines_are_absolute() -> None:
    worker = Worker()
    worker.add("a", 60.0)
    worker.run(59.99)
    assert [at for at, _ in worker.sent["a"]] == pytest.approx(
        [START + n * FRAME for n in range(3000)]
    )
    assert worker.punctuality.statistics().histogram[0] == 3000


def test_what_a_packet_costs_does_not_add_up() -> None:
    """A naive loop would be 3 s late after 3,000 packets of 1 ms."""
    worker = Worker(cost=0.001)
    worker.add("a", 60.0)
    worker.run(59.99)
    late = [at - START - n * FRAME for n, (at, _) in enumerate(worker.sent["a"])]
    assert len(late) == 3000
    assert max(late) < 0.0011
    assert worker.punctuality.on_time_ratio == 1


def test_many_sessions_each_keep_their_own_grid() -> None:
    worker = Worker(cost=20e-6)
    starts = {}
    for number in range(200):
        worker.run(random.Random(number).uniform(0, 0.001))
        starts[f"{number}"] = worker.now
        worker.add(f"{number}", 5.0)
    worker.run(6.0)
    for name, start in starts.items():
        times = [at for at, _ in worker.sent[name]][:250]
        late = [at - start - n * FRAME for n, at in enumerate(times)]
        assert len(late) == 250
        assert min(late) > -EPSILON
        assert max(late) < 0.0055
    assert worker.punctuality.on_time_ratio > 0.999
    assert worker.punctuality.statistics().skipped == 0


def test_ready_packets_do_not_wait_for_the_rest() -> None:
    """200 sessions due at once, 0.1 ms each: they leave in portions, not after 20 ms."""
    worker = Worker(cost=0.0001)
    for number in range(200):
        worker.add(f"{number}", 0.02)
    worker.pacer.fire(worker.now)
    departures = sorted({at for times in worker.sent.values() for at, _ in times})
    assert len(departures) == pytest.approx(20, abs=2)
    for before, after in pairwise(departures):
        assert after - before <= FLUSH_INTERVAL + 0.0001 + EPSILON
    histogram = worker.punctuality.statistics().histogram  # up to 1 ms, 2, 5, 10 and 20
    assert sum(histogram) == 200
    assert histogram[0] + histogram[1] == pytest.approx(20, abs=11)
    assert histogram[4] == pytest.approx(100, abs=11)


@pytest.mark.parametrize("stall", [0.3, 2.0])
def test_a_stall_comes_out_without_a_burst(stall: float) -> None:
    sessions = 50
    worker = Worker()
    for number in range(sessions):
        worker.add(f"{number}", 5.0)
        worker.run(0.0004)
    worker.run(1.0)
    before = {name: len(times) for name, times in worker.sent.items()}
    worker.now += stall
    resumed = worker.now
    worker.pacer.fire(worker.now)
    at_once = {name: len(times) - before[name] for name, times in worker.sent.items()}
    assert set(at_once.values()) <= {0, 1}, "one packet each at most"
    worker.run(8.0)
    skipped = 0
    for times in worker.sent.values():
        after = [(at, stamp) for at, stamp in times if at >= resumed]
        for (early, first), (late, second) in pairwise(after):
            ticks = (second - first) & 0xFFFF_FFFF
            assert late - early >= ticks / 8000 - FRAME, "never faster than the clock"
            assert late > early
        jumps = Counter((b - a) & 0xFFFF_FFFF for (_, a), (_, b) in pairwise(times[:250]))
        (jump,) = [ticks for ticks in jumps if ticks != 160]
        skipped += jump // 160 - 1
        assert jump / 8000 == pytest.approx(stall, abs=2 * FRAME)
    statistics = worker.punctuality.statistics()
    assert statistics.skipped == skipped
    assert skipped == pytest.approx(sessions * stall / FRAME, rel=0.1)
    assert statistics.on_time_ratio < 1 - 0.9 * skipped / (statistics.frames + skipped)


def test_a_crash_ends_one_session_and_no_other() -> None:
    worker = Worker()
    worker.add("good", 1.0)
    worker.add("broken", 1.0, Broken)
    worker.add("last", 1.0)
    worker.run(0.99)
    assert worker.crashed == ["broken"]
    assert not worker.sent["broken"]
    assert len(worker.sent["good"]) == len(worker.sent["last"]) == 50


def test_no_session_holds_the_worker() -> None:
    worker = Worker()
    driven, _ = worker.add("eager", 1.0, Eager)
    worker.add("good", 1.0)
    for _ in range(10):
        before = cast("Eager", driven.session).turns
        worker.pacer.fire(worker.now)
        assert cast("Eager", driven.session).turns - before <= TURNS_MAX
        worker.now += FRAME + EPSILON
    assert len(worker.sent["good"]) == 10


def test_an_earlier_deadline_moves_a_session_up() -> None:
    worker = Worker()
    driven, path = worker.add("a", 0.02)
    worker.run(1.0)  # over: only a sign of silence now and then
    assert worker.pacer.next_wake() > worker.now + 0.1
    path.command(Play("b", sound(2, 40)), worker.now)
    path.command(EndItem("b"), worker.now)
    assert worker.pacer.schedule(driven), "it is the first of all now"
    assert worker.pacer.next_wake() == pytest.approx(worker.now)
    began = worker.now
    worker.run(0.05)
    times = [at for at, _ in worker.sent["a"] if at >= began]
    assert times[:2] == pytest.approx([began, began + FRAME])
    assert not worker.pacer.schedule(driven), "nothing has changed"


def test_without_media_nothing_wakes() -> None:
    worker = Worker()
    assert worker.pacer.next_wake() == math.inf
    worker.pacer.fire(worker.now)
    silent = SimpleNamespace(next_media=lambda: None)
    driven = Driven("silent", b"s", cast("Any", silent), lambda _: None, 0)
    assert not worker.pacer.schedule(driven)
    assert worker.pacer.next_wake() == math.inf
