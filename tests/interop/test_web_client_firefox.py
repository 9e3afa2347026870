"""The client module in Firefox: a call that is resumed and restarted.

As every call of Firefox to its own machine, it takes place in a network namespace.
"""

import json
import sys
from pathlib import Path

import trio

from tests.interop.firefox import Firefox, running_firefox
from tests.interop.test_firefox import ADDRESS, CALL_STATE, CLICK, lone_namespace
from tests.support.appliance import running_appliance
from tests.support.cutting_proxy import cutting_proxy

INBOUND = (
    "edgeCall.connection.getStats().then((report) => [...report.values()]"
    ".find((entry) => entry.type === 'inbound-rtp'))"
)
SERVER_UFRAG = "edgeCall.connection.remoteDescription.sdp.match(/a=ice-ufrag:(\\S+)/)[1]"


async def hear(firefox: Firefox, packets: int) -> int:
    """Wait for so many more packets; return how many were lost."""
    expected = (await firefox.evaluate(INBOUND))["packetsReceived"] + packets
    await firefox.wait(f"{INBOUND}.then((one) => one.packetsReceived >= {expected})")
    return int((await firefox.evaluate(INBOUND))["packetsLost"])


async def call(directory: Path) -> None:
    """Call, lose the WebSocket, restart ICE, hang up. Runs inside the namespace."""
    with trio.fail_after(100):
        async with (
            running_appliance(directory, host=ADDRESS) as appliance,
            cutting_proxy(await appliance.origin()) as proxy,
            running_firefox(directory) as firefox,
        ):
            await firefox.open(f"http://{proxy.origin}/")
            await firefox.evaluate(CLICK)
            await firefox.wait(f"{CALL_STATE} === 'connected'")
            await firefox.wait(f"{INBOUND}.then((one) => one?.packetsReceived > 50)")
            session = await firefox.evaluate("edgeCall.session")
            before = await firefox.evaluate(SERVER_UFRAG)

            connections = proxy.connections
            proxy.cut()
            await firefox.wait(f"{CALL_STATE} === 'reconnecting'")
            await firefox.wait(f"{CALL_STATE} === 'connected'")
            assert proxy.connections > connections
            assert await hear(firefox, 50) == 0

            await firefox.evaluate("edgeCall.restartIce()")
            await firefox.wait(f"{SERVER_UFRAG} !== {json.dumps(before)}")
            assert await hear(firefox, 150) == 0

            await firefox.evaluate(CLICK)
            line = await appliance.wait_line(f"session {session} ended")
            assert "restarts=1" in line, line
            assert "lost=0" in line, line


async def test_firefox_resumes_and_restarts(tmp_path: Path) -> None:
    with lone_namespace() as name:
        inside = ["ip", "netns", "exec", name, sys.executable, "-m", __name__, str(tmp_path)]
        await trio.run_process(inside)


if __name__ == "__main__":
    trio.run(call, Path(sys.argv[1]))
