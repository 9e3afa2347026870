"""How a call with a backend ends, and what a lost backend does to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from edge.audio.opus import is_dtx
from edge.control.statistics import TransceiverStatistics
from tests.support.appliance import running_appliance, wait_status
from tests.support.caller import new_credentials, offer, signaling
from tests.support.fake_backend import Script, Visitor, close_with, fake_backend, record, refuse
from tests.support.fake_backend_process import recording_process
from tests.support.native_backend import (
    appliance_with_backend,
    events,
    order,
    sound,
    wait_event,
    wait_frames,
)
from tests.support.speech import speech
from tests.support.talker import Conversation, opus_payloads, said, talking

RATE_HZ = 24_000
WORDS = said(opus_payloads(speech(1.0, RATE_HZ, 2), RATE_HZ))


@asynccontextmanager
async def a_call(
    directory: Path, lines: str, *scripts: Script, **config: Any
) -> AsyncIterator[tuple[Conversation, Any]]:
    async with (
        appliance_with_backend(directory, lines, *scripts, **config) as (appliance, backend),
        talking(await appliance.origin(), WORDS, repeat=True) as conversation,
    ):
        yield conversation, backend


def states(conversation: Conversation) -> list[tuple[str, str]]:
    return [
        (each["layer"], each["state"])
        for each in conversation.call.messages
        if each["type"] == "state"
    ]


async def test_the_backend_is_a_layer_of_its_own(tmp_path: Path) -> None:
    async with a_call(tmp_path, "") as (conversation, backend):
        state = await conversation.wait_state("backend")
        await conversation.wait_state("media")
        assert 0 < state["ms"] < 5_000
        assert sorted(states(conversation)) == [
            (layer, "connected") for layer in ("backend", "dtls", "ice", "media")
        ]
        await conversation.call.send({"type": "bye"})
        assert await conversation.wait_bye() == "hang-up"
        visitor = await backend.visitor()
        assert await wait_event(visitor, "stop") == {"type": "stop", "reason": "hang-up"}
        with trio.fail_after(5):
            await visitor.gone.wait()
        assert visitor.close_code == 1000


async def test_a_backend_hangs_up(tmp_path: Path) -> None:
    async def brief(visitor: Visitor) -> None:
        await visitor.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.read)
            await wait_frames(visitor, 10)
            await order(visitor, "stop", reason="enough")

    async with a_call(tmp_path, "", brief, close_with(1000)) as (conversation, backend):
        assert await conversation.wait_bye() == "backend-ended"
        assert ("backend", "failed") not in states(conversation)
        visitor = await backend.visitor()
        with trio.fail_after(5):
            await visitor.gone.wait()
        assert visitor.close_code == 1000
        assert not events(visitor, "stop")


@pytest.mark.parametrize(
    ("script", "reason", "visits"),
    [
        pytest.param(refuse(403), "backend-refused", 1, id="forbidden"),
        pytest.param(refuse(503), "backend-refused", 2, id="unavailable"),
        pytest.param(close_with(1000), "backend-ended", 1, id="closed"),
        pytest.param(close_with(1011), "backend-lost", 1, id="broken"),
    ],
)
async def test_a_backend_that_does_not_want_the_call(
    tmp_path: Path, script: Script, reason: str, visits: int
) -> None:
    async with a_call(tmp_path, "attempts = 2", script) as (conversation, backend):
        assert await conversation.wait_bye() == reason
        failed = ("backend", "failed") in states(conversation)
        assert failed == (reason != "backend-ended")
        assert len(backend.visitors) == visits


async def test_nobody_listens(tmp_path: Path) -> None:
    async with fake_backend(record) as backend:
        pass
    routes = {"default": f'kind = "websocket"\nurl = "{backend.url}"\nattempts = 2'}
    async with (
        running_appliance(tmp_path, routes=routes) as appliance,
        talking(await appliance.origin(), WORDS, repeat=True) as conversation,
    ):
        assert await conversation.wait_bye() == "backend-refused"
        assert ("backend", "failed") in states(conversation)
        await wait_status(
            appliance,
            lambda status: any(
                isinstance(one.statistics, TransceiverStatistics)
                and one.statistics.ended == {"backend-refused": 1}
                for one in status.workers
            ),
        )


async def test_a_killed_backend_ends_its_calls(tmp_path: Path) -> None:
    async with recording_process() as backend:
        routes = {"default": f'kind = "websocket"\nurl = "{backend.url}"'}
        async with (
            running_appliance(tmp_path, routes=routes) as appliance,
            talking(await appliance.origin(), WORDS, repeat=True) as conversation,
        ):
            await conversation.wait_state("backend")
            await conversation.wait_state("media")
            killed_at = trio.current_time()
            backend.process.kill()
            assert await conversation.wait_bye() == "backend-lost"
            assert trio.current_time() - killed_at < 2
            assert ("backend", "failed") in states(conversation)


async def test_a_lost_backend_is_replaced(tmp_path: Path) -> None:
    """What was queued is played on; sound that was said meanwhile arrives; numbers start anew."""

    async def vanish(visitor: Visitor) -> None:
        await visitor.accept()
        await visitor.send(sound(1, speech(3.0, RATE_HZ, 1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.read)
            await wait_frames(visitor, 25)
            nursery.cancel_scope.cancel()

    lines = 'on_failure = "reconnect"\nreconnect_limit = 10'
    async with a_call(tmp_path, lines, vanish, refuse(503), record) as (conversation, backend):
        visitor = await backend.visitor(2)
        start = await wait_event(visitor, "start")
        assert start["resumed"] is True
        assert start["session"] == conversation.call.session
        first, again = await backend.visitor(0), await wait_frames(visitor, 25)
        last = (await wait_frames(first, 25))[-1]
        assert again[0].media_time >= last.media_time
        await conversation.wait(lambda: states(conversation).count(("backend", "connected")) == 2)
        await visitor.send(sound(1, speech(0.4, RATE_HZ, 3), ends=True))
        ended = await wait_event(visitor, "item_ended")
        assert ended["item"] == 1
        assert ended["sent_ms"] == 400
        packets = conversation.talker.packets
        spoken = [packet for packet in packets if not is_dtx(packet.payload)]
        assert len(spoken) > 100, "the greeting was not cut off"
        assert not [each for each in conversation.call.messages if each["type"] == "bye"]


async def test_a_backend_that_stays_away_ends_the_call(tmp_path: Path) -> None:
    lines = 'on_failure = "reconnect"\nreconnect_limit = 0.5'
    async with a_call(tmp_path, lines, close_with(1011), refuse(503)) as (conversation, _):
        await conversation.wait_state("backend")
        assert await conversation.wait_bye() == "backend-lost"


async def test_an_unknown_route_is_refused(tmp_path: Path) -> None:
    async with appliance_with_backend(tmp_path) as (appliance, backend):
        async with signaling(await appliance.origin()) as websocket:
            error = await offer(websocket, new_credentials(), route="nowhere")
            assert (error["type"], error["code"]) == ("error", "unknown-route")
            answer = await offer(websocket, new_credentials(), route="default")
            assert answer["type"] == "answer", "the connection is still good"
        assert not backend.visitors, "a backend is called when the client's first check is here"


async def test_a_stopping_appliance_says_so_to_backend_and_client(tmp_path: Path) -> None:
    async with (
        appliance_with_backend(tmp_path, supervisor="drain_limit = 0.0") as (appliance, backend),
        talking(await appliance.origin(), WORDS, repeat=True) as conversation,
    ):
        visitor = await backend.visitor()
        await wait_frames(visitor, 1)
        appliance.terminate()
        assert await conversation.wait_bye() == "going-away"
        assert await wait_event(visitor, "stop") == {"type": "stop", "reason": "going-away"}
