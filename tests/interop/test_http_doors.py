"""Stock clients of the HTTP doors against the running appliance: they need no change for it."""

import http.client
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from edge.ice.credentials import Credentials
from tests.support.aiortc_client import TONE_HZ, AiortcClient, aiortc_client
from tests.support.appliance import Appliance, running_appliance
from tests.support.browser import Browser, running_browser
from tests.support.caller import (
    attribute,
    make_offer,
    new_credentials,
    peer_for_answer,
)
from tests.support.udp_call import running_media

CALLS = "/v1/realtime/calls"
SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
PAGE = b"<!doctype html><title>somebody else's page</title>"


async def fetch(
    appliance: Appliance, method: str, path: str, body: str = "", **headers: str
) -> http.client.HTTPResponse:
    """Make one request with Python's own client; the response has been read."""
    origin = await appliance.origin()
    names = {name.replace("_", "-"): value for name, value in headers.items()}

    def run() -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(origin, timeout=10)
        try:
            connection.request(method, path, body.encode(), names)
            response = connection.getresponse()
            response.msg["X-Body"] = response.read().decode()
            return response
        finally:
            connection.close()

    return await trio.to_thread.run_sync(run)


def text(response: http.client.HTTPResponse) -> str:
    return str(response.msg["X-Body"])


async def wait_tone(client: AiortcClient) -> None:
    with trio.fail_after(20):
        while (await client.heard_hz()) != TONE_HZ:
            await trio.sleep(0.1)


async def wait_sessions(appliance: Appliance, number: int) -> None:
    with trio.fail_after(10):
        while sum(one.sessions for one in await appliance.transceivers()) != number:
            await trio.sleep(0.05)


