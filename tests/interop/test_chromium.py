"""Chromium on the page of the running appliance: the whole product as a user has it.

Screenshots go to ``artifacts/``. Times are printed, never judged: bench/setup measures them.
"""

import json
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from tests.support.appliance import Appliance, running_appliance
from tests.support.browser import Browser, running_browser

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
DESKTOP = (1280, 900)
PHONE = (390, 844)
STAGES = ("signaling", "offer", "answer", "ice", "dtls", "audio")
LAYERS = ("ice", "dtls", "media")
GOODBYES = {"client-bye", "peer-closed"}
"""Why a session ends whose page hangs up: by signaling or by DTLS, whichever is first."""

CALL_IS_UP = "document.querySelector('#connect').dataset.state === 'connected'"
CALL_IS_OVER = "document.querySelector('#connect').dataset.state === 'idle'"
LAMPS = f"{json.dumps(LAYERS)}.map((layer) => document.getElementById(`state-${{layer}}`).dataset)"
CHART_TEXTS = (
    "['rtt', 'jitter', 'loss'].map((id) => document.querySelector(`#${id} strong`).innerText)"
)
WATERFALL = "[...document.querySelectorAll('#waterfall li')].map((row) => row.dataset)"
OFFER_ACTIVE = """
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (message) {
  send.call(this, message.replace("a=setup:actpass", "a=setup:active"));
};
"""
"""Makes every offer claim the active role in DTLS, which leaves us the passive one."""


def statistics(kind: str) -> str:
    """The expression for the call's figures of one kind, as getStats names it."""
    return (
        "edgeCall.connection.getStats().then("
        f"(report) => [...report.values()].find((entry) => entry.type === '{kind}'))"
    )


async def start_call(browser: Browser, appliance: Appliance) -> None:
    await browser.open(f"http://{await appliance.origin()}/")
    await browser.click("connect")
    await browser.wait(CALL_IS_UP)


async def hears_the_echo(browser: Browser, packets: int = 150) -> dict[str, Any]:
    """Wait until so many packets were received, a loud beep among them; return the figures."""
    inbound = statistics("inbound-rtp")
    await browser.wait(
        f"{inbound}.then("
        f"(one) => one?.packetsReceived >= {packets} && one.totalAudioEnergy > 0.001)"
    )
    return dict(await browser.evaluate(inbound))


async def ended(appliance: Appliance, timeout: float = 20.0) -> Counter[str]:
    """Wait until no session is left; return how many have ended, by reason."""
    with trio.fail_after(timeout):
        while sum(one.sessions for one in await appliance.transceivers()):
            await trio.sleep(0.05)
    reasons: Counter[str] = Counter()
    for one in await appliance.transceivers():
        reasons.update(one.ended)
    return reasons


