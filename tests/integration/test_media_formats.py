"""Sound through the running appliance: every kind of route, every codec, every rate."""

from pathlib import Path

import trio

from tests.support.appliance import Appliance, running_appliance
from tests.support.caller import new_credentials, offer, signaling
from tests.support.fake_backend import Visitor
from tests.support.native_backend import (
    appliance_with_backend,
    events,
    example_backend,
    sound,
    wait_frames,
)
from tests.support.speech import aligned, lag_of, log_spectral_distance, speech
from tests.support.talker import (
    CODECS,
    Slots,
    g711_payloads,
    opus_payloads,
    said,
    talking,
)

SECONDS = 3.0
DELAY_MAX = 0.25
"""Seconds from mouth to ear on an idle wire: a frame, two buffers, and a loaded machine."""
ATTEMPTS = 4
LATE_MAX = 0.02
DISTANCE_MAX_DB = 4.0
RATES = (8_000, 16_000, 24_000, 48_000)


def slots_of(pcm: bytes, codec: str, rate_hz: int) -> Slots:
    if codec == "opus":
        return said(opus_payloads(pcm, rate_hz))
    return said(g711_payloads(pcm, codec), payload_type=next(iter(CODECS[codec])))


async def converse(appliance: Appliance, codec: str, route: str, rate_hz: int, seed: int) -> None:
    """Say a few words, hear them again, and judge what was heard.

    Words that this machine was too busy to say or to carry in time are said again.
    """
    words = speech(SECONDS, rate_hz, seed)
    slots = slots_of(words, codec, rate_hz)
    for _ in range(ATTEMPTS):
        async with talking(
            await appliance.origin(), slots, codec=codec, route=route
        ) as conversation:
            await conversation.wait_said()
            await trio.sleep(0.4)
        talker = conversation.talker
        answer = talker.sound(codec, rate_hz)
        distance = log_spectral_distance(words, aligned(words, answer, rate_hz), rate_hz)
        assert talker.started_at is not None
        lag = talker.arrivals[0].at - talker.started_at + lag_of(words, answer, rate_hz) / rate_hz
        print(
            f"{route} {codec}: distance {distance:.2f} dB, delay {lag * 1e3:.0f} ms,"
            f" the talker was {talker.late * 1e3:.0f} ms late"
        )
        if talker.late < LATE_MAX and distance < DISTANCE_MAX_DB:
            break
    assert distance < DISTANCE_MAX_DB
    assert 0 < lag < DELAY_MAX
    numbers = [packet.sequence_number for packet in talker.packets]
    assert [(number - numbers[0]) & 0xFFFF for number in numbers] == list(range(len(numbers)))
    assert {packet.ssrc for packet in talker.packets} == {talker.packets[0].ssrc}
    assert talker.packets[0].marker
    assert not conversation.call.events[1:], "nothing ended the call"


async def test_the_example_backend_at_every_rate(tmp_path: Path) -> None:
    async with example_backend() as url:
        routes = {
            str(rate_hz): f'kind = "websocket"\nurl = "{url}"\nrate_hz = {rate_hz}'
            for rate_hz in RATES
        }
        async with (
            running_appliance(
                tmp_path, routes=routes, signal='default_route = "8000"'
            ) as appliance,
            trio.open_nursery() as nursery,
        ):
            for rate_hz in RATES:
                nursery.start_soon(converse, appliance, "opus", str(rate_hz), rate_hz, 3)


async def test_loopback_and_g711(tmp_path: Path) -> None:
    async with example_backend() as url:
        routes = {
            "default": 'kind = "loopback"',
            "backend": f'kind = "websocket"\nurl = "{url}"\nrate_hz = 16000',
        }
        async with (
            running_appliance(tmp_path, routes=routes) as appliance,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(converse, appliance, "opus", "default", 48_000, 5)
            for route in routes:
                for codec in ("PCMU", "PCMA"):
                    nursery.start_soon(converse, appliance, codec, route, 8_000, 6)


async def test_opus_packets_pass_as_they_are(tmp_path: Path) -> None:
    payloads = opus_payloads(speech(2.0, 48_000, 4), 48_000)

    async def echo(visitor: Visitor) -> None:
        await visitor.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.read)
            for number in range(len(payloads)):
                frames = await wait_frames(visitor, number + 1)
                await visitor.send(sound(1, frames[number].audio))

    async with appliance_with_backend(tmp_path, 'encoding = "opus"', echo) as (appliance, backend):
        async with talking(await appliance.origin(), said(payloads)) as conversation:
            await conversation.wait_said()
            visitor = await backend.visitor()
            count = len(payloads)
            frames = await wait_frames(visitor, count + 3)
            await conversation.wait_heard(count)
            assert [frame.audio for frame in frames[:count]] == payloads
            assert [frame.media_time for frame in frames] == [
                20_000 * number for number in range(len(frames))
            ]
            # Who stops without a word is waited for, 60 ms long.
            assert [frame.label for frame in frames] == ["received"] * count + ["concealed"] * 3
            assert not any(frame.audio for frame in frames[count:])
            answer = conversation.talker.packets
            assert [packet.payload for packet in answer[:count]] == payloads
        start = events(visitor, "start")[0]
        assert start["format"] == {"encoding": "opus", "rate_hz": 48_000, "channels": 1}


async def test_an_opus_backend_refuses_who_does_not_speak_opus(tmp_path: Path) -> None:
    async with appliance_with_backend(tmp_path, 'encoding = "opus"') as (appliance, backend):
        for codec in ("PCMU", "PCMA"):
            async with signaling(await appliance.origin()) as websocket:
                error = await offer(websocket, new_credentials(), formats=CODECS[codec])
                assert (error["type"], error["code"]) == ("error", "offer-refused")
                assert "opus/48000/2" in error["message"]
        assert not backend.visitors
