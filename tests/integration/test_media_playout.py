"""What a backend plays, as its client hears it: greeting, items, marks, clear, pause, positions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.fake_backend import Visitor
from tests.support.native_backend import (
    appliance_with_backend,
    events,
    order,
    sound,
    wait_event,
)
from tests.support.realtime_conversation import tone
from tests.support.speech import aligned, log_spectral_distance, speech
from tests.support.talker import Arrival, Conversation, g711_payloads, said, talking

RATE_HZ = 24_000
BYTES_PER_MS = RATE_HZ * 2 // 1000
FRAME_MS = 20
QUIET = said(g711_payloads(bytes(320), "PCMU"), payload_type=0)
"""What a client says to be there."""


@asynccontextmanager
async def connected(directory: Path, **config: Any) -> AsyncIterator[tuple[Conversation, Visitor]]:
    """Be in a call with a backend that has said nothing yet.

    In PCMU every frame of sound is a packet; Opus leaves out those that it takes for noise.
    """
    async with (
        appliance_with_backend(directory, **config) as (appliance, backend),
        talking(await appliance.origin(), QUIET, codec="PCMU", repeat=True) as conversation,
    ):
        visitor = await backend.visitor()
        await conversation.wait_state("backend")
        await conversation.wait_state("media")
        yield conversation, visitor


def hum(ms: int) -> bytes:
    """Return sound of which every frame is loud."""
    return b"".join(
        (6_000 if n // 60 % 2 else -6_000).to_bytes(2, "little", signed=True)
        for n in range(ms * RATE_HZ // 1000)
    )


def gaps_ms(arrivals: list[Arrival]) -> list[float]:
    return [1e3 * (after.at - before.at) for before, after in pairwise(arrivals)]


async def test_a_greeting_is_heard_from_its_first_frame(tmp_path: Path) -> None:
    """The backend is there before DTLS is up, and speaks before the client does, all at once."""
    greeting = speech(2.0, RATE_HZ, 8)

    async def greet(visitor: Visitor) -> None:
        await visitor.accept()
        for at in range(0, len(greeting), 4_999):  # odd parts of samples, faster than real time
            await visitor.send(sound(1, greeting[at : at + 4_999]))
        await order(visitor, "end_item", item=1)
        await order(visitor, "mark", name="greeted")
        await visitor.read()

    async with appliance_with_backend(tmp_path, "", greet) as (appliance, backend):
        metadata = {"user": 7, "names": ["a", "é"]}
        async with talking(await appliance.origin(), metadata=metadata) as conversation:
            visitor = await backend.visitor()
            mark = await wait_event(visitor, "mark")
            await trio.sleep(0.1)
            assert visitor.request is not None
            assert visitor.request.headers["Sec-WebSocket-Protocol"] == "edge.media.v1"
            talker = conversation.talker
            start = events(visitor)[0]
            assert start["type"] == "start"
            assert start["metadata"] == metadata
            assert start["session"] == conversation.call.session
            assert (start["route"], start["codec"], start["resumed"]) == ("default", "opus", False)
            assert start["format"] == {"encoding": "pcm16", "rate_hz": RATE_HZ, "channels": 1}
            assert mark == {"type": "mark", "name": "greeted", "cleared": False}
            ended = await wait_event(visitor, "item_ended")
            assert ended["sent_ms"] == 2_000
            first = talker.packets[0]
            ticks = [(each.timestamp - first.timestamp) & 0xFFFF_FFFF for each in talker.packets]
            assert all(tick % 960 == 0 for tick in ticks), "pauses are multiples of a frame"
            answer = talker.played("opus", RATE_HZ, 100)
            distance = log_spectral_distance(greeting, aligned(greeting, answer, RATE_HZ), RATE_HZ)
            late = [
                each.at - talker.arrivals[0].at - tick / 48_000
                for each, tick in zip(talker.arrivals, ticks, strict=True)
            ]
            least, most = 1e3 * min(late), 1e3 * max(late)
            print(f"distance {distance:.2f} dB, late {least:.1f} to {most:.1f} ms")
            assert distance < 4
            assert sorted(map(abs, late))[90] < 0.03
            kinds = [each["type"] for each in events(visitor)]
            assert kinds == ["start", "item_started", "mark", "item_ended"]


async def test_a_tone_is_not_taken_for_silence(tmp_path: Path) -> None:
    """What a codec's voice detector calls noise may be music, or a telephone's tones."""

    async def beep(visitor: Visitor) -> None:
        await visitor.accept()
        await visitor.send(sound(1, tone(2.0), ends=True))
        await visitor.read()

    async with (
        appliance_with_backend(tmp_path, "", beep) as (appliance, backend),
        talking(await appliance.origin()) as conversation,
    ):
        await wait_event(await backend.visitor(), "item_ended")
        await trio.sleep(0.5)
        talker = conversation.talker
        assert len(talker.loud()) in {100, 101}
        times = [each.at for each in talker.arrivals]
        assert sum(at > times[0] + 2.15 for at in times) <= 1, "and after it there is silence"


async def test_a_clear_is_silence_within_a_frame(tmp_path: Path) -> None:
    async with connected(tmp_path) as (conversation, visitor):
        await visitor.send(sound(1, hum(5_000), ends=True))
        await visitor.send(sound(2, hum(1_000)))
        await order(visitor, "mark", name="never")
        await wait_event(visitor, "item_started")
        await trio.sleep(1.0)
        cleared_at = trio.current_time()
        await order(visitor, "clear")
        await visitor.send(sound(2, hum(500)))  # on its way when the client interrupted
        cleared = await wait_event(visitor, "cleared")
        answered_at = trio.current_time()
        await trio.sleep(0.3)

        loud = conversation.talker.loud("PCMU")
        late = [1e3 * (each.at - cleared_at) for each in loud if each.at > cleared_at]
        answer_ms = 1e3 * (answered_at - cleared_at)
        print(f"sound after the clear at {late} ms; answered after {answer_ms:.1f} ms")
        assert len(late) <= 2, "one on its way, and the one that fades"
        assert all(each < 40 for each in late)
        one, two = cleared["items"]
        assert one["item"] == 1
        assert len(loud) - 1 <= one["sent_ms"] / FRAME_MS <= len(loud)
        assert 800 < one["sent_ms"] < 1_200
        assert two["sent_ms"] == 0
        assert two["received_ms"] in {None, 0}
        assert [each["cleared"] for each in events(visitor, "mark")] == [True]

        await visitor.send(sound(3, hum(200), ends=True))
        ended = await wait_event(visitor, "item_ended")
        assert (ended["item"], ended["sent_ms"]) == (3, 200)
        await trio.sleep(0.1)
        again = [each.packet for each in conversation.talker.loud("PCMU")[len(loud) :]]
        assert len(again) in {10, 11}, "the resampler lets the last one ring"
        assert again[0].marker
        assert not events(visitor, "error")


async def test_marks_come_when_the_sound_before_them_was_sent(tmp_path: Path) -> None:
    async with connected(tmp_path) as (conversation, visitor):
        await order(visitor, "mark", name="idle")
        await wait_event(visitor, "mark")
        for number in range(1, 4):
            await visitor.send(sound(1, hum(200)))
            await order(visitor, "mark", name=str(number))
        times = []
        for number in range(1, 4):
            mark = await wait_event(visitor, "mark", number + 1)
            assert mark["name"] == str(number)
            times.append(trio.current_time() - conversation.talker.loud("PCMU")[0].at)
        print("marks at", [f"{1e3 * each:.0f} ms" for each in times])
        assert times == pytest.approx([0.18, 0.38, 0.58], abs=0.06)


async def test_the_heard_position_follows_what_the_client_reports(tmp_path: Path) -> None:
    """Of what is sent, a part never arrives: the client's network loses all of half a second."""
    async with connected(tmp_path) as (conversation, visitor):
        await visitor.send(sound(1, hum(5_000)))
        await conversation.wait_heard(50)
        await trio.sleep(0.3)  # until that is reported
        conversation.call.drop = lambda data: data[0] >> 6 == 2
        await trio.sleep(0.5)
        await order(visitor, "clear")
        cleared = await wait_event(visitor, "cleared")
        (position,) = cleared["items"]
        heard_ms = FRAME_MS * len(conversation.talker.loud("PCMU"))
        print(position, "heard", heard_ms)
        assert position["sent_ms"] - heard_ms == pytest.approx(500, abs=80)
        assert heard_ms - 300 <= position["received_ms"] <= heard_ms + FRAME_MS


