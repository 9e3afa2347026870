"""The loopback plays what it hears, and does not let the delay grow."""

import random

from edge.backend.loopback import DELAY_MAX, Loopback
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.inbound import Inbound
from edge.media.path import MediaPath
from edge.media.payloads import Codec, PayloadTypes
from edge.rtp.jitter import JitterLimits
from tests.support.playing import SSRC, START, Stage, sound

FRAME = 0.02
LIMITS = JitterLimits(0.02, 0.3, steady=True)


def joined(stage: Stage) -> tuple[Loopback, MediaPath]:
    inbound = Inbound(PayloadTypes(Codec.PCMU, 0), AudioFormat(Encoding.PCM16, 8000), LIMITS)
    loopback = Loopback()
    path = MediaPath(SSRC, inbound, stage.outbound, loopback, START)
    loopback.join(path)
    path.start(START)
    return loopback, path


def say(loopback: Loopback, path: MediaPath, number: int, now: float) -> None:
    path.now = now
    audio = sound(random.Random(number).randrange(1, 100), 20)
    loopback.hear(AudioFrame(Label.RECEIVED, number * FRAME, FRAME, 0.0, audio, None))


def test_what_is_heard_is_played_at_once() -> None:
    stage = Stage()
    loopback, path = joined(stage)
    for number in range(50):
        say(loopback, path, number, START + number * FRAME)
        stage.run(FRAME)
    assert len(stage.packets) == 50
    assert path.queued <= FRAME
    assert not loopback.drops


def test_a_client_whose_clock_is_fast_does_not_make_the_delay_grow() -> None:
    """One percent fast: without a bound it would be six seconds after ten minutes."""
    stage = Stage()
    loopback, path = joined(stage)
    queued = []
    number = 0
    while stage.now < START + 600:
        say(loopback, path, number, stage.now)
        number += 1
        stage.run(FRAME / 1.01)
        queued.append(path.queued)
    assert DELAY_MAX - FRAME < max(queued) < DELAY_MAX + 1.1 * FRAME
    dropped = loopback.drops["loopback-delay"]
    assert dropped + len(stage.packets) + round(path.queued / FRAME) == number
    assert 0.005 * number < dropped < 0.011 * number


def test_a_burst_costs_no_more_than_its_excess() -> None:
    stage = Stage()
    loopback, path = joined(stage)
    for number in range(20):
        say(loopback, path, number, START)
    assert DELAY_MAX < path.queued < DELAY_MAX + 1.1 * FRAME
    assert loopback.drops == {"loopback-delay": 20 - round(path.queued / FRAME)}


def test_before_it_is_joined_nothing_is_played() -> None:
    loopback = Loopback()
    loopback.hear(AudioFrame(Label.RECEIVED, 0.0, FRAME, 0.0, sound(1, 20), None))
    assert not loopback.drops
