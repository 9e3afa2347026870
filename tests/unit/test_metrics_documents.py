"""docs/metrics.md, the dashboard and the alert rules speak of metrics that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config
from edge.metrics import backends, media, redis, relays, sessions, trunk, workers
from edge.metrics.collector import encode_metrics
from edge.metrics.figure import Figure, Kind
from tests.support.statuses import status

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "metrics.md").read_text(encoding="utf-8")
RULES = (DOCS / "alerts.yml").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana" / "edge.json").read_text(encoding="utf-8"))

TABLES: dict[str, tuple[Figure[Any], ...]] = {
    "Appliance and workers": (*workers.APPLIANCE, *workers.WORKERS, *workers.PROCESSES),
    "Relays": relays.FIGURES,
    "Between hosts": (*trunk.RELAY, *trunk.TRANSCEIVER),
    "Sessions": (*sessions.ROOM, *sessions.FIGURES),
    "Packets and sound": (*media.FIGURES, *media.SOUND),
    "Backends": backends.FIGURES,
    "Redis": (*redis.FIGURES, *redis.REGISTRATION),
}
FIGURES = {one.sample: one for figures in TABLES.values() for one in figures}
SERIES = {
    name
    for sample, one in FIGURES.items()
    for name in (
        [f"{sample}{suffix}" for suffix in ("_bucket", "_sum", "_count")]
        if one.kind is Kind.HISTOGRAM
        else [sample]
    )
}
LABELS = {"instance", "job", "worker", "le", *(one.label for one in FIGURES.values() if one.label)}

# What alerts.yml may be made of: a small part of YAML, that needs no library to be read.
LINE = re.compile(
    r"""
    \#\ .* | groups: |
    \ \ -\ name:\ [a-z-]+ | \ {4}rules: |
    \ {6}-\ alert:\ (?P<alert>[A-Za-z]+) |
    \ {8}expr:\ '(?P<expr>[^']+)' | \ {8}for:\ [0-9]+m |
    \ {8}labels: | \ {10}severity:\ (critical|warning) |
    \ {8}annotations: | \ {10}summary:\ '(?P<summary>[^']+)'
    """,
    re.VERBOSE,
)


def row(one: Figure[Any]) -> str:
    labels = ", ".join(f"`{each}`" for each in labels_of(one)) or "none"
    return f"| `{one.sample}` | {one.kind.value} | {labels} | {one.help} |"


def labels_of(one: Figure[Any]) -> list[str]:
    names = [] if one in (*workers.APPLIANCE, *redis.REGISTRATION) else ["worker"]
    return [*names, one.label] if one.label else names


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel["panels"] if panel["type"] == "row" else ()


def expressions() -> list[str]:
    """Return all queries of dashboard and rules."""
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return asked + re.findall(r"expr: '(.*)'$", RULES, re.MULTILINE)


@pytest.mark.parametrize("heading", TABLES)
def test_the_document_has_every_metric(heading: str) -> None:
    section = DOCUMENT.partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [row(one) for one in TABLES[heading]]


def test_names_are_prometheus_names() -> None:
    for name, one in FIGURES.items():
        assert re.fullmatch(r"edge(_[a-z]+)+", name)
        assert (name.endswith("_total")) == (one.kind is Kind.COUNTER)
        if one.kind is Kind.HISTOGRAM:
            assert name.endswith(("_seconds", "_ratio"))
        assert one.help.endswith(".")


def test_a_scrape_has_the_labels_that_are_documented() -> None:
    text = encode_metrics(status()).decode()
    for name, one in FIGURES.items():
        samples = re.findall(rf"^{name}(?:_count)?(?:{{(.*)}})? ", text, re.MULTILINE)
        assert samples, name
        for labels in samples:
            assert re.findall(r"(\w+)=", labels) == sorted(labels_of(one))


def test_the_default_address_is_documented() -> None:
    assert f"http://{Config().metrics.listen[0]}/metrics" in DOCUMENT


def test_queries_ask_for_what_there_is() -> None:
    for expression in expressions():
        names = re.findall(r"\bedge_\w+", expression)
        assert names or expression.startswith("up{"), expression
        assert set(names) <= SERIES, expression
        by = re.findall(r"\b(?:by|ignoring) \(([^)]*)\)", expression)
        used = {name.strip() for each in by for name in each.split(",")}
        used |= set(re.findall(r"[{,](\w+)(?:=|!=|=~|!~)\"", expression))
        assert used <= LABELS, expression
        assert expression.count("(") == expression.count(")")


def test_queries_ask_for_words_that_there_are() -> None:
    """Label values of a selector are values of that metric, from the beginning."""
    text = encode_metrics(status()).decode()
    for expression in expressions():
        for name, selector in re.findall(r"\b(edge_\w+){([^}]*)}", expression):
            for label, operator, values in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
                if label in {"instance", "job"}:
                    continue
                words = values.split("|") if "~" in operator else [values]
                for word in words:
                    pattern = rf'^{name}{{.*\b{label}="{re.escape(word)}"'
                    assert re.search(pattern, text, re.MULTILINE), (name, label, word)


def test_rates_are_of_counters_only() -> None:
    for expression in expressions():
        for name in re.findall(r"\b(?:rate|increase)\((edge_\w+)", expression):
            assert name.endswith(("_total", "_bucket", "_sum", "_count")), expression


def test_alert_rules_are_whole() -> None:
    lines = RULES.splitlines()
    for line in lines:
        assert LINE.fullmatch(line), line
    rules = re.split(r"^ {6}- alert: ", RULES, flags=re.MULTILINE)[1:]
    names = [rule.partition("\n")[0] for rule in rules]
    assert len(set(names)) == len(names) > 10
    for rule in rules:
        keys = re.findall(r"^ +(\w+):", rule, re.MULTILINE)
        keys = [key for key in keys if key not in {"for", "name", "rules"}]
        assert keys == ["expr", "labels", "severity", "annotations", "summary"], rule


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    used: set[str] = set()
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            used.update(*(re.findall(r"\bedge_\w+", one["expr"]) for one in panel["targets"]))
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    hidden = set(FIGURES) - shown
    assert hidden == {
        "edge_build_info",  # the list of hosts
        "edge_workers",
        "edge_draining",
        "edge_sessions_detached",
        "edge_sessions_remote",
        "edge_sessions_by_key",
        "edge_relay_forwarded_packets_total",
        "edge_relay_frames_total",
        "edge_relay_first_checks_total",
        "edge_relay_flow_events_total",
        "edge_relay_tcp_accepted_connections_total",
        "edge_relay_tcp_refused_connections_total",
        "edge_relay_tcp_closed_connections_total",
        *(one.sample for one in TABLES["Between hosts"]),  # of hosts in a fleet only
        "edge_redis_connections_total",
        "edge_redis_distrusted_registrations_total",
        "edge_registration_writes_total",
        "edge_registration_conflicts_total",  # an alert's
        "edge_backend_sent_messages_total",
        "edge_backend_received_messages_total",
        "edge_backend_drops_total",
    }
