"""The page in Chromium follows a redirect to the cluster that its client belongs to, and calls."""

from pathlib import Path

from tests.interop.test_web_client import PHASE, hear
from tests.support.browser import running_browser
from tests.support.two_sites import two_sites

TABLE = '[steering]\ndefault_cluster = "nyc"\n'
SESSION = "edgeCall.session"


async def test_the_page_follows_a_redirect(tmp_path: Path) -> None:
    async with (
        two_sites(tmp_path, steering="redirect", relays=False, steering_table=TABLE) as sites,
        running_browser(tmp_path) as browser,
    ):
        await browser.open(f"http://{await sites.frankfurt.origin()}/")
        session = ""
        for _ in range(20):  # until Frankfurt has heard of New York
            await browser.click("connect")
            await browser.wait(f"{PHASE} === 'connected'")
            session = await browser.evaluate(SESSION)
            if session.startswith("2."):
                break
            await browser.click("connect")
            await browser.wait(f"{PHASE} === 'idle'")
        assert session.startswith("2.")
        figures = await hear(browser, 50)
        assert figures["packetsLost"] == 0
        assert not [line for line in sites.frankfurt.lines if f"session {session}" in line]
        await browser.click("connect")
        await browser.wait(f"{PHASE} === 'idle'")
        line = await sites.new_york.wait_line(f"session {session} ended")
        assert "verdict=ok" in line
