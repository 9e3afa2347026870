"""Browsers on a network that drops UDP: they fall back to TCP by themselves.

Times are printed, not judged: they are the browsers' own. The TCP port is not 443 because Chromium
takes that from public addresses only, and no port below 1024 other than 443 and 80.
"""

import json
import sys
import time
from pathlib import Path

import pytest
import trio

from tests.adversary.hosts import appliance_on, relays_of
from tests.interop.firefox import running_firefox
from tests.interop.test_chromium import (
    CALL_IS_UP,
    ended,
    hears_the_echo,
    statistics,
)
from tests.interop.test_firefox import ADDRESS, CALL_STATE, CLICK, STATISTICS, lone_namespace
from tests.support.appliance import running_appliance
from tests.support.browser import running_browser
from tests.support.netns import network

SELECTED = (
    "edgeCall.connection.getStats().then((report) => {"
    " const all = [...report.values()];"
    " const pair = report.get("
    "   all.find((one) => one.type === 'transport').selectedCandidatePairId);"
    " if (!pair) return null;"
    " const remote = report.get(pair.remoteCandidateId);"
    " return [remote.protocol, remote.port, report.get(pair.localCandidateId).tcpType]; })"
)


@pytest.mark.parametrize("blocked", [True, False])
async def test_chromium_falls_back_to_tcp_when_it_has_to(tmp_path: Path, blocked: bool) -> None:
    with network("client") as (server, client):
        if blocked:
            server.drop_udp()
        async with appliance_on(
            server,
            tmp_path,
            relay=f'tcp_listen = ["{server.address}:3478"]',
            signal='page = "on"',
            more='[access]\nopen = "on"\norigins = ["*"]',
        ) as appliance:
            origin = await appliance.origin()
            secure = f"--unsafely-treat-insecure-origin-as-secure=http://{origin}"
            async with running_browser(tmp_path, secure, host=client) as browser:
                await browser.open(f"http://{origin}/")
                start = time.monotonic()
                await browser.click("connect")
                await browser.wait(CALL_IS_UP)
                elapsed = time.monotonic() - start
                protocol, port, local_type = await browser.wait(SELECTED)
                print(f"connected in {elapsed:.2f} s over {protocol} {port}")
                before = await hears_the_echo(browser)
                after = await hears_the_echo(browser, before["packetsReceived"] + 100)
                assert after["packetsLost"] == 0
                await browser.wait(
                    f"{statistics('remote-inbound-rtp')}.then((one) => one?.roundTripTime)"
                )
                figures = await browser.evaluate(statistics("remote-inbound-rtp"))
                print(f"round trip {1000 * figures['roundTripTime']:.1f} ms, {json.dumps(figures)}")
                [*relays] = relays_of(await appliance.status())
                if blocked:
                    assert (protocol, port, local_type) == ("tcp", 3478, "active")
                    assert sum(relay.tcp.connections for relay in relays) >= 1
                else:
                    assert protocol == "udp"
                await browser.click("connect")
                await ended(appliance)
            with trio.fail_after(10):
                while any(relay.tcp.connections for relay in relays_of(await appliance.status())):
                    await trio.sleep(0.05)


async def call_from_firefox(directory: Path) -> None:
    """Call an appliance whose UDP address leads nowhere. Runs inside the namespace."""
    relay = f'public_addresses = ["{ADDRESS}:9"]\ntcp_listen = ["{ADDRESS}:0"]'
    with trio.fail_after(90):
        async with (
            running_appliance(directory, host=ADDRESS, relay=relay) as appliance,
            running_firefox(directory) as firefox,
        ):
            await firefox.open(f"http://{await appliance.origin()}/")
            start = time.monotonic()
            await firefox.evaluate(CLICK)
            await firefox.wait(f"{CALL_STATE} === 'connected'")
            print(f"connected in {time.monotonic() - start:.2f} s")
            await firefox.wait(
                f"{STATISTICS}.then((all) => all.some((one) => one.type === 'inbound-rtp'"
                " && one.packetsReceived > 100 && one.totalAudioEnergy > 0.001))"
            )
            assert sum(relay.tcp.connections for relay in await appliance.relays()) >= 1
            await firefox.evaluate(CLICK)
            while sum(one.sessions for one in await appliance.transceivers()):
                await trio.sleep(0.05)


async def test_firefox_falls_back_to_tcp(tmp_path: Path) -> None:
    with lone_namespace() as name:
        inside = ["ip", "netns", "exec", name, sys.executable, "-m", __name__, str(tmp_path)]
        await trio.run_process(inside)


if __name__ == "__main__":
    trio.run(call_from_firefox, Path(sys.argv[1]))
