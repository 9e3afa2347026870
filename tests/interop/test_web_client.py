"""The client module for browsers, in Chromium: calls that survive what happens to networks.

Screenshots go to ``artifacts/``.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from edge.operate.client import Connection
from edge.operate.protocol import OrderDrain, OrderUndrain
from edge.signal.page import load_page
from edge.signal.server import serve_signaling
from edge.signal.settings import SignalSettings
from tests.support.appliance import Appliance, running_appliance
from tests.support.browser import Browser, running_browser
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.signal_server import SETTINGS, FakeHost
from tests.unit.test_access_policy import make_policy

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "artifacts"
DESKTOP = (1280, 900)
PHONE = (390, 844)

HEARTBEAT = SignalSettings().heartbeat_interval
PHASE = "document.querySelector('#connect').dataset.state"
INBOUND = (
    "edgeCall.connection.getStats().then((report) => [...report.values()]"
    ".find((entry) => entry.type === 'inbound-rtp'))"
)
SENT_BUT_LOST = (
    "edgeCall.connection.getStats().then((report) => [...report.values()]"
    ".find((entry) => entry.type === 'remote-inbound-rtp')?.packetsLost ?? 0)"
)
DTLS = "edgeCall.connection.getTransceivers()[0].sender.transport"
UFRAGS = (
    "[edgeCall.connection.localDescription, edgeCall.connection.remoteDescription]"
    ".map(({ sdp }) => sdp.match(/a=ice-ufrag:(\\S+)/)[1])"
)
RECORD = """
window.happened = [];
const dispatch = EventTarget.prototype.dispatchEvent;
EventTarget.prototype.dispatchEvent = function (event) {
  if (this.constructor.name === "EdgeCall" && event.type !== "stats") {
    happened.push([event.type, event.detail.layer ?? event.detail.reason ?? null]);
  }
  return dispatch.call(this, event);
};
"""
"""Keeps what calls have told, but for their statistics."""


async def happened(browser: Browser) -> list[list[str | None]]:
    told = await browser.evaluate("happened")
    return [each for each in told if each[0] not in {"state", "stage"}]


async def wait_happened(browser: Browser, *event: str) -> None:
    await browser.wait(f"happened.some((one) => String(one) === {json.dumps(','.join(event))})")


async def hear(browser: Browser, packets: int) -> dict[str, Any]:
    """Wait for so many more packets; return the figures."""
    before = await browser.evaluate(f"{INBOUND}.then((one) => one?.packetsReceived ?? 0)")
    await browser.wait(f"{INBOUND}.then((one) => one?.packetsReceived >= {before + packets})")
    return dict(await browser.evaluate(INBOUND))


def set_ice_state(state: str) -> str:
    """The expression that makes the call's connection claim a state of ICE."""
    return (
        "void (Object.defineProperty(edgeCall.connection, 'iceConnectionState',"
        f" {{ value: '{state}', configurable: true }}),"
        " edgeCall.connection.dispatchEvent(new Event('iceconnectionstatechange')))"
    )


@asynccontextmanager
async def calling(
    directory: Path, **config: Any
) -> AsyncIterator[tuple[Browser, CuttingProxy, Appliance]]:
    """A call through the page, whose signaling can be cut."""
    async with (
        running_appliance(directory, **config) as appliance,
        cutting_proxy(await appliance.origin()) as proxy,
        running_browser(directory) as browser,
    ):
        await browser.command("Page.addScriptToEvaluateOnNewDocument", source=RECORD)
        await browser.open(f"http://{proxy.origin}/")
        await browser.click("connect")
        await browser.wait(f"{PHASE} === 'connected'")
        yield browser, proxy, appliance


async def test_a_cut_websocket_is_resumed_and_no_sound_is_lost(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, proxy, appliance):
        await hear(browser, 50)
        session = await browser.evaluate("edgeCall.session")
        for _ in range(2):
            proxy.cut()
            await browser.wait(f"{PHASE} === 'reconnecting'")
            await browser.wait(f"{PHASE} === 'connected'")
        figures = await hear(browser, 50)
        assert figures["packetsLost"] == 0
        assert await browser.evaluate("edgeCall.session") == session
        assert (await happened(browser))[-4:] == 2 * [
            ["reconnecting", "signaling"],
            ["resumed", "signaling"],
        ]

        # The resumed one is as good as the first.
        await browser.evaluate("edgeCall.restartIce().then(() => true)")
        assert (await hear(browser, 50))["packetsLost"] == 0
        await browser.click("connect")
        await browser.wait(f"{PHASE} === 'idle'")
        line = await appliance.wait_line(f"session {session} ended")
        assert "verdict=ok" in line
        assert "lost=0" in line