async def test_a_call_through_the_page(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, running_browser(tmp_path) as browser:
        await browser.resize(*DESKTOP)
        await start_call(browser, appliance)
        assert [lamp["state"] for lamp in await browser.evaluate(LAMPS)] == ["connected"] * 3
        assert await browser.text("error") == ""

        # Our sender reports have come and our receiver reports could be matched with Chromium's
        # own sender reports, which leave up to 5 s apart.
        await browser.wait(f"{statistics('remote-inbound-rtp')}.then((one) => one?.roundTripTime)")
        await browser.wait(statistics("remote-outbound-rtp"))
        before = await hears_the_echo(browser)
        after = await hears_the_echo(browser, before["packetsReceived"] + 50)
        assert after["packetsLost"] == 0
        assert after["totalAudioEnergy"] > 0.001
        assert after["audioLevel"] >= 0

        remote_in = await browser.evaluate(statistics("remote-inbound-rtp"))
        assert 0 < remote_in["roundTripTime"] < 5
        assert remote_in["packetsLost"] == 0
        assert remote_in["fractionLost"] == 0
        remote_out = await browser.evaluate(statistics("remote-outbound-rtp"))
        assert 0 < remote_out["packetsSent"] <= after["packetsReceived"] + 100
        assert abs(remote_out["remoteTimestamp"] / 1000 - time.time()) < 60
        transport = await browser.evaluate(statistics("transport"))
        assert transport["dtlsRole"] == "server"  # we are the client: one round trip less
        assert transport["srtpCipher"] in {
            "SRTP_AEAD_AES_128_GCM",
            "SRTP_AES128_CM_HMAC_SHA1_80",
        }

        rows = await browser.evaluate(WATERFALL)
        reached = {row["stage"]: float(row["ms"]) for row in rows}
        assert tuple(reached) == STAGES
        # A busy browser tells of its connection later than of the track.
        assert reached["answer"] <= min(reached["ice"], reached["dtls"], reached["audio"])
        figures = await browser.evaluate("edgeFigures")
        on_server = figures["serverTimings"]
        assert on_server.keys() == set(LAYERS)
        assert on_server["ice"] <= on_server["dtls"] <= on_server["media"]
        print("setup", figures["timings"], "on the server", on_server)
        assert all(await browser.evaluate(CHART_TEXTS))

        await browser.screenshot(ARTIFACTS / "chromium-desktop.png")
        await browser.resize(*PHONE)
        await browser.screenshot(ARTIFACTS / "chromium-phone.png")

        await browser.click("connect")
        await browser.wait(CALL_IS_OVER)
        reasons = await ended(appliance)
        assert reasons.total() == 1
        assert reasons.keys() <= GOODBYES
        assert await browser.text("error") == ""
        assert await browser.complaints() == []


async def test_the_browser_as_dtls_client(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, running_browser(tmp_path) as browser:
        await browser.command("Page.addScriptToEvaluateOnNewDocument", source=OFFER_ACTIVE)
        await start_call(browser, appliance)
        await hears_the_echo(browser)
        transport = await browser.evaluate(statistics("transport"))
        assert transport["dtlsRole"] == "client"
        print("SRTP profile:", transport["srtpCipher"])


async def test_a_second_call_on_the_same_page(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, running_browser(tmp_path) as browser:
        await start_call(browser, appliance)
        await hears_the_echo(browser, 50)
        await browser.click("connect")
        await browser.wait(CALL_IS_OVER)
        await browser.click("connect")
        await browser.wait(CALL_IS_UP)
        await hears_the_echo(browser, 50)


async def test_a_route_by_the_address_or_the_field(tmp_path: Path) -> None:
    routes = {"default": 'kind = "echo"', "other.one": 'kind = "echo"'}
    async with (
        running_appliance(tmp_path, routes=routes) as appliance,
        running_browser(tmp_path) as browser,
    ):
        origin = await appliance.origin()
        await browser.open(f"http://{origin}/?route=nowhere")
        await browser.click("connect")
        await browser.wait(f"window.edgeCall && {CALL_IS_OVER}")
        assert f"{origin} has no route of this name" in await browser.text("error")
        field = "document.getElementById('route')"
        await browser.evaluate(f"{field}.value = 'not a name'")
        await browser.click("connect")
        assert await browser.evaluate(CALL_IS_OVER)
        await browser.evaluate(f"{field}.value = 'other.one'")
        await browser.click("connect")
        await browser.wait(CALL_IS_UP)
        await hears_the_echo(browser, 50)


async def test_a_closed_tab_ends_the_session(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, running_browser(tmp_path) as browser:
        await start_call(browser, appliance)
        await browser.leave_tab()
        reasons = await ended(appliance)
        assert reasons.total() == 1
        assert reasons.keys() <= {*GOODBYES, "client-gone"}  # a closing tab may get none out


async def test_a_crashed_tab_ends_the_session_at_once(tmp_path: Path) -> None:
    """Chromium closes a dead page's WebSocket like that of one that is left."""
    async with (
        running_appliance(tmp_path, signal="grace = 60.0") as appliance,
        running_browser(tmp_path) as browser,
    ):
        await start_call(browser, appliance)
        await browser.crash_tab()
        assert await ended(appliance) == {"client-bye": 1}


async def test_blocked_udp_is_said_in_plain_words(tmp_path: Path) -> None:
    async with (
        running_appliance(
            tmp_path,
            relay='public_addresses = ["127.0.0.1:9"]',  # nobody is there
            transceiver="handshake_timeout = 2.0",
        ) as appliance,
        running_browser(tmp_path) as browser,
    ):
        origin = await appliance.origin()
        await browser.open(f"http://{origin}/")
        await browser.click("connect")
        await browser.wait(f"window.edgeCall && {CALL_IS_OVER}")
        assert f"UDP seems to be blocked between you and {origin}" in await browser.text("error")
        assert [lamp["state"] for lamp in await browser.evaluate(LAMPS)] == [
            "failed",
            "idle",
            "idle",
        ]
        assert await ended(appliance) == {"ice-timeout": 1}


async def test_a_stopping_server_says_goodbye(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, supervisor="drain_limit = 0.0") as appliance,
        running_browser(tmp_path) as browser,
    ):
        await start_call(browser, appliance)
        appliance.terminate()
        await browser.wait(CALL_IS_OVER)
        assert "shutting down" in await browser.text("error")


async def test_two_browsers_at_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        appliance = await stack.enter_async_context(running_appliance(tmp_path))
        browsers = [await stack.enter_async_context(running_browser(tmp_path)) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for browser in browsers:
                nursery.start_soon(start_call, browser, appliance)
        with trio.fail_after(10):
            while sum(one.sessions for one in await appliance.transceivers()) != 2:
                await trio.sleep(0.05)
        heard = [await hears_the_echo(browser) for browser in browsers]
        assert [figures["packetsLost"] for figures in heard] == [0, 0]
        assert len({figures["ssrc"] for figures in heard}) == 2
