"""docs/grafana/edge.json is a dashboard that Grafana can draw: its layout, units and variables."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana" / "edge.json").read_text(encoding="utf-8"))
ROWS = [each for each in DASHBOARD["panels"] if each["type"] == "row"]
PANELS = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}

BUILT_IN = {"__rate_interval"}
"""What Grafana itself puts in."""
UNITS = {"short", "percentunit", "s", "cps", "pps", "ops", "Bps", "bytes"}
"""Those of Grafana's that are used: another one is a slip, or belongs here."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def named(panel: dict[str, Any]) -> str:
    return f"{panel['id']} {panel['title']}"


def variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{?(\w+)\}?", text))


def test_the_data_source_is_a_choice_and_hosts_are_asked_of_it() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == SOURCE["type"]
    instance = VARIABLES["instance"]
    assert instance["datasource"] == SOURCE
    assert instance["definition"] == instance["query"]["query"]
    assert re.fullmatch(r"label_values\(edge_\w+, instance\)", instance["definition"])


def test_panels_lie_below_their_rows_without_gaps() -> None:
    places = [each["gridPos"] for each in DASHBOARD["panels"]]
    assert places[0]["y"] == 0
    assert all(place["x"] >= 0 and place["w"] > 0 and place["h"] > 0 for place in places)
    for row in ROWS:
        assert row["gridPos"] | {"y": 0} == {"h": 1, "w": 24, "x": 0, "y": 0}
    lines = sorted({(place["y"], place["h"]) for place in places})
    for (upper, height), (lower, _) in pairwise(lines):
        assert lower == upper + height
    for top, _ in lines:
        assert sum(place["w"] for place in places if place["y"] == top) == 24


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_a_panel_is_whole(panel: dict[str, Any]) -> None:
    assert panel["type"] in {"stat", "timeseries"}
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == SOURCE
    targets = panel["targets"]
    assert len({each["refId"] for each in targets}) == len(targets)
    for target in targets:
        assert target["datasource"] == SOURCE
        assert variables(target["expr"]) <= VARIABLES.keys() | BUILT_IN
        selectors = re.findall(r"\bedge_\w+({[^}]*})?", target["expr"])
        assert all('instance=~"$instance"' in each for each in selectors)


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_a_legend_names_what_tells_the_series_apart(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        kept = {
            name.strip()
            for each in re.findall(r"\bby \(([^)]*)\)", target["expr"])
            for name in each.split(",")
        }
        shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
        assert set(shown) == kept - {"le"}
    legends = [each["legendFormat"] for each in panel["targets"]]
    assert len(set(legends)) == len(legends)


def test_shares_and_times_are_in_the_units_of_prometheus() -> None:
    """A ratio is no count, and nothing that is in seconds is shown as anything else."""
    for panel in PANELS:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            quantile_of = re.search(r"histogram_quantile\(.*?(edge_\w+)_bucket", target["expr"])
            if quantile_of is not None:
                assert (unit == "s") == quantile_of[1].endswith("_seconds"), named(panel)
            if re.fullmatch(r"(sum|min) ?\(edge_\w+_ratio{[^}]*}\)", target["expr"]):
                assert unit == "percentunit", named(panel)
