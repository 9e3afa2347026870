"""Chromium restarts ICE, loses its signaling and resumes, in the middle of a call.

The page's own client is not used: a script has the connection and the WebSocket in its hands.
"""

import itertools
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from tests.support.appliance import Appliance, running_appliance
from tests.support.browser import Browser, running_browser
from tests.support.native_backend import appliance_with_backend, heard, wait_frames

SCRIPT = """
window.edgeTest = {
  states: [],
  async start(url) {
    this.url = url;
    this.connection = new RTCPeerConnection();
    const microphone = await navigator.mediaDevices.getUserMedia({audio: true});
    this.connection.addTrack(microphone.getTracks()[0], microphone);
    this.connection.ontrack = (event) => {
      this.audio = new Audio();
      this.audio.srcObject = event.streams[0];
      this.audio.play();
    };
    this.connection.oniceconnectionstatechange = () =>
      this.states.push(this.connection.iceConnectionState);
    await this.connect();
    const answer = await this.negotiate();
    this.session = answer.session;
    this.secret = answer.secret;
    return answer.session;
  },
  async connect() {
    this.messages = [];
    this.socket = new WebSocket(this.url, "edge.v1");
    this.closed = new Promise((resolve) => {
      this.socket.onclose = (event) => resolve(event.code);
    });
    this.socket.onmessage = (event) => this.messages.push(JSON.parse(event.data));
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onerror = reject;
    });
  },
  async message(...types) {
    for (;;) {
      const at = this.messages.findIndex((one) => types.includes(one.type));
      if (at >= 0) return this.messages.splice(at, 1)[0];
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  },
  async negotiate() {
    await this.connection.setLocalDescription();
    const {sdp} = this.connection.localDescription;
    this.socket.send(JSON.stringify({type: "offer", sdp}));
    const answer = await this.message("answer", "error");
    if (answer.type === "error") throw new Error(answer.message);
    await this.connection.setRemoteDescription({type: "answer", sdp: answer.sdp});
    return answer;
  },
  async restart() {
    this.connection.restartIce();
    return (await this.negotiate()).sdp;
  },
  async resume() {
    await this.connect();
    const {session, secret} = this;
    this.socket.send(JSON.stringify({type: "resume", session, secret}));
    return this.message("resumed", "error");
  },
  async inbound() {
    const report = await this.connection.getStats();
    return [...report.values()].find((one) => one.type === "inbound-rtp");
  },
  async pair() {
    const report = await this.connection.getStats();
    const transport = [...report.values()].find((one) => one.type === "transport");
    return {...report.get(transport.selectedCandidatePairId), dtls: transport.dtlsState};
  },
};
"""


@define
class Proxy:
    """Passes TCP on to the appliance, until it is cut."""

    origin: str
    target: str
    _streams: list[trio.SocketStream] = field(factory=list)

    async def serve(self, client: trio.SocketStream) -> None:
        host, _, port = self.target.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as server:
            self._streams += [client, server]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pass_on, client, server, nursery.cancel_scope)
                nursery.start_soon(_pass_on, server, client, nursery.cancel_scope)

    async def cut(self) -> None:
        """Reset every connection that there is."""
        for stream in self._streams:
            if stream.socket.fileno() >= 0:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await trio.aclose_forcefully(stream)
        self._streams.clear()