async def test_ice_restarts_without_lost_sound(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, _, appliance):
        await hear(browser, 50)
        before = await browser.evaluate(UFRAGS)
        await browser.evaluate(f"void ({DTLS}.onstatechange = () => {{ window.shaken = true; }})")
        for _ in range(2):
            await browser.evaluate("edgeCall.restartIce().then(() => true)")
            await hear(browser, 100)
        after = await browser.evaluate(UFRAGS)
        assert set(before).isdisjoint(after)
        assert (await hear(browser, 50))["packetsLost"] == 0
        assert await browser.evaluate(SENT_BUT_LOST) == 0
        assert await browser.evaluate(f"{DTLS}.state") == "connected"
        assert not await browser.evaluate("window.shaken")
        session = await browser.evaluate("edgeCall.session")
        await browser.click("connect")
        line = await appliance.wait_line(f"session {session} ended")
        assert "restarts=2" in line
        assert "lost=0" in line


async def test_another_network_restarts_ice_by_itself(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, _, _appliance):
        await hear(browser, 50)
        before = await browser.evaluate(UFRAGS)
        await browser.evaluate("dispatchEvent(new Event('online'))")
        await browser.wait(f"!{UFRAGS}.includes({json.dumps(before[1])})")
        assert (await hear(browser, 50))["packetsLost"] == 0
        told = await happened(browser)
        assert [each for each in told if each[0] == "reconnecting"] == []


async def test_a_lost_path_is_looked_for_until_there_is_one(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, _, _appliance):
        await hear(browser, 50)
        before = await browser.evaluate(UFRAGS)
        await browser.evaluate(set_ice_state("disconnected"))
        await wait_happened(browser, "reconnecting", "ice")
        assert await browser.evaluate(PHASE) == "reconnecting"
        await browser.wait(f"!{UFRAGS}.includes({json.dumps(before[1])})")
        first = await browser.evaluate(UFRAGS)
        await browser.wait(f"!{UFRAGS}.includes({json.dumps(first[1])})")  # and once more
        await browser.evaluate(set_ice_state("connected"))
        await wait_happened(browser, "resumed", "ice")
        assert await browser.evaluate(PHASE) == "connected"
        assert (await hear(browser, 50))["packetsLost"] == 0


async def test_a_path_that_stays_lost_ends_the_call(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, _, _appliance):
        await browser.click("connect")
        await browser.wait(f"{PHASE} === 'idle'")
        await browser.evaluate(
            "import('/edge-client.js').then(async ({ EdgeCall }) => {"
            " const url = location.href.replace('http', 'ws') + 'v1/session';"
            " window.edgeCall = new EdgeCall({ url, recoveryTimeoutMs: 500 });"
            " edgeCall.addEventListener('ended', ({ detail }) => { window.ending = detail; });"
            " await edgeCall.connect();"
            " })"
        )
        await browser.evaluate(set_ice_state("failed"))
        ending = await browser.wait("window.ending")
        assert (ending["reason"], ending["failed"]) == ("ice-lost", True)
        assert ending["advice"] == "Check the network, then connect again."


async def test_a_websocket_that_is_dead_but_not_closed_is_replaced(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, proxy, _appliance):
        await hear(browser, 50)
        before = await browser.evaluate(UFRAGS)
        proxy.stalled = True
        await browser.evaluate("void edgeCall.restartIce()")
        await trio.sleep(1)  # the offer is on its way to nowhere
        proxy.stalled = False
        await wait_happened(browser, "resumed", "signaling")
        await browser.wait(f"!{UFRAGS}.includes({json.dumps(before[1])})")
        assert (await hear(browser, 50))["packetsLost"] == 0


async def test_a_websocket_that_falls_silent_is_replaced(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, proxy, _appliance):
        await trio.sleep(1.6 * HEARTBEAT)
        assert await happened(browser) == [["microphone", None], ["media", None]]
        proxy.stalled = True
        # The server notices, and closes, 24 s later.
        await browser.wait(f"{PHASE} === 'reconnecting'", timeout=1.5 * HEARTBEAT + 4)
        proxy.stalled = False
        await wait_happened(browser, "resumed", "signaling")
        await browser.evaluate("edgeCall.restartIce().then(() => true)")
        assert (await hear(browser, 50))["packetsLost"] == 0


