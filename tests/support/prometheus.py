"""The real Prometheus and its promtool, as ``scripts/unpack-prometheus`` has left them."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import trio
from attrs import frozen

from tests.support.redis_server import free_port

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "alerts.yml"
SCRAPED = 30.0
"""How long it may take until a query has its answer; the first scrape takes 5 s."""

_PROGRAMS = ROOT / "build" / "prometheus"

_CONFIG = """
global:
  scrape_interval: 500ms
  evaluation_interval: 500ms
rule_files: ['{rules}']
scrape_configs:
  - job_name: edge
    static_configs:
      - targets: ['{target}']
"""


def promtool(*arguments: str | Path, text: str = "") -> str:
    """Return what promtool says of ``text`` on its standard input. It must have no complaint."""
    command = [_PROGRAMS / "promtool", *arguments]
    done = subprocess.run(
        command,
        input=text,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@frozen
class Prometheus:
    """A running server that scrapes one appliance."""

    origin: str

    async def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"{self.origin}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"

        def read() -> Any:
            try:
                answer = urllib.request.urlopen(url, timeout=20)
            except HTTPError as exc:
                exc.close()
                raise
            with answer:
                return json.load(answer)["data"]

        return await trio.to_thread.run_sync(read)

    async def query(self, expression: str) -> list[float]:
        """Return the values that an expression has now, of all its series."""
        found = (await self.ask("query", query=expression))["result"]
        return [float(series["value"][1]) for series in found]

    async def wait_query(self, expression: str) -> None:
        """Wait until an expression has a value."""
        with trio.fail_after(SCRAPED):
            while not await self.query(expression):
                await trio.sleep(0.1)


@asynccontextmanager
async def running_prometheus(directory: Path, target: str) -> AsyncIterator[Prometheus]:
    """Run a server with our alert rules that scrapes ``target``; end it at once afterwards."""
    config = directory / "prometheus.yml"
    config.write_text(_CONFIG.format(rules=RULES, target=target))
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(_PROGRAMS / "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    process = await trio.lowlevel.open_process(command)
    try:
        server = Prometheus(f"http://{address}")
        with trio.fail_after(SCRAPED):
            while not await _answers(server):
                assert process.poll() is None, "Prometheus has ended"
                await trio.sleep(0.05)
        yield server
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _answers(server: Prometheus) -> bool:
    try:
        return await server.query("vector(1)") == [1.0]
    except OSError:
        return False