async def _pass_on(
    source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


@asynccontextmanager
async def proxy_to(appliance: Appliance) -> AsyncIterator[Proxy]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    proxy = Proxy(f"127.0.0.1:{port}", await appliance.origin())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()


async def start(browser: Browser, origin: str) -> str:
    await browser.open(f"http://{origin}/")
    await browser.command("Runtime.evaluate", expression=SCRIPT)
    return str(await browser.evaluate(f"edgeTest.start('ws://{origin}/v1/session')"))


async def packets(browser: Browser) -> int:
    """Return how many packets of the echo came."""
    return int((await browser.evaluate("edgeTest.inbound()") or {}).get("packetsReceived", 0))


async def hears(browser: Browser, more: int) -> dict[str, Any]:
    """Wait for so many more packets of the echo; return its figures."""
    known = await packets(browser)
    await browser.wait(f"edgeTest.inbound().then((one) => one?.packetsReceived >= {known + more})")
    return dict(await browser.evaluate("edgeTest.inbound()"))


async def test_ice_restarts_in_mid_call_with_no_lost_audio(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, running_browser(tmp_path) as browser:
        session = await start(browser, await appliance.origin())
        first = await hears(browser, 100)
        before = await browser.evaluate("edgeTest.pair()")
        descriptions = [await browser.evaluate("edgeTest.restart()") for _ in range(3)]
        assert len(set(descriptions)) == 3
        last = await hears(browser, 200)
        after = await browser.evaluate("edgeTest.pair()")

        assert last["packetsLost"] == 0
        assert last["ssrc"] == first["ssrc"]
        assert after["dtls"] == "connected"
        assert after["id"] != before["id"], "Chromium is on another pair"
        states = await browser.evaluate("edgeTest.states")
        assert not {"disconnected", "failed"} & set(states), states
        print("states", states, "concealed", last["concealedSamples"] - first["concealedSamples"])

        await browser.evaluate("edgeTest.socket.send(JSON.stringify({type: 'bye'}))")
        line = await appliance.wait_line(f"session {session} ended")
        assert "verdict=ok" in line
        assert "lost=0 " in line
        assert "restarts=0" not in line
        assert "restarts=" in line


async def test_a_hold_and_its_end(tmp_path: Path) -> None:
    """A renegotiation without a restart: the client wants no sound for a while."""
    async with running_appliance(tmp_path) as appliance, running_browser(tmp_path) as browser:
        await start(browser, await appliance.origin())
        await hears(browser, 50)
        transceiver = "edgeTest.connection.getTransceivers()[0]"
        await browser.evaluate(f"{transceiver}.direction = 'sendonly'")
        await browser.evaluate("edgeTest.negotiate().then(() => 1)")
        await trio.sleep(0.2)
        held = await packets(browser)
        await trio.sleep(0.5)
        assert await packets(browser) == held
        await browser.evaluate(f"{transceiver}.direction = 'sendrecv'")
        await browser.evaluate("edgeTest.negotiate().then(() => 1)")
        await hears(browser, 50)


async def test_signaling_is_cut_and_resumed_and_the_backend_hears_on(tmp_path: Path) -> None:
    async with (
        appliance_with_backend(
            tmp_path, 'encoding = "opus"', transceivers=3, signal="grace = 20.0"
        ) as (appliance, backend),
        proxy_to(appliance) as proxy,
        running_browser(tmp_path) as browser,
    ):
        session = await start(browser, proxy.origin)
        await browser.wait("edgeTest.messages.some((one) => one.layer === 'media')")
        visitor = backend.visitors[0]
        await wait_frames(visitor, 50)
        for _ in range(3):
            await proxy.cut()
            assert await browser.evaluate("edgeTest.closed") == 1006
            assert await browser.evaluate("edgeTest.resume()") == {
                "type": "resumed",
                "session": session,
            }
            await browser.evaluate("edgeTest.restart().then(() => 1)")
            await wait_frames(visitor, len(heard(visitor)) + 50)
        layers = await browser.evaluate("edgeTest.messages.map((one) => one.layer)")
        assert set(layers) >= {"ice", "dtls", "media", "backend"}

        await browser.evaluate("edgeTest.socket.send(JSON.stringify({type: 'bye'}))")
        line = await appliance.wait_line(f"session {session} ended")
        assert "verdict=ok" in line
        assert "lost=0 " in line
        assert len(backend.visitors) == 1
        frames = heard(visitor)
        steps = {b.media_time - a.media_time for a, b in itertools.pairwise(frames)}
        assert steps == {20_000}, "20 ms after 20 ms, whatever happened to signaling"
