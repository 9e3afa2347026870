"""The real Prometheus before the real appliance: scrapes, the dashboard's queries, the alerts."""

import json
import math
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import trio

from tests.support.appliance import running_appliance
from tests.support.native_backend import example_backend
from tests.support.prometheus import ROOT, SCRAPED, Prometheus, promtool, running_prometheus
from tests.support.redis_server import free_port, redis_server
from tests.support.speech import speech
from tests.support.talker import opus_payloads, said, talking

TIME_LIMIT = 90.0
DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs" / "grafana" / "edge.json").read_text())

UNEVENTFUL = {
    "Ended calls by verdict": 1,
    "Who ended calls": 1,
    "Dropped by relays": 0,
    "Dropped by transceivers": 0,
    "Failures": 0,
    "Failures, commands that wait": 1,
    "Hosts that are registered": 1,
    "Restarts": 0,
}
"""How many of a panel's queries find something where no packet is dropped, nothing fails, and no
host is of a fleet."""
UNKNOWN = {"Round trip to callers", "Round trip of pings"}
"""The talker repeats no sender reports, and pings are 20 s apart."""


async def scrape(address: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            body: bytes = answer.read()
            return body.decode()

    return await trio.to_thread.run_sync(read)


async def unanswered(server: Prometheus) -> list[str]:
    """Return what has no data, or is no number, though it has happened: panels and queries."""
    found = []
    for panel in DASHBOARD["panels"]:
        title, answered = panel["title"], 0
        targets = panel.get("targets", ())
        for target in targets:
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            values = await server.query(expression)
            answered += bool(values)
            if any(map(math.isnan, values)) and title not in UNKNOWN:
                found.append(expression)
        if answered < UNEVENTFUL.get(title, len(targets)):
            found.append(title)
    return found


async def check_rules(server: Prometheus) -> None:
    """All rules can be evaluated, and none has anything to say."""
    groups = (await server.ask("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 20
    for rule in rules:
        assert rule["health"] == "ok", rule
        assert rule["state"] != "firing", rule


async def test_calls_are_on_the_dashboard_and_a_dead_worker_is_an_alert(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    payloads = opus_payloads(speech(2.0, 24_000, 9), 24_000)
    with trio.fail_after(TIME_LIMIT), redis_server(tmp_path / "redis") as redis:
        async with (
            running_prometheus(tmp_path, address) as server,
            example_backend() as url,
            running_appliance(
                tmp_path,
                metrics=f'["{address}"]',
                routes={"default": f'kind = "websocket"\nurl = "{url}"\nrate_hz = 24000'},
                more=f'[redis]\naddresses = ["{redis.host}:{redis.port}"]\n',
            ) as appliance,
        ):
            await server.wait_query("sum(edge_redis_up) == 2 and count(edge_sessions) == 2")
            lost = frozenset({20, 40, 41})
            async with talking(await appliance.origin(), said(payloads, lost=lost)) as call:
                await call.wait_said()
            await server.wait_query('sum(edge_redis_events_total{event="flow-removed"}) >= 1')
            await server.wait_query('sum(edge_sessions_verdicts_total{verdict="ok"}) == 1')
            with trio.move_on_after(SCRAPED):
                while await unanswered(server):
                    await trio.sleep(0.1)
            assert await unanswered(server) == []
            await check_rules(server)
            await server.wait_query("up == 1")
            assert promtool("check", "metrics", text=await scrape(address)) == ""

            victim = (await appliance.workers("transceiver"))[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            await server.wait_query('ALERTS{alertname="EdgeWorkerRestarts",alertstate="firing"}')
