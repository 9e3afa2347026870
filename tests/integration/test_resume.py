"""Calls that outlive their signaling and their ICE credentials, on the real appliance."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio_websocket import WebSocketConnection

from tests.support.appliance import Appliance, running_appliance
from tests.support.caller import LiveCall, calling, signaling
from tests.support.native_backend import appliance_with_backend, heard, wait_frames
from tests.support.speech import speech
from tests.support.talker import Talker, opus_payloads, said

WORDS = said(opus_payloads(speech(2.0, 16_000, 5), 16_000))


async def receive(websocket: WebSocketConnection) -> dict[str, Any]:
    with trio.fail_after(10):
        message = msgspec.json.decode(await websocket.get_message())
    assert isinstance(message, dict)
    return message


async def send(websocket: WebSocketConnection, **message: object) -> None:
    await websocket.send_message(msgspec.json.encode(message).decode())


@asynccontextmanager
async def resuming(origin: str, call: LiveCall) -> AsyncIterator[WebSocketConnection]:
    """Resume a call on a WebSocket of its own, and let the call use that."""
    async with signaling(origin) as websocket:
        await send(websocket, type="resume", session=call.session, secret=call.secret)
        assert await receive(websocket) == {"type": "resumed", "session": call.session}
        call.websocket = websocket
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run_signaling)
            yield websocket
            nursery.cancel_scope.cancel()


async def check_that_nothing_is_lost(call: LiveCall) -> None:
    """Assert that every frame came back, in order, and no gap in between."""
    record = call.peer.record
    await call.wait_echo(record.sent)
    steps = {(b - a) & 0xFFFF for a, b in itertools.pairwise(record.sequence_numbers)}
    assert steps == {1}
    assert record.longest_gap < 1.0, (
        "a worker or this machine may pause, but nothing waits for a check"
    )


async def wait_more(call: LiveCall, frames: int) -> None:
    await call.wait_echo(call.peer.record.echoed + frames)


async def sessions(appliance: Appliance) -> int:
    return sum(each.sessions for each in await appliance.transceivers())


async def test_ice_restarts_in_mid_call_without_a_lost_frame(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(50)
        for _ in range(3):
            answer = await call.restart_ice()
            assert answer.keys() == {"type", "sdp", "session"}
            await wait_more(call, 75)
        await check_that_nothing_is_lost(call)
        assert len(call.peer.record.ssrcs) == 1
        await call.send({"type": "bye"})
        assert (await call.wait_message(type="bye"))["reason"] == "hang-up"
        line = await appliance.wait_line(f"session {call.session} ended")
        assert "verdict=ok" in line
        assert "restarts=3" in line
        assert "lost=0" in line


async def test_a_restart_from_another_address(tmp_path: Path) -> None:
    """A client that has changed its network, and restarts ICE there."""
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(50)
        call.peer.record.longest_gap = 0.0
        await call.rebind()
        await call.restart_ice()
        await wait_more(call, 50)
        assert call.peer.record.longest_gap < 1.0, "not a check interval"


async def test_signaling_breaks_and_the_backend_hears_nothing_of_it(tmp_path: Path) -> None:
    async with appliance_with_backend(
        tmp_path, 'encoding = "opus"', transceivers=3, signal="grace = 10.0"
    ) as (appliance, backend):
        origin = await appliance.origin()
        async with calling(origin, kind=Talker, slots=WORDS, repeat=True) as call:
            await call.wait_message(type="state", layer="media")
            visitor = backend.visitors[0]
            await wait_frames(visitor, 50)
            await call.cut_signaling()
            for _ in range(5):  # each time at whichever worker the kernel chooses
                known = len(call.messages)
                async with resuming(origin, call):
                    await call.wait(lambda n=known: len(call.messages) >= n + 4)  # type: ignore[misc]
                    layers = {each["layer"]: each for each in call.messages[known:]}
                    assert layers.keys() == {"ice", "dtls", "media", "backend"}
                    assert {each["state"] for each in layers.values()} == {"connected"}
                    await call.restart_ice()
                    await wait_frames(visitor, len(heard(visitor)) + 50)
                # Leaving the block has broken this connection, too.
            async with resuming(origin, call) as websocket:
                await send(websocket, type="bye")
                bye = await call.wait_message(type="bye")
                assert bye["reason"] == "hang-up"
                said_until_then = call.peer.record.sent
            with trio.fail_after(5):
                await visitor.gone.wait()
            assert len(backend.visitors) == 1
            assert "lost=0 " in await appliance.wait_line(f"session {call.session} ended")
            frames = heard(visitor)
            assert len(frames) >= said_until_then - 5, "all but those under way"
            steps = {b.media_time - a.media_time for a, b in itertools.pairwise(frames)}
            assert steps == {20_000}, "20 ms after 20 ms, whatever happened to signaling"


async def test_without_resumption_the_session_ends_after_the_grace(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, signal="grace = 1.5") as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(50)
        await call.cut_signaling()
        cut_at = trio.current_time()
        line = await appliance.wait_line(f"session {call.session} ended")
        assert 1.2 < trio.current_time() - cut_at < 4
        assert "verdict=signaling-lost reason=client-gone" in line
        async with signaling(await appliance.origin()) as late:
            await send(late, type="resume", session=call.session, secret=call.secret)
            assert (await receive(late))["code"] == "unknown-session"


async def test_a_second_connection_takes_over_from_the_first(tmp_path: Path) -> None:
    async with running_appliance(tmp_path, transceivers=3) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo(10)
            first = call.websocket
            async with resuming(origin, call):
                error = await call.wait_message(type="error")
                assert error["code"] == "replaced"
                with trio.fail_after(5):
                    while first.closed is None:
                        await trio.sleep(0.01)
                assert first.closed.code == 1000
                await call.restart_ice()
                await wait_more(call, 50)
            await check_that_nothing_is_lost(call)


@pytest.mark.parametrize("changes", [{"secret": "guess"}, {"session": "0.0.guess"}])
async def test_nobody_resumes_without_the_secret(tmp_path: Path, changes: dict[str, str]) -> None:
    async with running_appliance(tmp_path, transceivers=3) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo(1)
            known = {"session": call.session, "secret": call.secret} | changes
            for _ in range(5):
                async with signaling(origin) as thief:
                    await send(thief, type="resume", **known)
                    assert (await receive(thief))["code"] == "unknown-session"
            await wait_more(call, 10)
            assert not any(each["type"] == "error" for each in call.messages)
        assert not any(call.secret in line for line in appliance.lines)


async def test_a_page_that_is_left_ends_its_session_at_once(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, signal="grace = 20.0") as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(1)
        await call.websocket.aclose(1001)
        await appliance.wait_line(f"session {call.session} ended: verdict=ok reason=client-bye")


async def test_a_session_that_never_had_a_check_and_one_that_came_too_late(
    tmp_path: Path,
) -> None:
    blocked = True
    async with (
        running_appliance(tmp_path, transceiver="handshake_timeout = 1.0") as appliance,
        calling(await appliance.origin(), drop=lambda _: blocked) as call,
    ):
        bye = await call.wait_message(type="bye")
        assert (bye["reason"], bye["verdict"]) == ("setup-timeout", "no-check")
        assert bye["message"].startswith("no connectivity check arrived")
        await appliance.wait_line(f"session {call.session} ended: verdict=no-check")
        blocked = False
        await appliance.wait_line(f"session {call.session}: its first check came after")
