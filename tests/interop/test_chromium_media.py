"""Chromium talks to backends: what its own figures say of the sound, and its telephone keys."""

from pathlib import Path
from typing import Any

from tests.interop.test_chromium import CALL_IS_UP, hears_the_echo, start_call, statistics
from tests.support.appliance import running_appliance
from tests.support.browser import Browser, running_browser
from tests.support.fake_backend import fake_backend, record
from tests.support.native_backend import (
    SUBPROTOCOL,
    events,
    example_backend,
    wait_event,
    wait_frames,
)

SECONDS = 5
CONCEALED_MAX = 0.03
BUFFER_DELAY_MAX = 0.15
"""Of Chromium's own jitter buffer, in seconds."""

PRESS = """
(() => {
  const sender = edgeCall.connection.getSenders().find((one) => one.track?.kind === "audio");
  sender.dtmf.insertDTMF("%s", 120, 80);
  return sender.dtmf.canInsertDTMF;
})()
"""


async def listen(browser: Browser) -> dict[str, Any]:
    """Return what Chromium's figures say of ``SECONDS`` of listening; its first second is over."""
    before = await hears_the_echo(browser, 50)
    after = await hears_the_echo(browser, before["packetsReceived"] + 50 * SECONDS)
    grown = {
        name: after[name] - before[name]
        for name in (
            "packetsReceived",
            "packetsLost",
            "totalSamplesReceived",
            "concealedSamples",
            "silentConcealedSamples",
            "jitterBufferDelay",
            "jitterBufferEmittedCount",
            "totalAudioEnergy",
        )
    }
    grown["concealed"] = (grown["concealedSamples"] - grown["silentConcealedSamples"]) / grown[
        "totalSamplesReceived"
    ]
    grown["delay"] = grown["jitterBufferDelay"] / grown["jitterBufferEmittedCount"]
    return grown


def judge(name: str, figures: dict[str, Any]) -> None:
    print(name, {key: round(value, 4) for key, value in figures.items()})
    assert figures["packetsLost"] == 0
    assert figures["concealed"] < CONCEALED_MAX
    assert figures["delay"] < BUFFER_DELAY_MAX
    assert figures["totalAudioEnergy"] > 0.001


async def test_a_backend_and_the_loopback_are_heard(tmp_path: Path) -> None:
    async with example_backend() as url:
        routes = {
            "default": f'kind = "websocket"\nurl = "{url}"\nrate_hz = 24000',
            "loopback": 'kind = "loopback"',
        }
        async with (
            running_appliance(tmp_path, routes=routes) as appliance,
            running_browser(tmp_path) as browser,
        ):
            await start_call(browser, appliance)
            lamp = "document.getElementById('state-backend').dataset.state"
            await browser.wait(f"{lamp} === 'connected'")
            judge("websocket", await listen(browser))
            assert await browser.text("error") == ""
            await browser.click("connect")
            await browser.open(f"http://{await appliance.origin()}/?route=loopback")
            await browser.click("connect")
            await browser.wait(CALL_IS_UP)
            judge("loopback", await listen(browser))
            assert await browser.complaints() == []


async def test_keys_and_sound_reach_the_backend(tmp_path: Path) -> None:
    async with fake_backend(record, subprotocol=SUBPROTOCOL) as backend:
        routes = {"default": f'kind = "websocket"\nurl = "{backend.url}"\nrate_hz = 16000'}
        async with (
            running_appliance(tmp_path, routes=routes) as appliance,
            running_browser(tmp_path) as browser,
        ):
            await start_call(browser, appliance)
            visitor = await backend.visitor()
            assert await browser.evaluate(PRESS % "15#")
            await wait_event(visitor, "dtmf", 3)
            assert [each["digit"] for each in events(visitor, "dtmf")] == ["1", "5", "#"]
            frames = await wait_frames(visitor, 150)
            assert sum(frame.label == "received" for frame in frames) > 0.8 * len(frames)
            assert any(frame.flags & 1 and frame.level < 60 for frame in frames), "levels"
            times = [frame.media_time for frame in frames]
            assert times == sorted(times)
            assert await browser.evaluate(statistics("outbound-rtp"))
