"""A media path before and after there are keys, and what passes between its two sides."""

import pytest

from edge.media.dialogue import (
    Clear,
    Cleared,
    Digit,
    EndItem,
    ItemEnded,
    ItemStarted,
    Mark,
    MarkReached,
    Notice,
    Pause,
    Play,
    Resume,
)
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.inbound import Inbound
from edge.media.path import MediaPath
from edge.media.payloads import Codec, PayloadTypes
from edge.rtp.jitter import EAGER_WAIT, JitterLimits
from edge.rtp.packet import RtpPacket, decode_rtp
from tests.support.playing import SSRC, START, Stage, sound

FRAME = 0.02
TICKS = 160
EVENT = 101


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.frames: list[AudioFrame] = []
        self.notices: list[Notice] = []

    def hear(self, frame: AudioFrame) -> None:
        self.frames.append(frame)

    def tell(self, notice: Notice) -> None:
        self.notices.append(notice)


class Path:
    """A PCMU path on virtual time with a punctual owner."""

    def __init__(self) -> None:
        self.now = START
        self.ear = Ear()
        types = PayloadTypes(Codec.PCMU, 0, telephone_event=EVENT)
        limits = JitterLimits(0.0, 0.3, steady=False)
        inbound = Inbound(types, AudioFormat(Encoding.PCM16, 8000), limits)
        self.path = MediaPath(SSRC, inbound, Stage(prebuffer=0.04).outbound, self.ear, START)
        self.sent: list[tuple[float, RtpPacket]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (wake := self.path.next_wake()) is not None and wake <= end:
            self.now = max(self.now, wake)
            paced = self.path.wake(self.now)
            if paced is not None:
                self.sent.append((self.now, decode_rtp(paced.packet)))
        self.now = end

    def command(self, *commands: Play | EndItem | Mark | Clear | Pause | Resume) -> None:
        for command in commands:
            self.path.command(command, self.now)

    def receive(self, number: int, payload: bytes, payload_type: int = 0) -> None:
        packet = RtpPacket(payload_type, False, number, number * TICKS, 7, payload)
        self.path.receive_audio(packet, self.now)

    def played(self) -> bytes:
        return b"".join(packet.payload for _, packet in self.sent)


def test_nothing_is_due_before_there_are_keys() -> None:
    path = Path()
    path.command(Play("a", sound(1, 200)), EndItem("a"), Mark("m"))
    assert path.path.next_wake() is None
    path.run(5)
    assert path.sent == []
    assert path.ear.notices == []
    assert path.path.queued == pytest.approx(0.2)


def test_a_greeting_from_before_the_keys_is_played_whole() -> None:
    path = Path()
    path.command(Play("a", sound(1, 200)), EndItem("a"), Mark("m"))
    path.run(3)
    path.path.start(path.now)
    began = path.now
    path.run(0.19)
    assert path.played() == bytes((1,)) * 1600
    assert [at for at, _ in path.sent] == pytest.approx([began + n * FRAME for n in range(10)])
    kinds = [type(notice) for notice in path.ear.notices]
    assert kinds == [ItemStarted, MarkReached, ItemEnded]


def test_a_second_start_changes_nothing() -> None:
    path = Path()
    path.path.start(path.now)
    path.command(Play("a", sound(1, 200)), Pause())
    path.path.start(path.now)
    path.run(1)
    assert 1 not in path.played()


def test_a_pause_from_before_the_keys_is_kept() -> None:
    path = Path()
    path.command(Play("a", sound(1, 100)), EndItem("a"), Pause())
    path.path.start(path.now)
    path.run(1)
    assert 1 not in path.played()
    path.command(Resume())
    path.run(0.1)
    assert path.played().count(1) == 800


def test_a_pause_taken_back_before_the_keys_is_none() -> None:
    path = Path()
    path.command(Play("a", sound(1, 100)), EndItem("a"), Pause(), Resume())
    path.run(1)
    assert path.sent == []
    path.path.start(path.now)
    path.run(0.09)
    assert path.played() == bytes((1,)) * 800


def test_a_clear_before_the_keys_forgets_the_greeting() -> None:
    path = Path()
    path.command(Play("a", sound(1, 100)), Clear())
    (cleared,) = path.ear.notices
    assert isinstance(cleared, Cleared)
    assert cleared.positions[0].sent == 0
    path.path.start(path.now)
    path.run(1)
    assert path.sent == []


def test_frames_and_keys_reach_the_listener_as_they_come() -> None:
    path = Path()
    path.path.start(path.now)
    for number in range(5):
        path.receive(number, bytes((number,)) * TICKS)
        assert len(path.ear.frames) == number + 1
        path.run(FRAME)
    path.receive(5, bytes((7, 10, 3, 32)), EVENT)
    (digit,) = [notice for notice in path.ear.notices if isinstance(notice, Digit)]
    assert digit.digit == "7"
    assert digit.media_time == pytest.approx(0.1)


def test_a_missing_packet_is_made_up_without_another_one() -> None:
    """The owner wakes the path for what it receives, too, with nothing to send."""
    path = Path()
    path.path.start(path.now)
    for number in range(10):
        path.receive(number, sound(9, 20)[:TICKS])
        path.run(FRAME)
    assert path.path.next_wake() is not None
    path.run(EAGER_WAIT + 0.2)
    labels = [frame.label for frame in path.ear.frames]
    assert labels == [Label.RECEIVED] * 10 + [Label.CONCEALED] * 3
    assert path.sent == []


def test_statistics_and_drops_are_of_both_directions() -> None:
    path = Path()
    path.path.start(path.now)
    path.receive(0, b"\1" * TICKS)
    path.receive(0, b"\1" * TICKS)
    path.command(Play("a", sound(1, 20)), EndItem("a"), EndItem("b"))
    path.run(1)
    statistics = path.path.statistics()
    assert statistics.inbound.duplicates == 1
    assert statistics.outbound.frames_sent == 1
    assert path.path.all_drops()["unknown-item"] == 1
