"""Headless Chromium with a microphone that beeps, driven by WebDriver from Trio.

Debian's ``chromium`` and ``chromium-driver`` packages, both by their paths, so that nothing is ever
looked for or downloaded.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import trio
from attrs import frozen
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

from tests.support.netns import Namespace

CHROMIUM = "/usr/bin/chromium"
CHROMEDRIVER = "/usr/bin/chromedriver"
SWITCHES = (
    "--headless",
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have a small one
    "--disable-background-networking",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",  # grants the microphone
    "--use-fake-device-for-media-stream",  # which beeps once a second
)

ResultT = TypeVar("ResultT")


@frozen
class Browser:
    """One Chromium with one tab."""

    driver: Chrome
    host: Namespace | None = None
    """Where it runs, if not here."""

    async def open(self, url: str) -> None:
        """Load a page; returns when it is complete."""
        await self._run(lambda: self.driver.get(url))

    async def click(self, element_id: str) -> None:
        await self._run(lambda: self.driver.find_element(By.ID, element_id).click())

    async def text(self, element_id: str) -> str:
        return await self._run(lambda: self.driver.find_element(By.ID, element_id).text)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        return await self._run(lambda: self.driver.execute_script(f"return ({expression})"))

    async def wait(self, expression: str, timeout: float = 30.0) -> Any:
        """Return the value of a JavaScript expression once it is truthy."""
        value = None
        with trio.move_on_after(timeout):
            while not (value := await self.evaluate(expression)):
                await trio.sleep(0.05)
        assert value, f"not within {timeout} s: {expression}; the page: {await self._page_text()}"
        return value

    async def resize(self, width: int, height: int) -> None:
        """Make the page's area that large, in CSS pixels, as a phone or a desktop has it."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < height,
        )

    async def command(self, method: str, **parameters: Any) -> None:
        """Give a command of the Chrome DevTools Protocol."""
        await self._run(lambda: self.driver.execute_cdp_cmd(method, parameters))

    async def screenshot(self, path: Path) -> None:
        """Write a PNG of what is to be seen."""
        file = trio.Path(path)
        await file.parent.mkdir(parents=True, exist_ok=True)
        await file.write_bytes(await self._run(self.driver.get_screenshot_as_png))

    async def leave_tab(self) -> None:
        """Close the tab as a user does, after opening an empty one to stay alive."""

        def leave() -> None:
            old = self.driver.current_window_handle
            self.driver.switch_to.new_window("tab")
            new = self.driver.current_window_handle
            self.driver.switch_to.window(old)
            self.driver.close()
            self.driver.switch_to.window(new)

        await self._run(leave)

    async def crash_tab(self) -> None:
        """Make the tab's process die on the spot. The browser is of no more use afterwards."""
        with suppress(WebDriverException):
            await self.command("Page.crash")

    async def complaints(self) -> list[str]:
        """Return the errors and warnings on the console since the last call."""
        log: Callable[[str], list[dict[str, Any]]] = self.driver.get_log
        entries = await self._run(lambda: log("browser"))
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]

    async def _page_text(self) -> str:
        return str(await self.evaluate("document.body.innerText")).replace("\n", " | ")

    async def _run(self, command: Callable[[], ResultT]) -> ResultT:
        return await _run_on(self.host, command)


async def _run_on(host: Namespace | None, command: Callable[[], ResultT]) -> ResultT:
    """Run in a thread, with what sockets it opens on that host."""

    def run() -> ResultT:
        with host.entered() if host else nullcontext():
            return command()

    return await trio.to_thread.run_sync(run)


@asynccontextmanager
async def running_browser(
    directory: Path, *switches: str, host: Namespace | None = None
) -> AsyncIterator[Browser]:
    """Start a browser that keeps its files in ``directory``; end it afterwards.

    ``switches`` are more of the command line's, ``host`` is where it runs.
    """
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, *switches):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = ChromeService(
        executable_path=CHROMEDRIVER, env={**os.environ, "TMPDIR": str(directory)}
    )
    driver = await _run_on(host, lambda: Chrome(options=options, service=service))
    try:
        yield Browser(driver, host)
    finally:
        with trio.CancelScope(shield=True):
            await _run_on(host, driver.quit)