async def test_a_connection_that_the_browser_gives_up_is_looked_for_all_the_same(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path) as (browser, _, _appliance):
        await hear(browser, 50)
        await browser.evaluate(set_ice_state("disconnected"))
        await wait_happened(browser, "reconnecting", "ice")
        await browser.evaluate(
            "void (Object.defineProperty(edgeCall.connection, 'connectionState',"
            " { value: 'failed', configurable: true }),"
            " edgeCall.connection.dispatchEvent(new Event('connectionstatechange')))"
        )
        await browser.evaluate(set_ice_state("connected"))
        await wait_happened(browser, "resumed", "ice")
        assert (await hear(browser, 50))["packetsLost"] == 0


async def test_a_server_that_cannot_be_reached_again_ends_the_call(tmp_path: Path) -> None:
    async with calling(tmp_path, signal="grace = 1.0") as (browser, proxy, _appliance):
        proxy.refusing = True
        proxy.cut()
        await browser.wait(f"{PHASE} === 'reconnecting'")
        await browser.resize(*DESKTOP)
        await browser.screenshot(ARTIFACTS / "chromium-reconnecting.png")
        await trio.sleep(1.5)  # the grace is over
        proxy.refusing = False
        await browser.wait(f"{PHASE} === 'idle'")
        assert (await happened(browser))[-1] == ["ended", "unknown-session"]
        assert "while the connection to it was lost" in await browser.text("error")
        assert await browser.evaluate(
            "edgeCall.stream.getTracks().every((track) => track.readyState === 'ended')"
        )


async def test_a_server_that_shuts_down_says_so(tmp_path: Path) -> None:
    async with calling(tmp_path, transceivers=3, supervisor="drain_limit = 0.0") as (
        browser,
        _,
        appliance,
    ):
        appliance.terminate()
        await browser.wait(f"{PHASE} === 'idle'")
        told = await happened(browser)
        assert [each[0] for each in told[-2:]] == ["going-away", "ended"]
        assert "is shutting down" in await browser.text("error")


async def test_a_drain_with_a_deadline_is_told_and_taken_back(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, _, appliance):
        await browser.evaluate(
            "edgeCall.addEventListener('going-away',"
            " ({ detail }) => { window.deadline = detail.deadlineMs; })"
        )
        with Connection([appliance.control_socket]) as operator:
            operator.ask(OrderDrain(deadline=100.0))
            await wait_happened(browser, "going-away", "")
            assert 80_000 < await browser.evaluate("deadline") <= 100_000
            operator.ask(OrderUndrain())
            await wait_happened(browser, "staying", "")
        assert (await hear(browser, 50))["packetsLost"] == 0
        assert await happened(browser) == [
            ["microphone", None],
            ["media", None],
            ["going-away", None],
            ["staying", None],
        ]


async def test_only_its_own_microphone_is_closed(tmp_path: Path) -> None:
    async with calling(tmp_path) as (browser, _, _appliance):
        await browser.click("connect")
        await browser.wait(f"{PHASE} === 'idle'")
        ended = "getTracks().every((track) => track.readyState === 'ended')"
        assert await browser.evaluate(f"edgeCall.stream.{ended}")
        await browser.evaluate(
            "navigator.mediaDevices.getUserMedia({ audio: true }).then(async (stream) => {"
            " const { EdgeCall } = await import('/edge-client.js');"
            " window.mine = stream;"
            " const url = location.href.replace('http', 'ws') + 'v1/session';"
            " window.edgeCall = new EdgeCall({ url, stream });"
            " await edgeCall.connect();"
            " edgeCall.hangUp();"
            " })"
        )
        assert (await happened(browser))[-1] == ["ended", "hang-up"]
        assert not await browser.evaluate(f"mine.{ended}")


async def test_a_page_without_a_token_is_asked_for_one(tmp_path: Path) -> None:
    page = load_page(ROOT / "web")
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    origin = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    policy = make_policy()
    async with trio.open_nursery() as nursery, running_browser(tmp_path) as browser:
        nursery.start_soon(
            serve_signaling, listeners, SETTINGS, FakeHost(policy), page, policy, None
        )
        await browser.open(f"http://{origin}/")
        assert not await browser.evaluate("document.getElementById('token').checkVisibility()")
        await browser.click("connect")
        await browser.wait("document.getElementById('token').checkVisibility()")
        sentence = await browser.text("error")
        assert sentence.startswith(f"{origin} asks for a token. A client secret is needed here.")
        assert sentence.endswith("unauthorized")
        await browser.resize(*PHONE)
        await browser.screenshot(ARTIFACTS / "chromium-token.png")

        await browser.evaluate("void (document.getElementById('token').value = 'wrong')")
        await browser.click("connect")
        await browser.wait(
            "document.getElementById('error').innerText.includes('not a signed JWT')"
        )
        nursery.cancel_scope.cancel()
