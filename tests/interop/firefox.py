"""Headless Firefox with a humming microphone, driven by WebDriver BiDi without a driver process."""

import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import trio
from attrs import define, field
from trio_websocket import WebSocketConnection, open_websocket_url

FIREFOX = Path("/usr/bin/firefox-esr")
PREFERENCES = {
    "media.navigator.permission.disabled": True,  # grants the microphone
    "media.navigator.streams.fake": True,  # which hums
    "media.autoplay.default": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
}


@define
class Firefox:
    """One Firefox with one tab."""

    _websocket: WebSocketConnection
    _tab: str = ""
    _numbers: "itertools.count[int]" = field(factory=itertools.count)

    async def open(self, url: str) -> None:
        """Load a page; returns when it is complete."""
        await self.command("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        wrapped = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        result = await self.command(
            "script.evaluate",
            expression=wrapped,
            awaitPromise=True,
            target={"context": self._tab},
            userActivation=True,
        )
        assert result["type"] == "success", result
        return json.loads(result["result"]["value"])

    async def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is truthy."""
        while not await self.evaluate(expression):
            await trio.sleep(0.1)

    async def command(self, method: str, **parameters: Any) -> Any:
        """Give a WebDriver BiDi command; return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        await self._websocket.send_message(json.dumps(message))
        while (reply := json.loads(await self._websocket.get_message())).get("id") != number:
            pass  # an event
        assert reply["type"] == "success", reply
        return reply["result"]

    async def start_session(self) -> None:
        await self.command("session.new", capabilities={})
        tree = await self.command("browsingContext.getTree")
        self._tab = tree["contexts"][0]["context"]


@asynccontextmanager
async def running_firefox(directory: Path) -> AsyncIterator[Firefox]:
    """Start a Firefox that keeps its files in ``directory``; end it afterwards."""
    profile = directory / "profile"
    profile.mkdir()
    lines = [
        f"user_pref({json.dumps(key)}, {json.dumps(PREFERENCES[key])});" for key in PREFERENCES
    ]
    profile.joinpath("user.js").write_text("\n".join(lines))
    process = await trio.lowlevel.open_process(
        [FIREFOX, "--headless", "--remote-debugging-port", "0", "--profile", profile],
        env={**os.environ, "HOME": str(directory)},
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        address = await _wait_address(profile / "WebDriverBiDiServer.json")
        async with open_websocket_url(f"ws://{address}/session") as websocket:
            firefox = Firefox(websocket)
            await firefox.start_session()
            yield firefox
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _wait_address(file: Path) -> str:
    """Wait until Firefox has told where it listens."""
    with trio.fail_after(60):
        while True:
            try:
                told = json.loads(await trio.Path(file).read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                await trio.sleep(0.05)
            else:
                return f"{told['ws_host']}:{told['ws_port']}"
