"""Calls with servers that were written for others: Twilio's media streams, the Realtime API."""

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import trio

from edge.audio.g711 import decode_ulaw
from tests.support.appliance import running_appliance
from tests.support.fake_backend import Visitor, fake_backend
from tests.support.realtime_conversation import FakeSettings
from tests.support.realtime_server import open_realtime_server
from tests.support.speech import aligned, log_spectral_distance, speech
from tests.support.talker import Said, Slots, opus_payloads, said, talking

EVENT = 126
FORMATS = {111: "opus/48000/2", EVENT: "telephone-event/48000"}
KEY = "sk-not-for-clients"


def media(visitor: Visitor) -> list[dict[str, Any]]:
    found = [json.loads(each) for each in visitor.messages]
    return [each for each in found if each["event"] == "media"]


async def twilio_echo(visitor: Visitor) -> None:
    """What a backend of theirs does: echo the payloads, and mark the end of a word."""
    await visitor.accept()
    stream = None
    done = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visitor.read)
        while not visitor.gone.is_set():
            arrived = visitor.arrived
            while done < len(visitor.messages):
                message = json.loads(visitor.messages[done])
                done += 1
                stream = message.get("streamSid", stream)
                if message["event"] == "media":
                    echo = {"payload": message["media"]["payload"]}
                    await visitor.send(
                        json.dumps({"event": "media", "streamSid": stream, "media": echo})
                    )
                elif message["event"] == "dtmf":
                    mark = {"event": "mark", "streamSid": stream, "mark": {"name": "word"}}
                    await visitor.send(json.dumps(mark))
            with trio.move_on_after(0.5):
                await arrived.wait()


async def test_a_twilio_backend(tmp_path: Path) -> None:
    words = speech(2.0, 8_000, 12)
    slots: Slots = [
        [*packets, Said(bytes((7, 0x8A, 12, 0)), EVENT, n == 50, 50 * 960)]
        if n in range(50, 53)
        else packets
        for n, packets in enumerate(said(opus_payloads(words, 8_000)))
    ]
    async with fake_backend(twilio_echo) as backend:
        routes = {"default": f'kind = "twilio"\nurl = "{backend.url}"'}
        async with running_appliance(tmp_path, routes=routes) as appliance:
            async with talking(
                await appliance.origin(), slots, formats=FORMATS, metadata={"user": 7, "vip": "yes"}
            ) as conversation:
                await conversation.wait_said()
                await trio.sleep(0.3)
                answer = conversation.talker.sound("opus", 8_000)
                session = conversation.call.session
            visitor = await backend.visitor()
            with trio.fail_after(5):
                await visitor.gone.wait()
    connected, start, *rest = [json.loads(each) for each in visitor.messages]
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    parameters = {"user": "7", "vip": "yes", "session": session, "route": "default"}
    assert start["start"]["customParameters"] == parameters
    assert start["start"]["mediaFormat"] == {
        "encoding": "audio/x-mulaw",
        "sampleRate": 8000,
        "channels": 1,
    }
    numbers = [int(each["sequenceNumber"]) for each in (start, *rest)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {each["streamSid"] for each in rest} == {start["streamSid"]}
    assert [each["dtmf"]["digit"] for each in rest if each["event"] == "dtmf"] == ["7"]
    assert [each["mark"]["name"] for each in rest if each["event"] == "mark"] == ["word"]
    assert rest[-1]["event"] == "stop"
    chunks = [each["media"] for each in media(visitor)]
    assert [int(each["chunk"]) for each in chunks] == list(range(1, len(chunks) + 1))
    assert [int(each["timestamp"]) for each in chunks] == [20 * n for n in range(len(chunks))]
    heard = b"".join(decode_ulaw(b64decode(each["payload"])) for each in chunks)
    for name, sound in (("to the backend", heard), ("and back", answer)):
        distance = log_spectral_distance(words, aligned(words, sound, 8_000), 8_000)
        print(f"{name}: {distance:.2f} dB")
        assert distance < 4


async def test_a_twilio_backend_that_clears(tmp_path: Path) -> None:
    payload = b64encode(bytes((0x10, 0x90)) * 20_000).decode()  # five loud seconds

    async def speak(visitor: Visitor) -> None:
        await visitor.accept()
        await visitor.send(json.dumps({"event": "media", "media": {"payload": payload}}))
        await visitor.send(json.dumps({"event": "mark", "mark": {"name": "end"}}))
        await visitor.read()

    async with fake_backend(speak) as backend:
        routes = {"default": f'kind = "twilio"\nurl = "{backend.url}"'}
        async with (
            running_appliance(tmp_path, routes=routes, media='gaps = "silence"') as appliance,
            talking(await appliance.origin()) as conversation,
        ):
            visitor = await backend.visitor()
            await conversation.wait(lambda: len(conversation.talker.loud()) >= 20)
            cleared_at = trio.current_time()
            await visitor.send(json.dumps({"event": "clear"}))
            await trio.sleep(0.4)
            late = [each.at for each in conversation.talker.loud() if each.at > cleared_at]
            print("sound after the clear at", [f"{1e3 * (at - cleared_at):.1f} ms" for at in late])
            assert len(late) <= 3, "one on its way, one that fades, one that the decoder lets ring"
            assert json.loads(visitor.messages[-1])["mark"] == {"name": "end"}


async def test_a_realtime_server(tmp_path: Path) -> None:
    """The client speaks, is answered, interrupts, and the server learns what was heard."""
    words, pause = speech(1.2, 24_000, 4), bytes(24_000 * 2)
    once = opus_payloads(words + pause + pause, 24_000)
    interrupting = opus_payloads(words + pause, 24_000)
    slots = said([*once, *interrupting])
    settings = FakeSettings(key=KEY, tone=8.0)
    async with open_realtime_server(settings) as server:
        routes = {
            "default": f'kind = "realtime"\nurl = "{server.url}"\nmodel = "gpt-realtime"\n'
            f'key = "{KEY}"\ninstructions = "Be short."'
        }
        async with (
            running_appliance(tmp_path, routes=routes) as appliance,
            talking(await appliance.origin(), slots) as conversation,
        ):
            with trio.fail_after(10):
                server_side = await server.wait_conversation()
            await conversation.wait_state("backend")
            talker = conversation.talker
            await conversation.wait(lambda: len(talker.loud()) >= 20)
            await conversation.wait(
                lambda: any(item.truncated_ms is not None for item in server_side.items.values())
            )
            await trio.sleep(0.3)
            truncated = next(
                item for item in server_side.items.values() if item.truncated_ms is not None
            )
            last = talker.loud()[-1].at
            sent_ms = 20 * len(talker.loud())
            print(f"truncated at {truncated.truncated_ms} ms, client was sent {sent_ms} ms")
            assert truncated.truncated_ms is not None
            # What the client's latest report confirms, and those come every 250 ms.
            assert -40 <= sent_ms - truncated.truncated_ms <= 320
            assert trio.current_time() - last > 0.2, "the answer stopped"
            assert KEY not in json.dumps(conversation.call.messages)
        assert not any(KEY in line for line in appliance.lines)


async def test_a_realtime_server_that_refuses_the_key(tmp_path: Path) -> None:
    async with open_realtime_server(FakeSettings(key="another")) as server:
        routes = {"default": f'kind = "realtime"\nurl = "{server.url}"\nmodel = "m"\nkey = "{KEY}"'}
        async with (
            running_appliance(tmp_path, routes=routes) as appliance,
            talking(await appliance.origin()) as conversation,
        ):
            assert await conversation.wait_bye() == "backend-refused"
        assert not any(KEY in line for line in appliance.lines)