async def test_a_pause_can_be_taken_back(tmp_path: Path) -> None:
    async with connected(tmp_path) as (conversation, visitor):
        talker = conversation.talker
        await visitor.send(sound(1, hum(1_000), ends=True))
        await conversation.wait(lambda: len(talker.loud("PCMU")) >= 20)
        await order(visitor, "pause")
        await trio.sleep(0.1)
        before = len(talker.loud("PCMU"))
        await trio.sleep(0.5)
        assert len(talker.loud("PCMU")) == before
        assert not events(visitor, "item_ended")
        await order(visitor, "resume")
        ended = await wait_event(visitor, "item_ended")
        await trio.sleep(0.1)
        loud = talker.loud("PCMU")
        assert ended["sent_ms"] == 1_000
        assert 50 <= len(loud) <= 53, "nothing lost; one fades, and both ends ring"
        pauses = [gap for gap in gaps_ms(loud) if gap > 400]
        print("frames before the pause", before, "pause", pauses)
        assert len(pauses) == 1
        first, *_ = [b.packet for a, b in pairwise(loud) if b.at - a.at > 0.4]
        assert first.marker
        numbers = [packet.sequence_number for packet in talker.packets]
        assert all((b - a) & 0xFFFF == 1 for a, b in pairwise(numbers))


async def test_more_than_the_queue_takes_drops_the_oldest(tmp_path: Path) -> None:
    async with connected(tmp_path, media="playout_max = 2.0") as (conversation, visitor):
        await visitor.send(sound(1, bytes(BYTES_PER_MS * 3_000)))
        await visitor.send(sound(1, hum(400), ends=True))
        ended = await wait_event(visitor, "item_ended")
        dropped = sum(each["ms"] for each in events(visitor, "sound_dropped"))
        assert dropped == pytest.approx(1_400, abs=60)
        assert ended["sent_ms"] == pytest.approx(2_000, abs=60)
        await trio.sleep(0.1)
        assert 20 <= len(conversation.talker.loud("PCMU")) <= 21, "the newest was played"