async def test_aiortc_calls_as_openais_documentation_does(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, aiortc_client() as client:
        offer = await client.offer()
        answer = await fetch(
            appliance, "POST", CALLS, offer, Content_Type=SDP, Authorization="Bearer ek_1234"
        )
        assert answer.status == 201
        await client.accept(text(answer))
        await wait_tone(client)
        await wait_sessions(appliance, 1)
        place = answer.headers["Location"]
        assert (await fetch(appliance, "POST", f"{place}/hangup")).status == 200
        await wait_sessions(appliance, 0)
        assert (await fetch(appliance, "POST", f"{place}/hangup")).status == 404


async def test_a_server_calls_for_its_client_with_a_form(tmp_path: Path) -> None:
    """The other way of OpenAI's documentation: the offer goes through the operator's server."""
    async with (
        running_appliance(
            tmp_path, routes={"default": 'kind = "echo"', "parrot": 'kind = "echo"'}
        ) as appliance,
        aiortc_client() as client,
    ):
        offer = await client.offer()
        session = json.dumps({"type": "realtime", "model": "parrot"})
        parts = [
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in (("sdp", offer), ("session", session))
        ]
        kind = "multipart/form-data; boundary=x"
        answer = await fetch(appliance, "POST", CALLS, "".join(parts) + "--x--", Content_Type=kind)
        assert answer.status == 201
        await client.accept(text(answer))
        await wait_tone(client)


async def test_a_whip_client_of_aiortc(tmp_path: Path) -> None:
    async with running_appliance(tmp_path) as appliance, aiortc_client() as client:
        offer = await client.offer()
        answer = await fetch(appliance, "POST", "/v1/whip", offer, Content_Type=SDP)
        assert answer.status == 201
        await client.accept(text(answer))
        await wait_tone(client)
        assert (await fetch(appliance, "DELETE", answer.headers["Location"])).status == 200
        await wait_sessions(appliance, 0)


async def test_a_whip_restart_reaches_the_owner_from_any_worker(tmp_path: Path) -> None:
    async with running_appliance(tmp_path, transceivers=3) as appliance:
        local = new_credentials()
        answer = await fetch(appliance, "POST", "/v1/whip", make_offer(local), Content_Type=SDP)
        place, tag = answer.headers["Location"], answer.headers["ETag"]
        peer = peer_for_answer(text(answer), local)
        async with running_media(peer):
            for _ in range(6):  # the kernel gives each connection to some worker
                echoed = peer.record.echoed
                trickled = f"a=ice-ufrag:{local.ufrag}\r\na=ice-pwd:{local.password}\r\n"
                trickled += "m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=end-of-candidates\r\n"
                patched = await fetch(
                    appliance, "PATCH", place, trickled, Content_Type=FRAGMENT, If_Match=tag
                )
                assert patched.status == 204
                local = new_credentials()
                restart = f"a=ice-ufrag:{local.ufrag}\r\na=ice-pwd:{local.password}\r\n"
                restarted = await fetch(
                    appliance, "PATCH", place, restart, Content_Type=FRAGMENT, If_Match="*"
                )
                assert restarted.status == 200
                assert restarted.headers["ETag"] != tag
                tag = restarted.headers["ETag"]
                fragment = text(restarted)
                remote = Credentials(
                    attribute(fragment, "ice-ufrag"), attribute(fragment, "ice-pwd")
                )
                peer.restart(local, remote, trio.current_time())
                with trio.fail_after(10):
                    while peer.record.echoed < echoed + 50:
                        await trio.sleep(0.02)
            assert peer.record.sent - peer.record.echoed < 6
            assert (await fetch(appliance, "DELETE", place)).status == 200
            await wait_sessions(appliance, 0)
        line = await appliance.wait_line(r"session \S+ ended")
        assert "restarts=6" in line
        secret = place.rpartition(".")[2]
        assert not any(secret in line for line in appliance.lines)


@asynccontextmanager
async def strange_page() -> AsyncIterator[str]:
    """Serve a page of another origin, without any rule of ours."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(4_096)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n"
        await stream.send_all(head.encode() + PAGE)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"http://localhost:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


CALL = """
(async () => {
  const pc = window.pc = new RTCPeerConnection();
  window.heard = new Promise(resolve => { pc.ontrack = event => resolve(event.streams[0]); });
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  pc.addTrack(microphone.getTracks()[0]);
  pc.createDataChannel("oai-events");
  const offer = await pc.createOffer();
  await pc.setLocalDescription(offer);
  const response = await fetch("%s", {
    method: "POST",
    body: offer.sdp,
    headers: { Authorization: "Bearer ek_1234", "Content-Type": "application/sdp" },
  });
  window.place = new URL(response.headers.get("Location"), response.url).href;
  window.tag = response.headers.get("ETag");
  await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
  return response.status;
})()
"""
RESTART = """
(async () => {
  const line = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(.*)$`, "m"))[1].trim();
  await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
  const mine = pc.localDescription.sdp;
  const response = await fetch(place, {
    method: "PATCH",
    body: `a=ice-ufrag:${line(mine, "ice-ufrag")}\\r\\na=ice-pwd:${line(mine, "ice-pwd")}\\r\\n`,
    headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*" },
  });
  const fragment = await response.text();
  const sdp = pc.currentRemoteDescription.sdp
    .replace(/^a=ice-ufrag:.*$/mg, `a=ice-ufrag:${line(fragment, "ice-ufrag")}`)
    .replace(/^a=ice-pwd:.*$/mg, `a=ice-pwd:${line(fragment, "ice-pwd")}`);
  await pc.setRemoteDescription({ type: "answer", sdp });
  return [response.status, response.headers.get("ETag") !== tag];
})()
"""
INBOUND = """
(async () => [...(await pc.getStats()).values()].find(each => each.type === "inbound-rtp"))()
"""
END = """(async () => (await fetch(place, { method: "DELETE" })).status)()"""


async def inbound(browser: Browser) -> Any:
    return await browser.evaluate(INBOUND)


async def wait_heard(browser: Browser, packets: int) -> Any:
    with trio.fail_after(20):
        while (figures := await inbound(browser) or {}).get("packetsReceived", 0) < packets:
            await trio.sleep(0.05)
    return figures


async def test_a_page_of_another_origin_calls_with_fetch(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        running_browser(tmp_path) as browser,
        strange_page() as page,
    ):
        origin = await appliance.origin()
        await browser.open(page)
        assert await browser.evaluate(CALL % f"http://{origin}{CALLS}?model=gpt-realtime") == 201
        await wait_heard(browser, 100)
        assert await browser.evaluate(END) == 200
        await wait_sessions(appliance, 0)


async def test_a_page_restarts_ice_by_whip_without_a_lost_packet(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        running_browser(tmp_path) as browser,
        strange_page() as page,
    ):
        origin = await appliance.origin()
        await browser.open(page)
        assert await browser.evaluate(CALL % f"http://{origin}/v1/whip") == 201
        before = await wait_heard(browser, 100)
        assert await browser.evaluate(RESTART) == [200, True]
        after = await wait_heard(browser, before["packetsReceived"] + 150)
        assert after["packetsLost"] == 0
        assert after["ssrc"] == before["ssrc"]
        assert await browser.evaluate(END) == 200
        line = await appliance.wait_line(r"session \S+ ended")
        assert re.search(r"restarts=1\b", line)
