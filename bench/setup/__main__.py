"""How long a call takes to set up in Chromium on loopback: ``bench/setup/run``.

The page of the real appliance is loaded anew for every call, its button is clicked, and its times
are read; probe.js adds the times that a page cannot take itself. The first call of a browser, which
starts audio and network processes, is told apart from those that follow.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median

import trio

from tests.support.appliance import running_appliance
from tests.support.browser import Browser, running_browser

PROBE = Path(__file__).with_name("probe.js").read_text()
SETTLE_TIME = 0.5
"""How long a loaded page is left alone before the click."""

FIGURES = {
    "offered": "offer made and WebSocket open",
    "answer": "answer received",
    "ice": "ICE connected",
    "dtls": "DTLS connected",
    "echo": "first echoed RTP packet",
    "unmute": "the page's own time of it",
    "server_ice": "server, since the offer: ICE",
    "server_dtls": "server, since the offer: DTLS",
    "server_media": "server, since the offer: media",
    "microphone": "microphone, before all that",
}
"""Milliseconds since the start of the call, unless the text says otherwise."""

Call = dict[str, float]


def main() -> None:
    arguments = _parse()
    with redirect_stdout(sys.stderr):  # the appliance's log lines
        first, later = trio.run(_measure, arguments.browsers, arguments.calls)
    results = {"first": _summary(first), "later": _summary(later)}
    print(f"{'ms: median (least to greatest)':34}{'later calls':>24}{'first of a browser':>24}")
    for name, text in FIGURES.items():
        cells = [
            "{:.1f} ({:.1f}..{:.1f})".format(*results[kind][name]) for kind in ("later", "first")
        ]
        print(f"{text:34}" + "".join(f"{cell:>24}" for cell in cells))
    head = {
        "benchmark": "setup",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "calls": {"first": len(first), "later": len(later)},
    }
    print(json.dumps(head | {"median_min_max_ms": results}))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/setup/run", description="How long a call takes to set up in Chromium."
    )
    parser.add_argument("--browsers", type=int, default=3, help="browsers, one after the other")
    parser.add_argument("--calls", type=int, default=8, help="calls per browser, at least 2")
    return parser.parse_args()


async def _measure(browsers: int, calls: int) -> tuple[list[Call], list[Call]]:
    """Return the first calls of their browsers, and all the others."""
    first: list[Call] = []
    later: list[Call] = []
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        directory = Path(name)
        async with running_appliance(directory) as appliance:
            origin = await appliance.origin()
            for _ in range(browsers):
                async with running_browser(directory) as browser:
                    await browser.command("Page.setBypassCSP", enabled=True)  # probe.js's worker
                    await browser.command("Page.addScriptToEvaluateOnNewDocument", source=PROBE)
                    for number in range(calls):
                        (later if number else first).append(await _call(browser, origin))
    return first, later


async def _call(browser: Browser, origin: str) -> Call:
    await browser.open(f"http://{origin}/")
    await trio.sleep(SETTLE_TIME)
    await browser.click("connect")
    await browser.wait("probe.firstFrame && window.edgeFigures?.timings.audio")
    await browser.wait("edgeFigures.serverTimings.media")
    figures = await browser.evaluate("edgeFigures")
    probe = await browser.evaluate("probe")
    await browser.click("connect")
    page, server = figures["timings"], figures["serverTimings"]
    return {
        "offered": max(page["offer"], page["signaling"]),
        "answer": page["answer"],
        "ice": page["ice"],
        "dtls": page["dtls"],
        "echo": probe["firstFrame"] - probe["start"],
        "unmute": page["audio"],
        "server_ice": server["ice"],
        "server_dtls": server["dtls"],
        "server_media": server["media"],
        "microphone": page["microphone"],
    }


def _summary(calls: list[Call]) -> dict[str, tuple[float, float, float]]:
    """Return median, least and greatest of every figure."""
    values = {name: [call[name] for call in calls] for name in FIGURES}
    return {
        name: (round(median(some), 3), round(min(some), 3), round(max(some), 3))
        for name, some in values.items()
    }


main()
