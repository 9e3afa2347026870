"""Firefox on the page of the running appliance.

Firefox sends no media to loopback addresses, so its call takes place in a network namespace of its
own, on an address that is not one.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.interop.firefox import running_firefox
from tests.support.appliance import running_appliance

ADDRESS = "10.123.7.1"

CLICK = "document.querySelector('#connect').click()"
CALL_STATE = "document.querySelector('#connect').dataset.state"
STATISTICS = "edgeCall.connection.getStats().then((report) => [...report.values()])"


@contextmanager
def lone_namespace() -> Iterator[str]:
    """Make a namespace with one interface that leads nowhere; yields its name."""
    assert os.geteuid() == 0, "network namespaces need root"
    name = f"edge-firefox-{os.getpid()}"
    ip = ["ip", "-n", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run([*ip, "link", "set", "lo", "up"], check=True)
        subprocess.run([*ip, "link", "add", "lone0", "type", "veth", "peer", "lone1"], check=True)
        for interface in ("lone0", "lone1"):
            subprocess.run([*ip, "link", "set", interface, "up"], check=True)
        subprocess.run([*ip, "addr", "add", f"{ADDRESS}/24", "dev", "lone0"], check=True)
        subprocess.run([*ip, "route", "add", "default", "dev", "lone0"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


async def call(directory: Path) -> None:
    """Call an appliance from Firefox and listen to the echo. Runs inside the namespace."""
    with trio.fail_after(90):
        async with (
            running_appliance(directory, host=ADDRESS) as appliance,
            running_firefox(directory) as firefox,
        ):
            await firefox.open(f"http://{await appliance.origin()}/")
            await firefox.evaluate(CLICK)
            await firefox.wait(f"{CALL_STATE} === 'connected'")
            await firefox.wait(
                f"{STATISTICS}.then((all) => all.some((one) => one.type === 'inbound-rtp'"
                " && one.packetsReceived > 100 && one.totalAudioEnergy > 0.001))"
            )
            await firefox.wait(
                f"{STATISTICS}.then((all) => all.some((one) => one.type === 'remote-inbound-rtp'"
                " && one.roundTripTime > 0 && one.packetsLost === 0))"
            )
            print("setup", await firefox.evaluate("edgeFigures"))
            await firefox.evaluate(CLICK)
            while sum(one.sessions for one in await appliance.transceivers()):
                await trio.sleep(0.05)


async def test_firefox_hears_its_echo(tmp_path: Path) -> None:
    with lone_namespace() as name:
        inside = ["ip", "netns", "exec", name, sys.executable, "-m", __name__, str(tmp_path)]
        await trio.run_process(inside)


async def test_firefox_is_told_why_it_does_not_reach_its_own_machine(tmp_path: Path) -> None:
    with trio.fail_after(90):
        async with running_appliance(tmp_path) as appliance, running_firefox(tmp_path) as firefox:
            await firefox.open(f"http://{await appliance.origin()}/")
            await firefox.evaluate(CLICK)
            await firefox.wait(f"window.edgeCall && {CALL_STATE} === 'idle'")
            sentence = await firefox.evaluate("document.querySelector('#error').innerText")
            assert sentence.startswith("Firefox sends no calls to loopback addresses")


if __name__ == "__main__":
    trio.run(call, Path(sys.argv[1]))
