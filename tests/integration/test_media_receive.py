"""What a backend is told of what its client says: labels, digits, levels, times."""

from collections import Counter
from pathlib import Path

from tests.support.fake_backend import Visitor
from tests.support.native_backend import (
    Heard,
    appliance_with_backend,
    events,
    order,
    wait_event,
    wait_frames,
)
from tests.support.speech import aligned, log_spectral_distance, speech
from tests.support.talker import Said, Slots, opus_payloads, said, talking

RATE_HZ = 24_000
FRAME = 960
"""Ticks."""
RED, EVENT = 63, 110
FORMATS = {111: "opus/48000/2", RED: "red/48000/2 111/111", EVENT: "telephone-event/48000"}
WORDS = speech(3.0, RATE_HZ, 9)


def labels(frames: list[Heard]) -> list[str]:
    return [frame.label for frame in frames]


def sound_of(frames: list[Heard]) -> bytes:
    return b"".join(frame.audio for frame in frames)


def check_times(frames: list[Heard]) -> None:
    """Frames follow each other without a gap, and are as long as they say."""
    expected = 0
    for frame in frames:
        assert frame.media_time == expected
        assert len(frame.audio) == frame.duration * RATE_HZ // 1_000_000 * 2
        expected += frame.duration


async def hear(directory: Path, slots: Slots, count: int) -> list[Heard]:
    """Return what a backend is told of a call."""
    async with (
        appliance_with_backend(directory) as (appliance, backend),
        talking(await appliance.origin(), slots, formats=FORMATS),
    ):
        return (await wait_frames(await backend.visitor(), count))[:count]


async def test_lost_packets_are_made_up_and_said_to_be(tmp_path: Path) -> None:
    lost = frozenset({20, 40, 41, 60, 80, 100, 120})
    slots = said(opus_payloads(WORDS, RATE_HZ), lost=lost)
    frames = await hear(tmp_path, slots, len(slots))
    check_times(frames)
    assert {n for n, label in enumerate(labels(frames)) if label == "concealed"} == lost
    assert Counter(labels(frames)) == {"received": len(slots) - len(lost), "concealed": len(lost)}
    heard = sound_of(frames)
    distance = log_spectral_distance(WORDS, aligned(WORDS, heard, RATE_HZ), RATE_HZ)
    print(f"{len(lost)} of {len(slots)} lost: {distance:.2f} dB")
    assert distance < 5


async def test_copies_in_later_packets_fill_in(tmp_path: Path) -> None:
    """Every tenth packet is lost, and Opus has a copy of it in the next one."""
    lost = frozenset(range(15, 140, 10))
    slots = said(opus_payloads(WORDS, RATE_HZ, fec=True), lost=lost)
    frames = await hear(tmp_path, slots, len(slots))
    check_times(frames)
    counts = Counter(labels(frames))
    print(counts)
    made_up = {n for n, label in enumerate(labels(frames)) if label in {"fec", "concealed"}}
    assert made_up == lost
    assert counts["fec"] >= len(lost) - 4, "pauses have no copies"


async def test_redundancy_fills_in(tmp_path: Path) -> None:
    """RFC 2198 as Chromium sends it: each packet carries the one before; every fifth is lost."""
    payloads = opus_payloads(WORDS, RATE_HZ)
    slots: list[list[Said]] = [[Said(bytes((111,)) + payloads[0], RED, marker=True)]]
    for n in range(1, len(payloads)):
        before = payloads[n - 1]
        header = (1 << 31 | 111 << 24 | FRAME << 10 | len(before)).to_bytes(4)
        payload = header + bytes((111,)) + before + payloads[n]
        slots.append([Said(payload, RED, lost=n % 5 == 4 and n < len(payloads) - 1)])
    frames = await hear(tmp_path, slots, len(slots))
    check_times(frames)
    counts = Counter(labels(frames))
    assert counts["fec"] == sum(slot[0].lost for slot in slots)
    assert counts["concealed"] == 0
    distance = log_spectral_distance(WORDS, aligned(WORDS, sound_of(frames), RATE_HZ), RATE_HZ)
    print(f"{counts}: {distance:.2f} dB")
    assert distance < 3


async def test_silence_of_a_client_with_dtx_is_no_loss(tmp_path: Path) -> None:
    words = WORDS[: RATE_HZ * 2] + bytes(RATE_HZ * 2 * 2) + WORDS[: RATE_HZ * 2]
    payloads = opus_payloads(words, RATE_HZ, dtx=True)
    silent = [n for n, payload in enumerate(payloads) if len(payload) <= 2]
    assert len(silent) > 50
    # As browsers do it: of a silence, only what says that there is one is sent.
    slots: list[list[Said]] = [
        [] if n in silent and n - 1 in silent and n % 20 else [Said(payload)]
        for n, payload in enumerate(payloads)
    ]
    frames = await hear(tmp_path, slots, len(slots))
    check_times(frames)
    counts = Counter(labels(frames))
    print(counts, "silent", len(silent))
    assert counts["dtx"] >= len(silent) - 5
    assert counts["concealed"] <= 5
    assert counts["received"] >= len(slots) - len(silent) - 5


async def test_keys_and_levels(tmp_path: Path) -> None:
    payloads = opus_payloads(WORDS[: RATE_HZ * 2], RATE_HZ)
    slots: list[list[Said]] = [
        [Said(payload, extension=(0xBEDE, bytes((0x10, 0x80 | n, 0, 0))))]
        for n, payload in enumerate(payloads)
    ]
    for at, key in ((10, 5), (30, 11)):  # "5" and "#", a tone of 100 ms, its end three times
        for step in (*range(1, 6), 5, 5):
            end = 0x80 if step == 5 else 0
            payload = bytes((key, end | 10)) + (step * FRAME).to_bytes(2)
            slots[at + step].append(Said(payload, EVENT, marker=step == 1, timestamp=at * FRAME))
    async with (
        appliance_with_backend(tmp_path) as (appliance, backend),
        talking(await appliance.origin(), slots, formats=FORMATS),
    ):
        visitor = await backend.visitor()
        frames = await wait_frames(visitor, len(slots))
        for number, (digit, at) in enumerate((("5", 200), ("#", 600)), 1):
            event = await wait_event(visitor, "dtmf", number)
            assert event == {"type": "dtmf", "digit": digit, "media_ms": at}
        assert len(events(visitor, "dtmf")) == 2
    spoken = frames[: len(slots)]
    check_times(spoken)
    print(Counter(labels(spoken)))
    with_level = [(n, frame) for n, frame in enumerate(spoken) if frame.label == "received"]
    assert len(with_level) >= len(slots) - 10
    assert all(frame.flags == 0x03 and frame.level == n for n, frame in with_level)


async def test_a_backend_that_wants_no_sound_gets_none(tmp_path: Path) -> None:
    async def deaf(visitor: Visitor) -> None:
        await visitor.accept()
        await order(visitor, "media", audio=False)
        await visitor.read()

    slots = said(opus_payloads(WORDS, RATE_HZ))
    async with (
        appliance_with_backend(tmp_path, "", deaf) as (appliance, backend),
        talking(await appliance.origin(), slots, formats=FORMATS) as conversation,
    ):
        visitor = await backend.visitor()
        await conversation.wait(lambda: conversation.talker.record.sent >= 50)
        before = sum(isinstance(each, bytes) for each in visitor.messages)
        assert before <= 5
        await order(visitor, "media", audio=True)
        frames = await wait_frames(visitor, before + 10)
        assert frames[before].media_time >= 900_000, "media time goes on"
